package poll

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	asked, answered, silent, refused, busy, failed prometheus.Counter
}

func newMetrics(r prometheus.Registerer, p *Poller) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_poll_" + name + "_total", Help: help})
	}
	m := &metrics{
		asked:    counter("asked", "Requests for values of the vehicle."),
		answered: counter("answered", "Answers with data, whoever asked."),
		silent:   counter("silent", "Requests that were not answered in time."),
		refused:  counter("refused", "Requests that a control unit refused for good."),
		busy:     counter("busy", "Requests that a control unit put off."),
		failed:   counter("failed", "Requests that could not be sent."),
	}
	if r == nil {
		return m, nil
	}
	parked := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_poll_parked", Help: "1 while the vehicle is taken for parked.",
	}, func() float64 {
		if p.Parked() {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.asked, m.answered, m.silent, m.refused, m.busy, m.failed, parked} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metrics of polling: %w", err)
		}
	}
	return m, nil
}
