package rulebook

import "github.com/prometheus/client_golang/prometheus"

// What became of a notice.
const (
	outcomeTaken   = "taken"
	outcomeKnown   = "known"
	outcomeOlder   = "older"
	outcomeRefused = "refused"
	outcomeUnkept  = "unkept" // the flash took it not
)

type metrics struct {
	notices  *prometheus.CounterVec
	damaged  prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_agent_notices_total", Help: "Notices of policies that came, by what became of them.",
		}, []string{"outcome"}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_agent_notice_damaged_total", Help: "Starts at which the notice on flash could not be used.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_agent_keys_failures_total", Help: "Attempts at fetching the keys of policies that will be repeated.",
		}),
	}
	for _, o := range []string{outcomeTaken, outcomeKnown, outcomeOlder, outcomeRefused, outcomeUnkept} {
		m.notices.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.notices, m.damaged, m.failures} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
