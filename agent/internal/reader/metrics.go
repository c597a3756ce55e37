package reader

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/vehicle"
)

// register exports what is counted here and in the vehicle map's reader.
func (r *Reader) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	count := func(name, help string, value func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "rawstone_" + name + "_total", Help: help}, func() float64 { return float64(value()) })
	}
	all := []prometheus.Collector{
		count("reader_messages_dropped", "Messages of the attestation ECU that found the queue full.", r.dropped.Load),
	}
	if v := r.vehicle; v != nil {
		of := func(name, help string, value func(vehicle.Stats) uint64) {
			all = append(all, count("vehicle_"+name, help, func() uint64 { return value(v.Stats()) }))
		}
		of("answers", "Diagnostic answers with data.", func(s vehicle.Stats) uint64 { return s.Answers })
		of("answers_negative", "Diagnostic answers that refuse.", func(s vehicle.Stats) uint64 { return s.Negative })
		of("answers_malformed", "Diagnostic answers that do not add up.", func(s vehicle.Stats) uint64 { return s.Refused })
		of("transport_faults", "Messages of ISO-TP and J1939 that were given up, and frames that belong to none.", func(s vehicle.Stats) uint64 { return s.Transport })
	}
	for _, c := range all {
		if err := to.Register(c); err != nil {
			return fmt.Errorf("cannot register metrics of the reader: %w", err)
		}
	}
	return nil
}
