package seal

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	snapshots, refused, salts, damaged, resends, failures, withheld prometheus.Counter
	sealed, refusals                                                *prometheus.CounterVec
	proving                                                         prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_seal_" + name + "_total", Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rawstone_seal_" + name + "_total", Help: help}, []string{label})
	}
	m := &metrics{
		snapshots: counter("snapshots", "Snapshots archived."),
		refused:   counter("snapshots_refused", "Messages from the ECU that were refused."),
		salts:     counter("salts_reused", "Snapshots refused because the ECU had used their salt before."),
		damaged:   counter("damaged", "Damaged records passed over."),
		resends:   counter("resend_requests", "Requests to the ECU to repeat snapshots."),
		failures:  counter("failures", "Failed attempts to seal."),
		withheld:  counter("reports_withheld", "Dispatches without a usage report although the driver consented."),
		sealed:    vec("sealed", "Submissions sealed, by kind.", "kind"),
		refusals:  vec("refusals", "Submissions refused by the collector, by reason.", "reason"),
		proving: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rawstone_seal_proving_seconds", Help: "Time to make a claim's proofs.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.snapshots, m.refused, m.salts, m.damaged, m.resends, m.failures, m.withheld, m.sealed, m.refusals, m.proving} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
