// Package metrics is what the sealer counts. It holds numbers of events and durations, and nothing of what was sealed.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the sealer's.
type Metrics struct {
	Snapshots, Refused, Salts, Damaged, Resends, Failures, Withheld, Withdrawn prometheus.Counter
	Sealed, Refusals                                                           *prometheus.CounterVec
	Proving                                                                    prometheus.Histogram
}

// New makes the metrics and registers them with r; nil means with nobody.
func New(r prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_seal_" + name + "_total", Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rawstone_seal_" + name + "_total", Help: help}, []string{label})
	}
	m := &Metrics{
		Snapshots: counter("snapshots", "Snapshots archived."),
		Refused:   counter("snapshots_refused", "Messages from the ECU that were refused."),
		Salts:     counter("salts_reused", "Snapshots refused because the ECU had used their salt before."),
		Damaged:   counter("damaged", "Damaged records passed over."),
		Resends:   counter("resend_requests", "Requests to the ECU to repeat snapshots."),
		Failures:  counter("failures", "Failed attempts to seal."),
		Withheld:  counter("reports_withheld", "Dispatches without a usage report although the driver consented."),
		Withdrawn: counter("withdrawn", "Submissions taken back because the driver turned off what they tell of."),
		Sealed:    vec("sealed", "Submissions sealed, by kind.", "kind"),
		Refusals:  vec("refusals", "Submissions refused by the collector, by reason.", "reason"),
		Proving: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rawstone_seal_proving_seconds", Help: "Time to make a claim's proofs.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.Snapshots, m.Refused, m.Salts, m.Damaged, m.Resends, m.Failures, m.Withheld, m.Withdrawn, m.Sealed, m.Refusals, m.Proving} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
