// Package inbox keeps, among the collector's records, what vehicles have sent and what they were answered: submissions with their
// receipts, the bytes of accepted claims, usage reports, and counts of refusals.
//
// Serial numbers rise in the order in which others get to see the rows: who has read up to one finds what is new behind it. Nothing is
// ever changed but the mark of a receipt that is to be published, and nothing removed but old refusals.
//
// The tables belong to package store's schema, whose transactions embed an Inbox. The package decides nothing about what it keeps.
package inbox

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{
		addSubmission(), submission(), pending(), setPublished(), countRefusal(), refusals(), unearned(), deleteRefusals(),
		charges(), lastCharge(), addReport(), eachReport(), eachUsage(), lastErasure(), addClaim(), claim(), eachClaim(),
	}
}

// An Inbox is what vehicles have sent, within one transaction.
type Inbox struct{ tx *database.Tx }

// In returns the inbox as a transaction sees it.
func In(tx *database.Tx) Inbox { return Inbox{tx} }

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
	// Serial is the order of arrival, known once the transaction of AddSubmission is done; nil when the submission is not kept.
	Serial *int64
}

// AddSubmission keeps a submission of a registered vehicle, its receipt to be published.
func (b Inbox) AddSubmission(ctx context.Context, s *Submission) error {
	var original any
	if s.Original != nil {
		original = s.Original[:]
	}
	accepted := int64(0)
	if s.Accepted {
		accepted = 1
	}
	s.Serial = new(int64)
	return b.tx.Add(ctx, addSubmission(), s.Serial,
		s.ID[:], s.Vehicle, string(s.Kind), accepted, string(s.Reason), int64(s.Km), int64(s.Day), s.Receipt, original)
}

func addSubmission() statement {
	return statement{Name: "add submission", Roles: firewall.Ingest,
		SQL: `INSERT INTO submissions (id, vehicle, kind, accepted, reason, km, day, receipt, original, pending)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) RETURNING serial`,
		Many: `INSERT INTO submissions (id, vehicle, kind, accepted, reason, km, day, receipt, original, pending)
			SELECT a, b, c, d, e, f, g, h, i, 1 FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[],
				$8::bytea[], $9::bytea[]) WITH ORDINALITY AS v (a, b, c, d, e, f, g, h, i, n) ORDER BY n RETURNING serial`}
}

const selectSubmission = `SELECT serial, id, vehicle, kind, accepted, reason, km, day, receipt, original FROM submissions `

func scanSubmission(s *Submission, scan database.Scanner) error {
	var original []byte
	s.Serial = new(int64)
	err := scan(s.Serial, database.Fixed(s.ID[:]), &s.Vehicle, &s.Kind, database.Flag(&s.Accepted), &s.Reason, &s.Km, &s.Day, &s.Receipt, &original)
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
func (b Inbox) Submission(ctx context.Context, id wire.Hash, vehicle string, kind wire.Kind) (Submission, error) {
	return database.One(ctx, b.tx, submission(), scanSubmission, id[:], vehicle, string(kind))
}

// A Key identifies a submission.
type Key struct {
	ID      wire.Hash
	Vehicle string
	Kind    wire.Kind
}

// Submissions returns those of the given submissions that were answered before, in any order.
func (b Inbox) Submissions(ctx context.Context, keys []Key) (out []Submission, err error) {
	lists := make([][]any, len(keys))
	for i, k := range keys {
		lists[i] = []any{k.ID[:], k.Vehicle, string(k.Kind)}
	}
	return database.ListOf(ctx, b.tx, submission(), scanSubmission, lists)
}

func submission() statement {
	return statement{Name: "read submission", Roles: firewall.Ingest | firewall.Audit,
		SQL:  selectSubmission + `WHERE id = $1 AND vehicle = $2 AND kind = $3`,
		Many: selectSubmission + `JOIN unnest($1::bytea[], $2::text[], $3::text[]) AS v (a, b, c) ON id = a AND vehicle = b AND kind = c`}
}

// Pending returns up to limit submissions whose receipts were not published, oldest first, from after a serial on.
func (b Inbox) Pending(ctx context.Context, after int64, limit int) ([]Submission, error) {
	return database.List(ctx, b.tx, pending(), scanSubmission, after, limit)
}

func pending() statement {
	return statement{Name: "read submissions", Roles: firewall.Ingest,
		SQL: selectSubmission + `WHERE pending = 1 AND serial > $1 ORDER BY serial LIMIT $2`}
}

// SetPublished notes that the receipts of these submissions were published. One that is gone by now, an old refusal that was answered
// again and deleted since, has nothing to be noted of.
func (b Inbox) SetPublished(ctx context.Context, serials []int64) error {
	lists := make([][]any, len(serials))
	for i, s := range serials {
		lists[i] = []any{s}
	}
	_, err := b.tx.ExecEach(ctx, setPublished(), lists)
	return err
}

func setPublished() statement {
	return statement{Name: "note receipt", Roles: firewall.Ingest, SQL: `UPDATE submissions SET pending = 0 WHERE serial = $1`,
		Many: `UPDATE submissions SET pending = 0 WHERE serial = ANY($1)`}
}

// CountRefusal counts a refusal, also of a submission that is not kept.
func (b Inbox) CountRefusal(ctx context.Context, kind wire.Kind, reason wire.Reason) error {
	return b.tx.ExecOne(ctx, countRefusal(), string(kind), string(reason))
}

func countRefusal() statement {
	return statement{Name: "count refusal", Roles: firewall.Ingest,
		SQL: `INSERT INTO refusals (kind, reason, n) VALUES ($1, $2, 1) ON CONFLICT (kind, reason) DO UPDATE SET n = refusals.n + 1`}
}

// Refusals counts submissions of one kind that were refused for one reason.
type Refusals struct {
	Kind   wire.Kind
	Reason wire.Reason
	N      int64
}

// Refusals returns the counts, most frequent first.
func (b Inbox) Refusals(ctx context.Context) ([]Refusals, error) {
	return database.List(ctx, b.tx, refusals(),
		func(r *Refusals, scan database.Scanner) error { return scan(&r.Kind, &r.Reason, &r.N) })
}

func refusals() statement {
	return statement{Name: "read refusals", Roles: firewall.Web, SQL: `SELECT kind, reason, n FROM refusals ORDER BY n DESC, kind, reason`}
}

// AddClaim keeps the bytes of an accepted claim, whose SHA-256 is id, once.
func (b Inbox) AddClaim(ctx context.Context, id wire.Hash, vehicle string, body []byte) error {
	return b.tx.ExecOne(ctx, addClaim(), id[:], vehicle, body)
}

func addClaim() statement {
	return statement{Name: "add claim", Roles: firewall.Ingest, SQL: `INSERT INTO claims (id, vehicle, body) VALUES ($1, $2, $3)`,
		Many: `INSERT INTO claims (id, vehicle, body)
			SELECT a, b, c FROM unnest($1::bytea[], $2::text[], $3::bytea[]) WITH ORDINALITY AS v (a, b, c, n) ORDER BY n`}
}

// Claim returns the bytes of an accepted claim of a vehicle, or ErrNotFound. Those of one that earned nothing new are not kept.
func (b Inbox) Claim(ctx context.Context, id wire.Hash, vehicle string) (body []byte, err error) {
	err = b.tx.Get(ctx, claim(), []any{id[:], vehicle}, &body)
	return body, err
}

func claim() statement {
	return statement{Name: "read claim", Roles: firewall.Ingest, SQL: `SELECT body FROM claims WHERE id = $1 AND vehicle = $2`}
}

// EachClaim calls fn with the accepted claims whose serial is above after, in the order in which they were accepted. fn must not use
// the transaction.
func (b Inbox) EachClaim(ctx context.Context, after int64, fn func(serial int64, id wire.Hash, body []byte) error) error {
	return b.tx.Each(ctx, eachClaim(), []any{after}, func(scan database.Scanner) error {
		var serial int64
		var id wire.Hash
		var body []byte
		if err := scan(&serial, database.Fixed(id[:]), &body); err != nil {
			return err
		}
		return fn(serial, id, body)
	})
}

func eachClaim() statement {
	return statement{Name: "read claims", Roles: firewall.Audit, SQL: `SELECT serial, id, body FROM claims WHERE serial > $1 ORDER BY serial`}
}
