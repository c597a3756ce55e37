// Package outbox keeps, among the collector's records, the entries that the ledger is to get: the transaction that decides something puts
// the entry there, and the settler numbers it and appends it to the log.
//
// Numbers are dense and never change; entries get them in the order in which they came, unless NumberEntry puts one first. At most one
// draft waits, under the next number, and NumberEntries refuses to give that number to another. Entries are never removed; one that the
// settler sets aside keeps its row, with the reason, and gets no number.
//
// The tables belong to package store's schema, whose transactions embed a Box. The package knows no more of an entry than its type: what
// a body says, and who cosigns a draft, is its users' business.
package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{
		addEntry(), putEntry(), numberEntries(), numberEntry(), nextNumber(), unnumbered(), waiting(), setAside(), refused(), entries(), rows(), lastEntries(), entriesAfter(), markAppended(),
		addDraft(), draft(), finishDraft(), addFinished(),
	}
}

// A Box is the outbox within one transaction.
type Box struct{ tx *database.Tx }

// In returns the outbox as a transaction sees it.
func In(tx *database.Tx) Box { return Box{tx} }

// A Draft is an entry that waits for cosignatures, with the number that is kept for it.
type Draft struct {
	Number  uint64
	Type    ledger.Type
	Payload []byte
}

// AddEntry puts an entry's body into the outbox and returns the row's identifier, which rises with each entry. The settler gives
// the entry its number in the log.
func (b Box) AddEntry(ctx context.Context, typ ledger.Type, body []byte) (id int64, err error) {
	if err := checkBody(body); err != nil {
		return 0, err
	}
	err = b.tx.Get(ctx, addEntry(), []any{int64(typ), body}, &id)
	return id, err
}

func checkBody(body []byte) error {
	if len(body) > ledger.MaxBodyLen {
		return fmt.Errorf("cannot add ledger entry: body of %d bytes, at most %d allowed", len(body), ledger.MaxBodyLen)
	}
	return nil
}

func addEntry() statement {
	return statement{Name: "add ledger entry", Roles: firewall.Ingest | firewall.Settle | firewall.Admin | firewall.Account,
		SQL: `INSERT INTO outbox (type, body) VALUES ($1, $2) RETURNING id`}
}

// PutEncoded does what AddEncoded does without asking for the row's identifier, and returns the body: because there is one writer at a time
// it is among the outbox's last ones.
func (b Box) PutEncoded(ctx context.Context, typ ledger.Type, body any) (encoded []byte, err error) {
	if encoded, err = codec.Encode(body); err != nil {
		return nil, err
	}
	if err := checkBody(encoded); err != nil {
		return nil, err
	}
	return encoded, b.tx.ExecOne(ctx, putEntry(), int64(typ), encoded)
}

func putEntry() statement {
	return statement{Name: "put ledger entry", Roles: firewall.Ingest, SQL: `INSERT INTO outbox (type, body) VALUES ($1, $2)`,
		Many: `INSERT INTO outbox (type, body)
			SELECT a, b FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS v (a, b, n) ORDER BY n`}
}

// AddEncoded does what AddEntry does with a body that is yet to be encoded, such as a ledger.Credit.
func (b Box) AddEncoded(ctx context.Context, typ ledger.Type, body any) (id int64, err error) {
	encoded, err := codec.Encode(body)
	if err != nil {
		return 0, err
	}
	return b.AddEntry(ctx, typ, encoded)
}

// NumberEntries gives the next numbers, dense and in the order in which the rows came, to at most limit rows that have none. It fails
// while a draft waits, whose number is taken.
func (b Box) NumberEntries(ctx context.Context, limit int) error {
	if _, waits, err := b.Draft(ctx); err != nil {
		return err
	} else if waits {
		return errors.New("cannot number entries: a draft waits")
	}
	_, err := b.tx.Exec(ctx, numberEntries(), limit)
	return err
}

func numberEntries() statement {
	return statement{Name: "number entries", Roles: firewall.Settle,
		SQL: `UPDATE outbox SET number = (SELECT coalesce(max(number), -1) FROM outbox) + f.place
			FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM outbox WHERE number IS NULL AND refused IS NULL ORDER BY id LIMIT $1) f
			WHERE outbox.id = f.id`}
}

// NumberEntry gives one row the next number, before those that came earlier.
func (b Box) NumberEntry(ctx context.Context, id int64) error {
	return b.tx.ExecOne(ctx, numberEntry(), id)
}

func numberEntry() statement {
	return statement{Name: "number entry", Roles: firewall.Settle,
		SQL: `UPDATE outbox SET number = (SELECT coalesce(max(number), -1) + 1 FROM outbox) WHERE id = $1 AND number IS NULL AND refused IS NULL`}
}

// NextNumber returns the first number that no entry has.
func (b Box) NextNumber(ctx context.Context) (n uint64, err error) {
	err = b.tx.Get(ctx, nextNumber(), nil, database.Uint64(&n))
	return n, err
}

func nextNumber() statement {
	return statement{Name: "read next number", Roles: firewall.Settle, SQL: `SELECT coalesce(max(number), -1) + 1 FROM outbox`}
}

// Unnumbered reports whether entries wait for a number; one that was set aside does not.
func (b Box) Unnumbered(ctx context.Context) (has bool, err error) {
	err = b.tx.Get(ctx, unnumbered(), nil, database.Flag(&has))
	return has, err
}

func unnumbered() statement {
	return statement{Name: "look for new entries", Roles: firewall.Settle, SQL: `SELECT EXISTS (SELECT 1 FROM outbox WHERE number IS NULL AND refused IS NULL)`}
}

// A Row is an entry's place in the outbox: its identifier, by which its opening is found, and the entry, whose number means nothing
// while it waits.
type Row struct {
	ID int64
	ledger.Entry
}

// Waiting returns at most limit rows that wait for a number, in the order in which they came. Of a body that is longer than the log takes
// it returns so much that it is seen to be, and a type that is no number of a type as 0: who may add a row may hold nobody up.
func (b Box) Waiting(ctx context.Context, limit int) ([]Row, error) {
	return database.List(ctx, b.tx, waiting(), func(r *Row, scan database.Scanner) error { return scan(&r.ID, &r.Type, &r.Body) }, limit, ledger.MaxBodyLen+1)
}

func waiting() statement {
	return statement{Name: "read waiting entries", Roles: firewall.Settle,
		SQL: `SELECT id, CASE WHEN type BETWEEN 0 AND 255 THEN type ELSE 0 END, substr(body, 1, $2) FROM outbox
			WHERE number IS NULL AND refused IS NULL ORDER BY id LIMIT $1`}
}

// maxReason bounds what is kept of a reason, in bytes.
const maxReason = 500

// SetAside marks a waiting row, for good, as one that gets no number, and says why.
func (b Box) SetAside(ctx context.Context, id int64, reason string) error {
	reason = strings.ToValidUTF8(strings.ReplaceAll(reason[:min(len(reason), maxReason)], "\x00", ""), "")
	return b.tx.ExecOne(ctx, setAside(), reason, id)
}

func setAside() statement {
	return statement{Name: "set entry aside", Roles: firewall.Settle, SQL: `UPDATE outbox SET refused = $1 WHERE id = $2 AND number IS NULL AND refused IS NULL`}
}

// A Refused is a row that was set aside.
type Refused struct {
	ID     int64
	Type   ledger.Type
	Reason string
}

// Refused returns at most limit rows that were set aside, in the order in which they came, beginning after a row.
func (b Box) Refused(ctx context.Context, after int64, limit int) ([]Refused, error) {
	return database.List(ctx, b.tx, refused(), func(r *Refused, scan database.Scanner) error { return scan(&r.ID, &r.Type, &r.Reason) }, after, limit)
}

func refused() statement {
	return statement{Name: "read entries that were set aside", Roles: firewall.Settle,
		SQL: `SELECT id, type, refused FROM outbox WHERE refused IS NOT NULL AND id > $1 ORDER BY id LIMIT $2`}
}

func scanEntry(e *ledger.Entry, scan database.Scanner) error {
	return scan(database.Uint64(&e.Number), &e.Type, &e.Body)
}

// Entries returns at most limit numbered entries from a number on, in order.
func (b Box) Entries(ctx context.Context, from uint64, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, b.tx, entries(), scanEntry, int64(from), limit)
}

func entries() statement {
	return statement{Name: "read entries", Roles: firewall.Settle | firewall.Statements,
		SQL: `SELECT number, type, body FROM outbox WHERE number >= $1 ORDER BY number LIMIT $2`}
}

// Rows returns what Entries does, with the rows' identifiers.
func (b Box) Rows(ctx context.Context, from uint64, limit int) ([]Row, error) {
	return database.List(ctx, b.tx, rows(), func(r *Row, scan database.Scanner) error {
		return scan(&r.ID, database.Uint64(&r.Number), &r.Type, &r.Body)
	}, int64(from), limit)
}

func rows() statement {
	return statement{Name: "read rows of entries", Roles: firewall.Settle,
		SQL: `SELECT id, number, type, body FROM outbox WHERE number >= $1 ORDER BY number LIMIT $2`}
}

// LastEntries returns the last numbered entries of a type, newest first.
func (b Box) LastEntries(ctx context.Context, typ ledger.Type, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, b.tx, lastEntries(), scanEntry, int64(typ), limit)
}

func lastEntries() statement {
	return statement{Name: "read last entries", Roles: firewall.Ingest | firewall.Settle | firewall.Web | firewall.Admin | firewall.Account | firewall.Statements,
		SQL: `SELECT number, type, body FROM outbox WHERE type = $1 AND number IS NOT NULL ORDER BY number DESC LIMIT $2`}
}

// EntriesAfter returns the first entries of a type that are numbered above a number, in order.
func (b Box) EntriesAfter(ctx context.Context, typ ledger.Type, after uint64, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, b.tx, entriesAfter(), scanEntry, int64(typ), int64(after), limit)
}

func entriesAfter() statement {
	return statement{Name: "read entries after one", Roles: firewall.Account | firewall.Ingest,
		SQL: `SELECT number, type, body FROM outbox WHERE type = $1 AND number > $2 ORDER BY number LIMIT $3`}
}

// MarkAppended notes that the log holds all entries below a number.
func (b Box) MarkAppended(ctx context.Context, below uint64) error {
	_, err := b.tx.Exec(ctx, markAppended(), int64(below))
	return err
}

func markAppended() statement {
	return statement{Name: "mark entries as appended", Roles: firewall.Settle,
		SQL: `UPDATE outbox SET appended = 1 WHERE appended = 0 AND number < $1`}
}

// AddDraft keeps a draft; there may be only one, and its number must be the next.
func (b Box) AddDraft(ctx context.Context, d Draft) error {
	return b.tx.ExecOne(ctx, addDraft(), int64(d.Number), int64(d.Type), d.Payload)
}

func addDraft() statement {
	return statement{Name: "add draft", Roles: firewall.Settle,
		SQL: `INSERT INTO draft (id, number, type, payload)
			SELECT 1, $1, $2, $3 WHERE (SELECT coalesce(max(number), -1) + 1 FROM outbox) = $1`}
}

// Draft returns the draft, if one waits.
func (b Box) Draft(ctx context.Context) (d Draft, found bool, err error) {
	err = b.tx.Get(ctx, draft(), nil, database.Uint64(&d.Number), &d.Type, &d.Payload)
	if errors.Is(err, database.ErrNotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}

func draft() statement {
	return statement{Name: "read draft", Roles: firewall.Settle, SQL: `SELECT number, type, payload FROM draft`}
}

// FinishDraft replaces the draft by its entry.
func (b Box) FinishDraft(ctx context.Context, d Draft, body []byte) error {
	if err := b.tx.ExecOne(ctx, finishDraft(), int64(d.Number)); err != nil {
		return err
	}
	return b.tx.ExecOne(ctx, addFinished(), int64(d.Type), body, int64(d.Number))
}

func finishDraft() statement {
	return statement{Name: "finish draft", Roles: firewall.Settle, SQL: `DELETE FROM draft WHERE number = $1`}
}

func addFinished() statement {
	return statement{Name: "add finished draft", Roles: firewall.Settle, SQL: `INSERT INTO outbox (type, body, number) VALUES ($1, $2, $3)`}
}
