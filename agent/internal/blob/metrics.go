package blob

import "github.com/prometheus/client_golang/prometheus"

// The outcomes of a download.
const (
	outcomeStored      = "stored"
	outcomeUnreachable = "unreachable" // no connection, or no trust in the server
	outcomeSlow        = "slow"
	outcomeRefused     = "refused" // an answer other than 200
	outcomeLarge       = "large"
	outcomeTruncated   = "truncated"
	outcomeWrong       = "wrong"  // whole, and of another hash
	outcomeUnkept      = "unkept" // the flash took it not
)

type metrics struct {
	fetches *prometheus.CounterVec
	bytes   prometheus.Counter
	rotten  prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_agent_blob_fetches_total", Help: "Downloads of circuits and keys, by outcome.",
		}, []string{"outcome"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_agent_blob_fetched_bytes_total", Help: "Bytes downloaded of circuits and keys, wrong ones included.",
		}),
		rotten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_agent_blob_rotten_total", Help: "Files of circuits and keys on flash whose bytes were no longer the right ones.",
		}),
	}
	for _, o := range []string{outcomeStored, outcomeUnreachable, outcomeSlow, outcomeRefused, outcomeLarge, outcomeTruncated, outcomeWrong, outcomeUnkept} {
		m.fetches.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.fetches, m.bytes, m.rotten} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
