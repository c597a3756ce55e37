package store

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// old opens a database with the schema that bindings had before they had heads of their own.
func old(t *testing.T, path string, statements []firewall.Statement) *database.DB {
	t.Helper()
	files := make(fstest.MapFS)
	for _, name := range []string{"sqlite/00001_records.sql", "sqlite/00002_settle.sql"} {
		b, err := fs.ReadFile(migrations, "migrations/"+name)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	d, err := database.Open(t.Context(), database.Config{Path: path, Migrations: files, Statements: statements, Role: Admin})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestMigrationKeepsHeads brings records with spans and credits up to date: heads move from the keys to their bindings, and credits get the blinds of
// their entries.
func TestMigrationKeepsHeads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	add := []firewall.Statement{
		{Name: "account", Roles: Admin, SQL: `INSERT INTO accounts (id, secret) VALUES ('A', $1)`},
		{Name: "vehicle", Roles: Admin, SQL: `INSERT INTO vehicles (id, account, device, added_day) VALUES ($1, 'A', $2, 1)`},
		{Name: "key", Roles: Admin, SQL: `INSERT INTO ecu_keys VALUES ($1, $2, $3, 20, 21, $4, $5)`},
		{Name: "entry", Roles: Admin, SQL: `INSERT INTO outbox (id, type, body) VALUES ($1, $2, $3)`},
		{Name: "binding", Roles: Admin, SQL: `INSERT INTO bindings VALUES ($1, $2, $3, 'A', 10, 11, $4, $5)`},
		{Name: "span", Roles: Admin, SQL: `INSERT INTO spans VALUES ($1, 20, 21, $2, 10, 11, $3, $4, $5)`},
		{Name: "credit", Roles: Admin, SQL: `INSERT INTO credits VALUES ($1, 'A', $2, $3, 20, 1, 'mileage', 5, 9, $4, $4, $5)`},
	}
	d := old(t, path, add)
	other := wire.PublicKey{2, 9}
	blind := wire.Hash{5, 6, 7}
	encoded, err := codec.Encode(ledger.Credit{Blind: blind, Km: 5, Effective: 9})
	if err != nil {
		t.Fatal(err)
	}
	credit := [][]byte{encoded, {0}} // the other is none
	err = d.Update(t.Context(), func(tx *database.Tx) error {
		var errs []error
		exec := func(i int, args ...any) { errs = append(errs, tx.ExecOne(t.Context(), add[i], args...)) }
		commitment := func(b byte) []byte { c := wire.Commitment{b}; return c[:] }
		salt := make([]byte, 32)
		exec(0, salt)
		for i, key := range []wire.PublicKey{public, other} {
			id, vehicle := key.ID(), []string{"V1", "V2"}[i]
			exec(1, vehicle, key[:])
			exec(2, id[:], key[:], vehicle, commitment(22), i)
			exec(3, i+1, 4, []byte{0})
			exec(4, i+1, id[:], vehicle, commitment(12), salt)
			exec(5, id[:], commitment(22), commitment(12), vehicle, salt)
			exec(3, i+3, 5, credit[i])
			exec(6, i+1, vehicle, id[:], salt, i+3)
		}
		return errors.Join(errs...)
	})
	if err = errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	first, head := wire.Head{Seq: 10, Day: 11, Commitment: wire.Commitment{12}}, wire.Head{Seq: 20, Day: 21, Commitment: wire.Commitment{22}}
	view(t, (&rig{path: path}).open(t, every), func(tx *Tx) error {
		one, err := tx.KeyBindings(t.Context(), public.ID())
		two, err2 := tx.KeyBindings(t.Context(), other.ID())
		want := []Binding{
			{Entry: 1, ECU: public, Vehicle: "V1", Account: "A", First: first, Head: head},
			{Entry: 2, ECU: other, Vehicle: "V2", Account: "A", First: first, Head: head, Closed: true, Cut: 20, Revoked: true},
		}
		if d := cmp.Diff(want, append(one, two...)); d != "" {
			t.Error(d)
		}
		s, err3 := tx.Span(t.Context(), public.ID(), 20)
		if s.From != first || s.To != head {
			t.Errorf("span %+v", s)
		}
		e, err4 := tx.ECU(t.Context(), other.ID())
		if e.Key != other || !e.Revoked || len(e.Certificate) != 0 {
			t.Errorf("key %+v", e)
		}
		return errors.Join(err, err2, err3, err4)
	})
	read := firewall.Statement{Name: "blinds", Roles: Admin, SQL: `SELECT blind FROM credits ORDER BY outbox_id`}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		t.Fatal(err)
	}
	d, err = database.Open(t.Context(), database.Config{Path: path, Migrations: files, Statements: []firewall.Statement{read}, Role: Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = d.View(t.Context(), func(tx *database.Tx) error {
		list, err := database.List(t.Context(), tx, read, func(h *wire.Hash, scan database.Scanner) error { return scan(database.Fixed(h[:])) })
		if diff := cmp.Diff([]wire.Hash{blind, {}}, list); diff != "" {
			t.Error(diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func keyBindingsOf(t *testing.T, d *DB) (out []Binding) {
	t.Helper()
	view(t, d, func(tx *Tx) (err error) {
		out, err = tx.KeyBindings(t.Context(), public.ID())
		return err
	})
	return out
}

// TestHandover moves a key to another vehicle, back, and revokes it.
func TestHandover(t *testing.T) { engines(t, testHandover) }

func testHandover(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	spare := wire.PublicKey{2, 7}
	update(t, d, func(tx *Tx) error {
		return errors.Join(tx.AddVehicle(t.Context(), Vehicle{ID: "V2", Account: "A", Device: wire.PublicKey{2, 8}}), tx.AddECU(t.Context(), spare, nil))
	})
	at := func(seq uint64) wire.Head { return wire.Head{Seq: seq, Day: uint32(seq)} }
	bind := func(key wire.PublicKey, vehicle string, seq uint64) error {
		return d.Update(t.Context(), func(tx *Tx) error {
			return tx.AddBinding(t.Context(), ledger.BindingOpening{Vehicle: vehicle, Account: "A", ECU: key, Head: at(seq)})
		})
	}
	closing := func(cut uint64, revoked bool) error {
		return d.Update(t.Context(), func(tx *Tx) error {
			return tx.CloseBinding(t.Context(), ledger.HandoverOpening{ECU: public.ID(), Cut: cut, Revoked: revoked})
		})
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if first := keyBindingsOf(t, d)[0]; first.Head != birth || first.HeadSignature != signed {
		t.Errorf("a new binding is credited up to %+v, signed %x", first.Head, first.HeadSignature)
	}
	refused("a key with two open bindings", bind(public, "V2", 20))
	refused("a vehicle with two open bindings", bind(spare, "V1", 20))
	refused("a binding of an unknown key", bind(wire.PublicKey{2, 6}, "V2", 20))
	must(closing(1<<63+5, false))
	refused("a second hand-over", closing(1<<63+6, false))
	must(bind(public, "V2", 1<<63+5))
	update(t, d, func(tx *Tx) error { // the old vehicle's head moves and the new one's stays
		return tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9)})
	})
	refused("a span under a binding of another key", d.Update(t.Context(), func(tx *Tx) error {
		s := span(12)
		s.ECU = spare.ID()
		return tx.AddSpan(t.Context(), s, 1, 9, nil)
	}))
	want := []Binding{
		{Entry: 1, ECU: public, Vehicle: "V1", Account: "A", First: birth, Head: span(9).To, Closed: true, Cut: 1<<63 + 5},
		{Entry: 3, ECU: public, Vehicle: "V2", Account: "A", First: at(1<<63 + 5), Head: at(1<<63 + 5)},
	}
	got := keyBindingsOf(t, d)
	want[1].Entry = got[1].Entry
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	must(closing(1<<63+8, false))
	must(closing(1<<63+7, true)) // what was closed is cut further
	want[0].Cut, want[1].Closed, want[1].Cut = 9, true, 1<<63+7
	want[0].Revoked, want[1].Revoked = true, true
	if d := cmp.Diff(want, keyBindingsOf(t, d)); d != "" {
		t.Error(d)
	}
	refused("a second revocation", closing(1<<63+7, true))
	refused("a binding of a revoked key", bind(public, "V1", 1<<63+9))

	update(t, d, func(tx *Tx) error { return tx.NumberEntries(t.Context(), 20) })
	view(t, d, func(tx *Tx) error {
		o, err := tx.Openings(t.Context())
		if err != nil || len(o.Handovers) != 3 {
			t.Fatalf("openings %+v, %v", o, err)
		}
		for i, want := range []ledger.HandoverOpening{{Cut: 1<<63 + 5}, {Cut: 1<<63 + 8}, {Cut: 1<<63 + 7, Revoked: true}} {
			h := o.Handovers[i]
			want.ECU, want.Salt = public.ID(), h.Opening.Salt
			alone, err := tx.HandoverOpening(t.Context(), h.Number)
			if err != nil || h.Opening != want || alone != want || want.Salt == [32]byte{} {
				t.Errorf("hand-over %d: %+v and %+v (%v), want %+v", i, h.Opening, alone, err, want)
			}
			entries, err := tx.Entries(t.Context(), h.Number, 1)
			if err != nil {
				return err
			}
			logged, err := entries[0].Handover()
			if blind, err2 := want.Blind(); err != nil || err2 != nil || logged.Blind != blind {
				t.Errorf("hand-over %d is not opened: %v, %v", i, err, err2)
			}
		}
		if _, err := tx.HandoverOpening(t.Context(), 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("a hand-over that is not there: %v", err)
		}
		return nil
	})
}

func TestClaims(t *testing.T) { engines(t, testClaims) }

func testClaims(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	update(t, d, func(tx *Tx) error {
		return errors.Join(tx.AddClaim(t.Context(), wire.Hash{2}, "V1", []byte("b")), tx.AddClaim(t.Context(), wire.Hash{1}, "V1", []byte("a")))
	})
	if err := d.Update(t.Context(), func(tx *Tx) error { return tx.AddClaim(t.Context(), wire.Hash{1}, "V1", []byte("a")) }); err == nil {
		t.Error("a claim was kept twice")
	}
	each := func(after int64) (text string, last int64) {
		view(t, d, func(tx *Tx) error {
			return tx.EachClaim(t.Context(), after, func(serial int64, id wire.Hash, body []byte) error {
				if serial <= last {
					t.Errorf("claim %d comes after %d", serial, last)
				}
				text, last = text+string('0'+id[0])+string(body), serial
				return nil
			})
		})
		return text, last
	}
	all, last := each(0)
	if none, _ := each(last); all != "2b1a" || none != "" {
		t.Errorf("claims %q, and %q behind the last", all, none)
	}
}
