// Package metrics is what a settler counts, for Prometheus.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/ledger"
)

// Metrics are a settler's.
type Metrics struct {
	Entries, Blocks, Withheld, Errors, Jumps, Boxes prometheus.Counter
	Recovered                                       prometheus.Counter
	Refused                                         *prometheus.CounterVec // by type
	Supply, Cultivated, Redeemed                    prometheus.Gauge
}

// New returns metrics that count from zero.
func New() *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rawstone", Subsystem: "settle", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "rawstone", Subsystem: "settle", Name: name, Help: help})
	}
	return &Metrics{
		Entries:   counter("entries_total", "Entries appended to the log."),
		Blocks:    counter("blocks_total", "Blocks drawn."),
		Withheld:  counter("withheld_total", "VRF proofs that a validator of the day did not give."),
		Recovered: counter("recovered_total", "Validators back before the next day, as too few were left of a day that was over."),
		Errors:    counter("errors_total", "Steps that failed, a missing quorum included."),
		Jumps:     counter("clock_jumps_total", "Times that the clock ran ahead of the time that had passed and drops waited."),
		Boxes:     counter("boxes_total", "Mine boxes opened."),
		Refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "rawstone", Subsystem: "settle", Name: "refused_total",
			Help: "Entries that the log's rules refuse and that were set aside, by type."}, []string{"type"}),
		Supply:     gauge("supply_milli_stones", "Milli-stones mined so far."),
		Cultivated: gauge("cultivated_milli_stones", "Milli-stones that mine boxes have given so far."),
		Redeemed:   gauge("redeemed_milli_stones", "Milli-stones redeemed so far."),
	}
}

// Register has a registry show them.
func (m *Metrics) Register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range []prometheus.Collector{m.Entries, m.Blocks, m.Withheld, m.Recovered, m.Errors, m.Jumps, m.Boxes, m.Refused, m.Supply, m.Cultivated, m.Redeemed} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// Block shows the sums that a block holds.
func (m *Metrics) Block(b *ledger.Block) {
	m.Supply.Set(float64(b.Supply))
	m.Cultivated.Set(float64(b.Cultivated))
	m.Redeemed.Set(float64(b.Redeemed))
}
