package ingest

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/deadletter"
)

type metrics struct {
	submissions *prometheus.CounterVec
	retries     *prometheus.CounterVec
	receipts    prometheus.Counter
	dead        *prometheus.CounterVec
	unkept      *prometheus.CounterVec
	deleted     prometheus.Counter
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
			Help: "Submissions put back because the database failed, or their own check or decision did.",
		}, []string{"kind"}),
		receipts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_ingest_receipts_total",
			Help: "Receipts handed to the broker, repeated ones included.",
		}),
		dead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_ingest_dead_letters_total",
			Help: "Messages set aside, by reason: longer than allowed, on a subject that no vehicle has, check or decision failed again and again.",
		}, []string{"reason"}),
		unkept: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_ingest_unkept_total",
			Help: "Submissions answered and not kept: of vehicles that are not registered, or have sent too many that earn nothing on that day.",
		}, []string{"kind"}),
		deleted: prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_ingest_refusals_deleted_total", Help: "Old refusals deleted."}),
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
	for _, reason := range deadletter.Reasons() {
		m.dead.WithLabelValues(string(reason))
	}
	return m, errors.Join(r.Register(m.dead), r.Register(m.unkept), r.Register(m.deleted), r.Register(m.submissions), r.Register(m.retries), r.Register(m.receipts), r.Register(m.batch), r.Register(m.check))
}
