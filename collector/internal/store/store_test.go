package store

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func update(t *testing.T, d *DB, fn func(*Tx) error) {
	t.Helper()
	if err := d.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, d *DB, fn func(*Tx) error) {
	t.Helper()
	if err := d.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

var (
	device = wire.PublicKey{2, 1}
	public = wire.PublicKey{2, 2}
	birth  = wire.Head{Seq: 3, Day: 4, Commitment: wire.Commitment{5}}
	signed = wire.Signature{6} // of birth
)

// register adds account A, vehicle V1 and its ECU key.
func register(t *testing.T, d *DB) {
	t.Helper()
	update(t, d, func(tx *Tx) error {
		return errors.Join(
			tx.AddAccount(t.Context(), "A"),
			tx.AddVehicle(t.Context(), Vehicle{ID: "V1", Account: "A", Device: device, AddedDay: 9}),
			tx.AddECU(t.Context(), public, []byte("certificate")),
			tx.AddBinding(t.Context(), ledger.BindingOpening{Vehicle: "V1", Account: "A", ECU: public, Head: birth, Signature: signed}),
		)
	})
}

func span(to uint64) Span {
	return Span{
		ECU: public.ID(), From: birth, To: wire.Head{Seq: to, Day: 8, Commitment: wire.Commitment{9}},
		Vehicle: "V1", Submission: wire.Hash{7},
	}
}

func credit(to uint64) Credit {
	return Credit{
		Account: "A", Vehicle: "V1", ECU: public.ID(), ToSeq: to, Policy: 1, Kind: terms.KindMileage, Km: 40, Effective: 11,
		Submission: wire.Hash{7},
	}
}

// TestOpenedAtOnce has several make and migrate the same new file, as processes do that start together.
func TestOpenedAtOnce(t *testing.T) {
	for range 3 {
		path := filepath.Join(t.TempDir(), "records.db")
		done := make(chan error)
		const at = 6
		for range at {
			go func() {
				d, err := Open(t.Context(), Config{Path: path, Role: Web})
				if err == nil {
					err = d.Close()
				}
				done <- err
			}()
		}
		for range at {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestReopened(t *testing.T) { engines(t, testReopened) }

func testReopened(t *testing.T, r *rig) {
	d := r.open(t, Admin)
	register(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	view(t, r.open(t, Admin), func(tx *Tx) error {
		v, err := tx.Vehicle(t.Context(), "V1")
		if d := cmp.Diff(Vehicle{ID: "V1", Account: "A", Device: device, AddedDay: 9}, v); d != "" {
			t.Error(d)
		}
		return err
	})
}

func TestConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	for name, cfg := range map[string]Config{
		"neither file nor address": {Role: Web}, "no role": {Path: path}, "unknown role": {Path: path, Role: 1 << 7},
		"both": {Path: path, URL: "postgres://localhost/x?sslmode=verify-full", Role: Web},
	} {
		if d, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: opened", name)
			d.Close()
		}
	}
}

func TestSpanMovesTheHeadOnce(t *testing.T) { engines(t, testSpanMovesTheHeadOnce) }

func testSpanMovesTheHeadOnce(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	update(t, d, func(tx *Tx) error { return tx.AddSpan(t.Context(), span(1<<63+1), 1, 3, []Credit{credit(1<<63 + 1)}) })
	for name, s := range map[string]Span{"same end": span(1<<63 + 1), "head elsewhere": span(12)} {
		err := d.Update(t.Context(), func(tx *Tx) error { return tx.AddSpan(t.Context(), s, 1, 3, []Credit{credit(s.To.Seq)}) })
		if err == nil {
			t.Errorf("%s: a span from a head that has moved was added", name)
		}
	}
	view(t, d, func(tx *Tx) error {
		bs, err := tx.KeyBindings(t.Context(), public.ID())
		if err != nil {
			return err
		}
		want := []Binding{{Entry: 1, ECU: public, Vehicle: "V1", Account: "A", First: birth, Head: span(1<<63 + 1).To}}
		if d := cmp.Diff(want, bs); d != "" {
			t.Error(d)
		}
		s, err := tx.Span(t.Context(), public.ID(), 1<<63+1)
		if s != span(1<<63+1) {
			t.Errorf("span %+v", s)
		}
		return err
	})
}

func TestCreditsAreUniqueByKeyEndAndKind(t *testing.T) {
	engines(t, testCreditsAreUniqueByKeyEndAndKind)
}

func testCreditsAreUniqueByKeyEndAndKind(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	err := d.Update(t.Context(), func(tx *Tx) error { return tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9), credit(9)}) })
	if err == nil {
		t.Fatal("two credits of one kind for one span were added")
	}
	view(t, d, func(tx *Tx) error {
		if s, err := tx.Summary(t.Context()); err != nil || s.Credits != 0 {
			t.Errorf("summary %+v, %v", s, err)
		}
		if _, err := tx.Span(t.Context(), public.ID(), 9); !errors.Is(err, ErrNotFound) {
			t.Errorf("a failed transaction left a span: %v", err)
		}
		return nil
	})
}

// TestOpeningsOpenTheOutbox checks that each blinded entry in the outbox is opened by what Openings returns.
func TestOpeningsOpenTheOutbox(t *testing.T) { engines(t, testOpeningsOpenTheOutbox) }

func testOpeningsOpenTheOutbox(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	safe := credit(9)
	safe.Kind, safe.Policy, safe.Km = terms.KindSafe, 2, 0
	update(t, d, func(tx *Tx) error { return tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9), safe}) })
	view(t, d, func(tx *Tx) error {
		o, err := tx.Openings(t.Context())
		if len(o.Accounts) != 1 || len(o.Bindings) != 0 || len(o.Credits) != 0 {
			t.Errorf("openings of entries without a number: %+v", o)
		}
		return err
	})
	bodies := make(map[uint64][]byte)
	var o Openings
	update(t, d, func(tx *Tx) error {
		if err := tx.NumberEntries(t.Context(), 3); err != nil {
			return err
		}
		entries, err := tx.Entries(t.Context(), 0, 9)
		if err != nil {
			return err
		}
		for _, e := range entries {
			bodies[e.Number] = e.Body
		}
		o, err = tx.Openings(t.Context())
		return err
	})
	if len(bodies) != 3 || len(o.Bindings) != 1 || len(o.Credits) != 2 || o.Accounts[0].Secret == [32]byte{} {
		t.Fatalf("%d entries, openings %+v", len(bodies), o)
	}
	view(t, d, func(tx *Tx) error {
		b, err := tx.BindingOpening(t.Context(), o.Bindings[0].Number)
		c, err2 := tx.CreditOpening(t.Context(), o.Credits[1].Number)
		secret, err3 := tx.AccountSecret(t.Context(), "A")
		if b != o.Bindings[0].Opening || c != o.Credits[1].Opening || secret != o.Accounts[0].Secret {
			t.Error("an opening read by its number is another than in the list")
		}
		_, none := tx.CreditOpening(t.Context(), o.Bindings[0].Number)
		_, none2 := tx.BindingOpening(t.Context(), o.Credits[1].Number)
		_, none3 := tx.AccountSecret(t.Context(), "B")
		for _, err := range []error{none, none2, none3} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("an opening that is not there: %v", err)
			}
		}
		return errors.Join(err, err2, err3)
	})
	b := o.Bindings[0]
	blind, err := b.Opening.Blind()
	if err != nil {
		t.Fatal(err)
	}
	e := ledger.Entry{Number: b.Number, Type: ledger.TypeBinding, Body: bodies[b.Number]}
	if got, err := e.Binding(); err != nil || got.Blind != blind {
		t.Errorf("binding %+v (%v) is not opened", got, err)
	}
	if b.Opening.Vehicle != "V1" || b.Opening.Head != birth || b.Opening.Signature != signed || b.Opening.ECU != public || b.Opening.Salt == [32]byte{} {
		t.Errorf("opening %+v", b.Opening)
	}
	for i, want := range []ledger.Credit{{Km: 40, Effective: 11}, {Km: 0, Effective: 11}} {
		c := o.Credits[i]
		if want.Blind, err = c.Opening.Blind(); err != nil {
			t.Fatal(err)
		}
		e := ledger.Entry{Number: c.Number, Type: ledger.TypeCredit, Body: bodies[c.Number]}
		if got, err := e.Credit(); err != nil || got != want {
			t.Errorf("credit %+v (%v), want %+v", got, err, want)
		}
	}
	if o.Credits[0].Opening.Salt == o.Credits[1].Opening.Salt {
		t.Error("two credits share a salt")
	}
}

func TestSubmissions(t *testing.T) { engines(t, testSubmissions) }

func testSubmissions(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	original := wire.Hash{1}
	one := Submission{ID: wire.Hash{1}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Km: 40, Day: 10, Receipt: []byte("r1")}
	two := Submission{ID: wire.Hash{2}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Day: 10, Receipt: []byte("r2"), Original: &original}
	three := Submission{ID: wire.Hash{1}, Vehicle: "V1", Kind: wire.KindReport, Reason: wire.ReasonMalformed, Day: 11, Receipt: []byte("r3")}
	update(t, d, func(tx *Tx) error {
		return errors.Join(tx.AddSubmission(t.Context(), &one), tx.AddSubmission(t.Context(), &two), tx.AddSubmission(t.Context(), &three))
	})
	if err := d.Update(t.Context(), func(tx *Tx) error { s := one; return tx.AddSubmission(t.Context(), &s) }); err == nil {
		t.Error("the same submission was added twice")
	}
	pending := func(after int64, limit int) (out []Submission) {
		view(t, d, func(tx *Tx) (err error) {
			out, err = tx.Pending(t.Context(), after, limit)
			return err
		})
		return out
	}
	if d := cmp.Diff([]Submission{one, two, three}, pending(0, 10)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Submission{two}, pending(*one.Serial, 1)); d != "" {
		t.Error(d)
	}
	update(t, d, func(tx *Tx) error {
		return tx.SetPublished(t.Context(), []int64{*one.Serial, *three.Serial, *one.Serial, 999_999})
	})
	if d := cmp.Diff([]Submission{two}, pending(0, 10)); d != "" {
		t.Error(d)
	}
	view(t, d, func(tx *Tx) error {
		got, err := tx.Submission(t.Context(), wire.Hash{1}, "V1", wire.KindReport)
		if d := cmp.Diff(three, got); d != "" {
			t.Error(d)
		}
		if _, err := tx.Submission(t.Context(), wire.Hash{1}, "V2", wire.KindClaim); !errors.Is(err, ErrNotFound) {
			t.Errorf("another vehicle's submission: %v", err)
		}
		return err
	})
}

func TestSummaryAndRefusals(t *testing.T) { engines(t, testSummaryAndRefusals) }

func testSummaryAndRefusals(t *testing.T, r *rig) {
	d := r.open(t, every)
	register(t, d)
	seen := time.Unix(1_700_000_000, 0).UTC()
	update(t, d, func(tx *Tx) error {
		return errors.Join(
			tx.AddSpan(t.Context(), span(9), 1, 3, []Credit{credit(9)}),
			tx.AddSubmission(t.Context(), &Submission{ID: wire.Hash{7}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Receipt: []byte{1}}),
			tx.AddSubmission(t.Context(), &Submission{ID: wire.Hash{8}, Vehicle: "V1", Kind: wire.KindClaim, Reason: wire.ReasonGap, Receipt: []byte{1}}),
			tx.SetSeen(t.Context(), "V1", seen),
			tx.CountRefusal(t.Context(), wire.KindClaim, wire.ReasonGap),
			tx.CountRefusal(t.Context(), wire.KindReport, wire.ReasonEpoch),
			tx.CountRefusal(t.Context(), wire.KindReport, wire.ReasonEpoch),
		)
	})
	view(t, d, func(tx *Tx) error {
		s, err := tx.Summary(t.Context())
		want := Summary{Vehicles: 1, Seen: 1, LastSeen: seen, Accounts: 1, ClaimsAccepted: 1, Credits: 1, KmProven: 40}
		if d := cmp.Diff(want, s); d != "" {
			t.Error(d)
		}
		r, err2 := tx.Refusals(t.Context())
		if d := cmp.Diff([]Refusals{{Kind: wire.KindReport, Reason: wire.ReasonEpoch, N: 2}, {Kind: wire.KindClaim, Reason: wire.ReasonGap, N: 1}}, r); d != "" {
			t.Error(d)
		}
		c, err3 := tx.SpanCredits(t.Context(), public.ID(), 9)
		if len(c) != 1 || c[0].Km != 40 || c[0].Account != "A" {
			t.Errorf("credits %+v", c)
		}
		vs, err4 := tx.Vehicles(t.Context())
		if len(vs) != 1 || !vs[0].LastSeen.Equal(seen) {
			t.Errorf("vehicles %+v", vs)
		}
		return errors.Join(err, err2, err3, err4)
	})
}

func TestForeignKeysHold(t *testing.T) { engines(t, testForeignKeysHold) }

func testForeignKeysHold(t *testing.T, r *rig) {
	d := r.open(t, every)
	err := d.Update(t.Context(), func(tx *Tx) error {
		return tx.AddVehicle(t.Context(), Vehicle{ID: "V1", Account: "nobody", Device: device})
	})
	if err == nil {
		t.Error("a vehicle of an account that is not there was added")
	}
}
