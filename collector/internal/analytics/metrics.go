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

type metrics struct{ reports *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{reports: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rawstone_analytics_reports_total", Help: "Usage reports read for estimates, by outcome.",
	}, []string{"outcome"})}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.reports); err != nil {
		return nil, fmt.Errorf("cannot register metric: %w", err)
	}
	return m, nil
}

func (m *metrics) count(c counts) {
	for why, n := range c {
		m.reports.WithLabelValues(string(why)).Add(float64(n))
	}
}
