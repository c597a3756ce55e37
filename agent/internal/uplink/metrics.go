package uplink

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sessions, failures, notices, newsless prometheus.Counter
	sent, receipts, ignored               *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_uplink_" + name + "_total", Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rawstone_uplink_" + name + "_total", Help: help}, []string{label})
	}
	m := &metrics{
		sessions: counter("sessions", "Connections made to the broker."),
		failures: counter("failures", "Sessions that failed."),
		notices:  counter("notices", "Notices of the program's rules that were handed over."),
		newsless: counter("news_failures", "Sessions in which news was due and did not come, or was not believed."),
		sent:     vec("sent", "Submissions published, repetitions included, by kind.", "kind"),
		receipts: vec("receipts", "Receipts acted upon, by outcome.", "outcome"),
		ignored:  vec("ignored", "Messages ignored: forged, foreign, unknown (for nothing in flight), oversized, overflow.", "reason"),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.sessions, m.failures, m.notices, m.newsless, m.sent, m.receipts, m.ignored} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
