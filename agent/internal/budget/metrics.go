package budget

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	charges prometheus.Counter
	refused *prometheus.CounterVec
}

// newMetrics registers the ledger's metrics with r, or with nothing where r is nil.
func newMetrics(r prometheus.Registerer, l *Ledger) (*metrics, error) {
	m := &metrics{
		charges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_budget_charges_total", Help: "Releases charged to the privacy budget.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_budget_refused_total", Help: "Releases refused by the privacy budget, by reason.",
		}, []string{"reason"}),
	}
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_budget_left_nano_mu2",
		Help: "Privacy budget left in the window that ends with the last charge, in 1e-9 of squared Gaussian-privacy mu.",
	}, func() float64 { return float64(l.Summary(0).Left) })
	rolled := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_budget_rolled_back", Help: "1 where the privacy budget's ledger was found to be an older copy.",
	}, func() float64 {
		if errors.Is(l.Err(), ErrRolledBack) {
			return 1
		}
		return 0
	})
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.charges, m.refused, left, rolled} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metric: %w", err)
		}
	}
	return m, nil
}

// count counts one outcome of Charge.
func (m *metrics) count(err error) {
	switch {
	case err == nil:
		m.charges.Inc()
	case errors.Is(err, ErrCharged):
		m.refused.WithLabelValues("charged").Inc()
	case errors.Is(err, ErrPast):
		m.refused.WithLabelValues("past").Inc()
	case errors.Is(err, ErrExhausted):
		m.refused.WithLabelValues("exhausted").Inc()
	case errors.Is(err, ErrRolledBack):
		m.refused.WithLabelValues("rolled_back").Inc()
	default:
		m.refused.WithLabelValues("error").Inc()
	}
}
