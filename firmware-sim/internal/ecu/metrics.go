package ecu

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	signed, delivered, undelivered, requests, collapsed, rebased prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rawstone", Subsystem: "sim_ecu", Name: name, Help: help})
	}
	m := metrics{
		signed:      counter("snapshots_signed_total", "Snapshots that the ECU signed."),
		delivered:   counter("snapshots_delivered_total", "Transfers of a snapshot that the agent took."),
		undelivered: counter("snapshots_undelivered_total", "Transfers of a snapshot that nobody took."),
		requests:    counter("requests_total", "Requests for snapshots."),
		collapsed:   counter("requests_collapsed_total", "Requests that an answer on its way covered."),
		rebased:     counter("odometer_rebased_total", "Falls and jumps of the odometer signal that were not counted."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Counter{m.signed, m.delivered, m.undelivered, m.requests, m.collapsed, m.rebased} {
		if err := r.Register(c); err != nil {
			return metrics{}, fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	return m, nil
}
