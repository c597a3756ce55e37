package analytics

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome is what became of a report; the values are metric labels.
type outcome string

const (
	accepted    outcome = "accepted"
	badFamilies outcome = "families"
	badLength   outcome = "length"
	badDay      outcome = "future"
	oldDay      outcome = "old"
	badRange    outcome = "range"
)

type counts map[outcome]int

type metrics struct {
	reports  *prometheus.CounterVec
	rebuilds prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{reports: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rawstone_analytics_reports_total", Help: "Usage reports read for estimates, by outcome.",
	}, []string{"outcome"}), rebuilds: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rawstone_analytics_rebuilds_total", Help: "Times that what was pooled of a charter was of no use and its reports were read again.",
	})}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.reports, m.rebuilds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metric: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(c counts) {
	for why, n := range c {
		m.reports.WithLabelValues(string(why)).Add(float64(n))
	}
}
