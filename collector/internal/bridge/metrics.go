package bridge

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a message from the broker, the values of the metric's label.
const (
	outcomeQueued   = "queued"
	outcomeTwice    = "redelivered"
	outcomeTopic    = "topic"
	outcomeLarge    = "too_large"
	outcomeRetained = "retained"
	outcomeVehicle  = "unknown_vehicle"
)

// Outcomes of a receipt.
const (
	receiptSent    = "sent"
	receiptDropped = "dropped"
)

type metrics struct {
	connected prometheus.Gauge
	inFlight  prometheus.Gauge
	failures  prometheus.Counter
	retries   prometheus.Counter
	messages  *prometheus.CounterVec
	receipts  *prometheus.CounterVec
	notices   prometheus.Counter
	unnoticed prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rawstone_bridge_connected", Help: "1 while the bridge to the external MQTT broker is connected and subscribed.",
		}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rawstone_bridge_in_flight", Help: "Messages of the external broker that are not acknowledged to it yet.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bridge_failures_total", Help: "Sessions with the external broker that failed to begin or broke.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bridge_retries_total", Help: "Attempts to hand a message over that failed and were made again, as when a queue is full.",
		}),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_bridge_messages_total",
			Help: "Messages of the external broker acknowledged to it, by what became of them: queued, redelivered and queued before, or refused " +
				"for their topic, as too large, as retained, or because their vehicle is not registered, not enrolled or revoked.",
		}, []string{"outcome"}),
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_bridge_receipts_total", Help: "Receipts sent to the external broker, or dropped because it was not connected.",
		}, []string{"outcome"}),
		notices: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bridge_notices_total", Help: "Notices of policies that the external broker holds: published and read back.",
		}),
		unnoticed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bridge_notice_failures_total", Help: "Attempts to have the external broker hold a notice that failed.",
		}),
	}
	for _, o := range []string{outcomeQueued, outcomeTwice, outcomeTopic, outcomeLarge, outcomeRetained, outcomeVehicle} {
		m.messages.WithLabelValues(o)
	}
	for _, o := range []string{receiptSent, receiptDropped} {
		m.receipts.WithLabelValues(o)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.inFlight, m.failures, m.retries, m.messages, m.receipts, m.notices, m.unnoticed} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
