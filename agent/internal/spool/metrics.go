package spool

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	corrupt, dropped, refused prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Spool) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		corrupt: counter("rawstone_spool_corrupt_total", "Damaged spool records passed over."),
		dropped: counter("rawstone_spool_dropped_reports_total", "Usage reports dropped to make room."),
		refused: counter("rawstone_spool_full_total", "Submissions refused because the spool was full."),
	}
	if r == nil {
		return m, nil
	}
	items := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_spool_items", Help: "Submissions waiting for a receipt.",
	}, func() float64 { n, _ := s.Depth(); return float64(n) })
	size := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_spool_bytes", Help: "Size of the spool's records.",
	}, func() float64 { _, n := s.Depth(); return float64(n) })
	for _, c := range []prometheus.Collector{m.corrupt, m.dropped, m.refused, items, size} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
