package erasure

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

// Kept is what the records hold of a person beside what package history reads: the rows that Erase destroys.
type Kept struct {
	Secret [32]byte
	// Milli are the settled milli-stones that were drawn for the account, and Crystals those of boxes that are not open left out.
	Milli, Crystals uint64
	Vehicles        []Vehicle
	Bindings        []Binding
	Handovers       []Handover
	Submissions     []Submission
	Claims          []Claim
	Reports         []Report
	Answers         []Answer
}

// A Vehicle is registered for the account. Days are program days, times in seconds since 1970, 0 for never.
type Vehicle struct {
	ID               string
	Device           []byte // nil before it enrolled
	Model            string
	Added            uint32
	Seen, Certified  int64
	Revoked, Waiting bool // Waiting for its enrolment: it has a token
}

// A Binding is one of the account's. Number is negative while the ledger does not have it.
type Binding struct {
	Number          int64
	ECU             wire.PublicKey
	Vehicle         string
	First, Head     wire.Head
	FirstSignature  wire.Signature
	HeadSignature   wire.Signature
	Closed, Revoked bool
	Cut             uint64
	Salt            [32]byte
}

// A Handover ended one of the account's bindings.
type Handover struct {
	Number  int64
	ECU     wire.KeyID
	Cut     uint64
	Revoked bool
	Salt    [32]byte
}

// A Submission is what one of its vehicles sent, and the receipt.
type Submission struct {
	ID       wire.Hash
	Vehicle  string
	Kind     string
	Accepted bool
	Reason   string
	Km, Day  uint32
	Receipt  []byte
}

// A Claim is an accepted one, as it came.
type Claim struct {
	ID   wire.Hash
	Body []byte
}

// A Report is a noised usage vector: wire.Report.Vector as received.
type Report struct {
	Vehicle  string
	Epoch    uint32
	Families wire.Family
	Vector   []byte
	Charter  wire.Hash
}

// An Answer is what a client was answered about the account.
type Answer struct {
	Day  uint32
	Body []byte
}

// Kept returns what is kept of an account, or database.ErrNotFound.
func (b Book) Kept(ctx context.Context, account string) (k Kept, err error) {
	if err := b.tx.Get(ctx, keptAccount(), []any{account}, database.Fixed(k.Secret[:]), database.Uint64(&k.Milli), database.Uint64(&k.Crystals)); err != nil {
		return k, err
	}
	if k.Vehicles, err = database.List(ctx, b.tx, keptVehicles(), scanVehicle, account); err != nil {
		return k, err
	}
	if k.Bindings, err = database.List(ctx, b.tx, keptBindings(), scanBinding, account); err != nil {
		return k, err
	}
	if k.Handovers, err = database.List(ctx, b.tx, keptHandovers(), scanHandover, account); err != nil {
		return k, err
	}
	if k.Submissions, err = database.List(ctx, b.tx, keptSubmissions(), scanSubmission, account); err != nil {
		return k, err
	}
	if k.Claims, err = database.List(ctx, b.tx, keptClaims(), scanClaim, account); err != nil {
		return k, err
	}
	if k.Reports, err = database.List(ctx, b.tx, keptReports(), scanReport, account); err != nil {
		return k, err
	}
	k.Answers, err = database.List(ctx, b.tx, keptAnswers(), scanAnswer, account)
	return k, err
}

func kept() []firewall.Statement {
	return []firewall.Statement{keptAccount(), keptVehicles(), keptBindings(), keptHandovers(), keptSubmissions(), keptClaims(), keptReports(), keptAnswers()}
}

func keptAccount() statement {
	return statement{Name: "read what is kept of account", Roles: firewall.Person,
		SQL: `SELECT a.secret, coalesce((SELECT b.milli FROM balances b WHERE b.account = a.id), 0), coalesce((SELECT c.amount FROM crystals c WHERE c.account = a.id), 0)
			FROM accounts a WHERE a.id = $1`}
}

func scanVehicle(v *Vehicle, scan database.Scanner) error {
	return scan(&v.ID, &v.Device, &v.Model, &v.Added, &v.Seen, &v.Certified, database.Flag(&v.Revoked), database.Flag(&v.Waiting))
}

func keptVehicles() statement {
	return statement{Name: "read what is kept of vehicles", Roles: firewall.Person,
		SQL: `SELECT id, device, model, added_day, last_seen_s, certificate_until_s, revoked, CASE WHEN token_expires_s = 0 THEN 0 ELSE 1 END
			FROM vehicles WHERE account = $1 ORDER BY id`}
}

func scanBinding(b *Binding, scan database.Scanner) error {
	return scan(&b.Number, database.Fixed(b.ECU[:]), &b.Vehicle, database.Uint64(&b.First.Seq), &b.First.Day, database.Fixed(b.First.Commitment[:]), database.Fixed(b.FirstSignature[:]),
		database.Uint64(&b.Head.Seq), &b.Head.Day, database.Fixed(b.Head.Commitment[:]), database.Fixed(b.HeadSignature[:]),
		database.Flag(&b.Closed), database.Flag(&b.Revoked), database.Uint64(&b.Cut), database.Fixed(b.Salt[:]))
}

func keptBindings() statement {
	return statement{Name: "read what is kept of bindings", Roles: firewall.Person,
		SQL: `SELECT coalesce(o.number, -1), k.public, b.vehicle, b.first_seq, b.first_day, b.first_commitment, b.first_signature,
				b.head_seq, b.head_day, b.head_commitment, b.head_signature, b.closed, k.revoked, b.cut, b.salt
			FROM bindings b JOIN outbox o ON o.id = b.outbox_id JOIN ecu_keys k ON k.id = b.ecu WHERE b.account = $1 ORDER BY b.outbox_id`}
}

func scanHandover(h *Handover, scan database.Scanner) error {
	return scan(&h.Number, database.Fixed(h.ECU[:]), database.Uint64(&h.Cut), database.Flag(&h.Revoked), database.Fixed(h.Salt[:]))
}

func keptHandovers() statement {
	return statement{Name: "read what is kept of hand-overs", Roles: firewall.Person,
		SQL: `SELECT coalesce(o.number, -1), h.ecu, h.cut, h.revoked, h.salt FROM handovers h JOIN outbox o ON o.id = h.outbox_id
			WHERE h.ecu IN (SELECT ecu FROM bindings WHERE account = $1)
				AND (SELECT b.account FROM bindings b WHERE b.ecu = h.ecu AND b.outbox_id < h.outbox_id ORDER BY b.outbox_id DESC LIMIT 1) = $1 ORDER BY h.outbox_id`}
}

func scanSubmission(s *Submission, scan database.Scanner) error {
	return scan(database.Fixed(s.ID[:]), &s.Vehicle, &s.Kind, database.Flag(&s.Accepted), &s.Reason, &s.Km, &s.Day, &s.Receipt)
}

// keptSubmissions tells whose a vehicle's are as the migration does.
func keptSubmissions() statement {
	return statement{Name: "read what is kept of submissions", Roles: firewall.Person,
		SQL: `SELECT s.id, s.vehicle, s.kind, s.accepted, s.reason, s.km, s.day, s.receipt FROM submissions s WHERE
			s.id IN (SELECT submission FROM credits WHERE account = $1)
			OR s.vehicle IN (SELECT vehicle FROM bindings WHERE account = $1)
				AND NOT EXISTS (SELECT 1 FROM credits c WHERE c.submission = s.id AND c.vehicle = s.vehicle
					AND c.account IN (SELECT n.account FROM bindings n WHERE n.vehicle = s.vehicle))
				AND coalesce((SELECT b.account FROM bindings b WHERE b.vehicle = s.vehicle AND b.first_day <= s.day ORDER BY b.outbox_id DESC LIMIT 1),
					(SELECT b.account FROM bindings b WHERE b.vehicle = s.vehicle ORDER BY b.outbox_id LIMIT 1)) = $1
			ORDER BY s.serial`}
}

func scanClaim(c *Claim, scan database.Scanner) error { return scan(database.Fixed(c.ID[:]), &c.Body) }

func keptClaims() statement {
	return statement{Name: "read what is kept of claims", Roles: firewall.Person,
		SQL: `SELECT id, body FROM claims WHERE id IN (SELECT submission FROM credits WHERE account = $1) ORDER BY serial`}
}

func scanReport(r *Report, scan database.Scanner) error {
	return scan(&r.Vehicle, &r.Epoch, &r.Families, &r.Vector, database.Fixed(r.Charter[:]))
}

func keptReports() statement {
	return statement{Name: "read what is kept of reports", Roles: firewall.Person,
		SQL: `SELECT r.vehicle, r.epoch, r.families, r.vector, r.charter FROM reports r WHERE r.vehicle IN (SELECT vehicle FROM bindings WHERE account = $1)
				AND coalesce((SELECT b.account FROM bindings b WHERE b.vehicle = r.vehicle AND b.first_day <= r.epoch ORDER BY b.outbox_id DESC LIMIT 1),
					(SELECT b.account FROM bindings b WHERE b.vehicle = r.vehicle ORDER BY b.outbox_id LIMIT 1)) = $1
			ORDER BY r.vehicle, r.epoch`}
}

func scanAnswer(a *Answer, scan database.Scanner) error { return scan(&a.Day, &a.Body) }

func keptAnswers() statement {
	return statement{Name: "read what is kept of answers", Roles: firewall.Person,
		SQL:      `SELECT created_day, body FROM idempotency WHERE instr(body, CAST('"' || $1 || '"' AS BLOB)) > 0 ORDER BY created_day, client, key`,
		Postgres: `SELECT created_day, body FROM idempotency WHERE position(convert_to('"' || $1 || '"', 'UTF8') IN body) > 0 ORDER BY created_day, client, key`}
}
