package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	submissions *prometheus.CounterVec
	retries     *prometheus.CounterVec
	receipts    prometheus.Counter
	batch       *prometheus.HistogramVec
	check       *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		submissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_ingest_submissions_total",
			Help: "Submissions decided, by kind, outcome (accepted, refused, repeated) and reason of refusal.",
		}, []string{"kind", "outcome", "reason"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_ingest_retries_total",
			Help: "Submissions put back because the database failed.",
		}, []string{"kind"}),
		receipts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_ingest_receipts_total",
			Help: "Receipts handed to the broker, repeated ones included.",
		}),
		batch: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rawstone_ingest_batch_submissions",
			Help:    "Submissions in a batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 9), // to MaxBatch
		}, []string{"kind"}),
		check: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "rawstone_ingest_check_seconds",
			Help:    "Time to check the submissions of one batch: decoding, signatures and proofs.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // to 4 s
		}, []string{"kind"}),
	}
	return m, errors.Join(r.Register(m.submissions), r.Register(m.retries), r.Register(m.receipts), r.Register(m.batch), r.Register(m.check))
}
