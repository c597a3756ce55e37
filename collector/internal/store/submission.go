package store

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// A Submission is a claim or report and the answer to it. Its bytes are not kept.
type Submission struct {
	// ID is the SHA-256 of its bytes.
	ID      wire.Hash
	Vehicle string
	// Kind is wire.KindClaim or wire.KindReport.
	Kind     wire.Kind
	Accepted bool
	// Reason says why it was refused; empty when accepted.
	Reason wire.Reason
	// Km is the sum of what it earned in kilometres; 0 when it repeats another's span.
	Km uint32
	// Day is the program day on which it was decided.
	Day uint32
	// Receipt is the signed answer, or nil where nobody can be answered.
	Receipt []byte
	// Original names the submission that was credited for the same span, when that was another one.
	Original *wire.Hash
	// Serial is the order of arrival, given by AddSubmission; 0 when the submission is not kept.
	Serial int64
}

// AddSubmission keeps a submission of a registered vehicle, its receipt to be published.
func (t *Tx) AddSubmission(ctx context.Context, s *Submission) error {
	var original any
	if s.Original != nil {
		original = s.Original[:]
	}
	return t.tx.Get(ctx, "add submission",
		`INSERT INTO submissions (id, vehicle, kind, accepted, reason, km, day, receipt, original, pending)
		 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) RETURNING serial`,
		[]any{s.ID[:], s.Vehicle, string(s.Kind), flag(s.Accepted), string(s.Reason), int64(s.Km), int64(s.Day), s.Receipt, original},
		&s.Serial)
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

const selectSubmission = `SELECT serial, id, vehicle, kind, accepted, reason, km, day, receipt, original FROM submissions `

func scanSubmission(s *Submission, scan database.Scanner) error {
	var original []byte
	err := scan(&s.Serial, database.Fixed(s.ID[:]), &s.Vehicle, &s.Kind, &s.Accepted, &s.Reason, &s.Km, &s.Day, &s.Receipt, &original)
	if err != nil {
		return err
	}
	if original != nil {
		h := wire.Hash(original) // 32 bytes by the table's check
		s.Original = &h
	}
	return nil
}

// Submission returns what was answered to the same bytes, of the same vehicle, before, or ErrNotFound.
func (t *Tx) Submission(ctx context.Context, id wire.Hash, vehicle string, kind wire.Kind) (Submission, error) {
	return database.One(ctx, t.tx, "read submission", scanSubmission,
		selectSubmission+`WHERE id = $1 AND vehicle = $2 AND kind = $3`, id[:], vehicle, string(kind))
}

// Pending returns up to limit submissions whose receipts were not published, oldest first, from after a serial on.
func (t *Tx) Pending(ctx context.Context, after int64, limit int) ([]Submission, error) {
	return database.List(ctx, t.tx, "read submissions", scanSubmission,
		selectSubmission+`WHERE pending = 1 AND serial > $1 ORDER BY serial LIMIT $2`, after, limit)
}

// SetPublished notes that the receipts of these submissions were published.
func (t *Tx) SetPublished(ctx context.Context, serials []int64) error {
	for _, s := range serials {
		if err := t.tx.ExecOne(ctx, "note receipt", `UPDATE submissions SET pending = 0 WHERE serial = $1`, s); err != nil {
			return err
		}
	}
	return nil
}

// CountRefusal counts a refusal, also of a submission that is not kept.
func (t *Tx) CountRefusal(ctx context.Context, kind wire.Kind, reason wire.Reason) error {
	return t.tx.ExecOne(ctx, "count refusal",
		`INSERT INTO refusals (kind, reason, n) VALUES ($1, $2, 1) ON CONFLICT (kind, reason) DO UPDATE SET n = refusals.n + 1`,
		string(kind), string(reason))
}

// A Report is one vehicle's noised usage vector for one epoch.
type Report struct {
	// Serial is given by AddReport's order and rises.
	Serial  int64
	Vehicle string
	// Epoch is the program day of the dispatch.
	Epoch    uint32
	Families wire.Family
	// Vector is wire.Report.Vector as received.
	Vector     []byte
	Charter    wire.Hash
	Submission wire.Hash
}

// HasReport reports whether a vehicle has reported for an epoch.
func (t *Tx) HasReport(ctx context.Context, vehicle string, epoch uint32) (has bool, err error) {
	err = t.tx.Get(ctx, "read report", `SELECT count(*) FROM reports WHERE vehicle = $1 AND epoch = $2`, []any{vehicle, int64(epoch)}, &has)
	return has, err
}

// AddReport keeps a report; a second one of the same vehicle and epoch fails.
func (t *Tx) AddReport(ctx context.Context, r Report) error {
	return t.tx.ExecOne(ctx, "add report",
		`INSERT INTO reports (vehicle, epoch, families, vector, charter, submission) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.Vehicle, int64(r.Epoch), int64(r.Families), r.Vector, r.Charter[:], r.Submission[:])
}

// EachReport calls fn with the reports made under a charter whose serial is above after, by ascending serial.
func (t *Tx) EachReport(ctx context.Context, charter wire.Hash, after int64, fn func(Report) error) error {
	return t.tx.Each(ctx, "read reports",
		`SELECT serial, vehicle, epoch, families, vector, submission FROM reports WHERE charter = $1 AND serial > $2 ORDER BY serial`,
		[]any{charter[:], after}, func(scan database.Scanner) error {
			r := Report{Charter: charter}
			if err := scan(&r.Serial, &r.Vehicle, &r.Epoch, &r.Families, &r.Vector, database.Fixed(r.Submission[:])); err != nil {
				return err
			}
			return fn(r)
		})
}
