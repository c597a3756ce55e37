package certificate

import "github.com/prometheus/client_golang/prometheus"

// What became of a request for a certificate.
const (
	outcomeTaken   = "taken"
	outcomeRefused = "refused"
	outcomeFailed  = "failed"
)

type metrics struct {
	requests *prometheus.CounterVec
	damaged  prometheus.Counter
	end      prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_agent_certificate_requests_total", Help: "Requests for a client certificate, by outcome.",
		}, []string{"outcome"}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_agent_certificate_damaged_total", Help: "Starts at which the client certificate on flash could not be used.",
		}),
		end: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rawstone_agent_certificate_end_seconds", Help: "When the client certificate ends, in Unix seconds; 0 for none.",
		}),
	}
	for _, o := range []string{outcomeTaken, outcomeRefused, outcomeFailed} {
		m.requests.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.damaged, m.end} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
