package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const today = 100

func testProgram() wire.Hash { return wire.ID([]byte("program")) }

func testTime() time.Time { return time.Unix(today*86400, 0) }

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

// A rig is a registry, its records and the manufacturer whom it trusts.
type rig struct {
	*Registry
	t  *testing.T
	db *store.DB
	ca string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r := &rig{t: t, db: db, ca: filepath.Join(dir, "ca")}
	if err := ca.Init(r.ca, testTime()); err != nil {
		t.Fatal(err)
	}
	pool, err := ca.Pool(filepath.Join(r.ca, "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	clock := terms.Clock{Timing: terms.Timing{DayS: 86400}, Now: testTime}
	if r.Registry, err = New(Config{DB: db, Program: testProgram(), Clock: clock, ECUCA: pool, TokenLife: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return r
}

// An ecu is an attestation ECU with its certificate.
type ecu struct {
	t           *testing.T
	key         *ecdsa.PrivateKey
	pub         wire.PublicKey
	certificate []byte
}

func (r *rig) ecu() *ecu {
	r.t.Helper()
	e := &ecu{t: r.t}
	e.key, e.pub = newKey(r.t)
	id := e.identity(0)
	var err error
	if e.certificate, err = ca.IssueECU(r.ca, &id, testTime()); err != nil {
		r.t.Fatal(err)
	}
	return e
}

func (e *ecu) sign(program wire.Hash, seq uint64, day uint32) attest.Identity {
	e.t.Helper()
	s, err := attest.Sign(e.key, program, seq, day, wire.Commitment{byte(seq)})
	if err != nil {
		e.t.Fatal(err)
	}
	return attest.Identity{Key: e.pub, Program: program, Snapshot: s}
}

// identity is the ECU's at a snapshot.
func (e *ecu) identity(seq uint64) attest.Identity { return e.sign(testProgram(), seq, today) }

func (e *ecu) at(seq uint64) ECU { return ECU{e.identity(seq), e.certificate} }

func (e *ecu) final(seq uint64) *attest.Identity { id := e.identity(seq); return &id }

// vehicle is one with a new ECU at snapshot 3.
func (r *rig) vehicle(id string) Vehicle { return r.fitted(id, r.ecu()) }

func (r *rig) fitted(id string, e *ecu) Vehicle {
	return Vehicle{ID: id, Identity: e.identity(3), Certificate: e.certificate}
}

func (r *rig) add(v Vehicle) string {
	r.t.Helper()
	account, _, err := r.Add(r.t.Context(), v)
	if err != nil {
		r.t.Fatal(err)
	}
	return account
}

// bindings returns an ECU's bindings without the rows that they are kept in and without the signatures of their heads, which it verifies.
func (r *rig) bindings(key wire.PublicKey) (out []store.Binding) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) (err error) {
		out, err = tx.KeyBindings(r.t.Context(), key.ID())
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for i := range out {
		r.signed(key, out[i].Head, out[i].HeadSignature)
		out[i].Entry, out[i].HeadSignature = 0, wire.Signature{}
	}
	return out
}

// signed checks an ECU's signature of a head.
func (r *rig) signed(key wire.PublicKey, head wire.Head, s wire.Signature) {
	r.t.Helper()
	public, err := key.Key()
	if err == nil {
		err = attest.Verify(public, testProgram(), wire.Snapshot{Seq: head.Seq, Day: head.Day, Commitment: head.Commitment, Signature: s})
	}
	if err != nil {
		r.t.Errorf("head %d: %v", head.Seq, err)
	}
}

// openedHeads checks that the opening of each binding in the ledger brings its ECU's signature of the head, and counts them.
func (r *rig) openedHeads() (n int) {
	r.t.Helper()
	r.logged()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
		o, err := tx.Openings(r.t.Context())
		for _, b := range o.Bindings {
			r.signed(b.Opening.ECU, b.Opening.Head, b.Opening.Signature)
		}
		n = len(o.Bindings)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// refused checks a refusal and that it changed nothing.
func (r *rig) refused(want string, do func() error) {
	r.t.Helper()
	state := func() (n uint64, keys []Key) {
		err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
			s, err := tx.Summary(r.t.Context())
			n = uint64(s.Vehicles*1000 + s.Accounts)
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
		if keys, err = r.Keys(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		return n, keys
	}
	n, keys := state()
	if err := do(); err == nil || !strings.Contains(err.Error(), want) {
		r.t.Errorf("got %v, want %q in it", err, want)
	}
	n2, keys2 := state()
	if d := cmp.Diff(keys, keys2); d != "" || n != n2 {
		r.t.Errorf("refusal %q left something behind: %s", want, d)
	}
}

func TestAddBindsAndLogsTheFirstHead(t *testing.T) {
	r := newRig(t)
	v := r.vehicle("V1")
	account := r.add(v)
	got, err := r.Get(t.Context(), "V1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(store.Vehicle{ID: "V1", Account: account, AddedDay: today}, got); d != "" || account == "" {
		t.Error(d)
	}
	first := v.Identity.Snapshot.Head()
	want := []store.Binding{{ECU: v.Identity.Key, Vehicle: "V1", Account: account, First: first, Head: first}}
	if d := cmp.Diff(want, r.bindings(v.Identity.Key)); d != "" {
		t.Error(d)
	}
	err = r.db.View(t.Context(), func(tx *store.Tx) error {
		e, err := tx.ECU(t.Context(), v.Identity.Key.ID())
		if d := cmp.Diff(store.ECU{Key: v.Identity.Key, Certificate: v.Certificate}, e); d != "" {
			t.Error(d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAccounts(t *testing.T) {
	r := newRig(t)
	own := r.add(r.vehicle("V1"))
	if other := r.add(r.vehicle("V2")); other == own {
		t.Fatalf("second vehicle: account %s, want one of its own", other)
	}
	second := r.vehicle("V3")
	second.Account = own
	if got := r.add(second); got != own {
		t.Errorf("got account %s, want %s", got, own)
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 3 || all[0].ID != "V1" || all[2].Account != own {
		t.Errorf("list %+v (%v)", all, err)
	}
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	for name, edit := range map[string]func(*Config){
		"database":  func(c *Config) { c.DB = nil },
		"program":   func(c *Config) { c.Program = wire.Hash{} },
		"clock":     func(c *Config) { c.Clock.Now = nil },
		"authority": func(c *Config) { c.ECUCA = nil },
		"life":      func(c *Config) { c.TokenLife = 0 },
	} {
		cfg := r.cfg
		edit(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	r := newRig(t)
	first := r.vehicle("V1")
	r.add(first)
	alien, early := r.ecu(), r.ecu()
	other := t.TempDir()
	if err := ca.Init(filepath.Join(other, "ca"), testTime()); err != nil {
		t.Fatal(err)
	}
	foreign, err := ca.IssueECU(filepath.Join(other, "ca"), alien.final(3), testTime())
	if err != nil {
		t.Fatal(err)
	}
	for want, edit := range map[string]func(*Vehicle){
		"it is already registered":                             func(v *Vehicle) { v.ID = "V1" },
		"its ECU key is already bound to vehicle V1":           func(v *Vehicle) { v.Identity, v.Certificate = first.Identity, first.Certificate },
		"vehicle id must be":                                   func(v *Vehicle) { v.ID = "v2" },
		"its ECU belongs to another program":                   func(v *Vehicle) { v.Identity = alien.sign(wire.Hash{1}, 3, today) },
		"its ECU says day 102 and today is day 100":            func(v *Vehicle) { v.Identity = early.sign(testProgram(), 3, today+2) },
		"there is no account nobody: `collector account add`":  func(v *Vehicle) { v.Account = "nobody" },
		"account name must be":                                 func(v *Vehicle) { v.Account = "a b" },
		"ECU key: cannot use public key":                       func(v *Vehicle) { v.Identity.Key = wire.PublicKey{} },
		"ECU identity: cannot verify snapshot":                 func(v *Vehicle) { v.Identity.Snapshot.Seq++ },
		"ECU identity: cannot verify snapshot: cannot verify ": func(v *Vehicle) { v.Identity.Snapshot.Signature[0] ^= 1 },
		"cannot use ECU certificate: there is none":            func(v *Vehicle) { v.Certificate = nil },
		"not of the ECU's":                                     func(v *Vehicle) { v.Certificate = first.Certificate },
		"unknown authority":                                    func(v *Vehicle) { v.Identity, v.Certificate = alien.identity(3), foreign },
	} {
		v := r.vehicle("V2")
		edit(&v)
		r.refused(want, func() error { _, _, err := r.Add(t.Context(), v); return err })
	}
	// A device key that another vehicle signs its reports with cannot be an ECU's.
	e := r.ecu()
	r.add(r.vehicle("V3"))
	r.enrol("V3", e.pub)
	r.refused("its ECU key is the device key of vehicle V3", func() error { _, _, err := r.Add(t.Context(), r.fitted("V4", e)); return err })
	if _, err := r.Get(t.Context(), "V2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// TestMovedECU takes an ECU from one vehicle to another and back.
func TestMovedECU(t *testing.T) {
	r := newRig(t)
	e, spare := r.ecu(), r.ecu()
	one := r.add(r.fitted("V1", e))
	two := r.add(r.fitted("V2", spare))
	r.refused("it is bound to ECU key", func() error { return r.Bind(t.Context(), "V2", e.at(9)) })
	r.refused("it is not registered", func() error { return r.Bind(t.Context(), "V9", e.at(9)) })
	r.refused("is of key", func() error { _, err := r.Release(t.Context(), "V1", spare.final(9)); return err })
	r.refused("it is not registered", func() error { _, err := r.Release(t.Context(), "V9", nil); return err })
	late := e.sign(testProgram(), 9, today+2)
	r.refused("its ECU says day 102", func() error { _, err := r.Release(t.Context(), "V1", &late); return err })
	old := e.final(2)
	r.refused("snapshot 2, and snapshot 3 is credited already", func() error { _, err := r.Release(t.Context(), "V1", old); return err })
	forged := e.final(9)
	forged.Snapshot.Seq = 90
	r.refused("cannot verify snapshot", func() error { _, err := r.Release(t.Context(), "V1", forged); return err })

	h, err := r.Release(t.Context(), "V1", e.final(9))
	if want := (Handover{ECU: e.pub.ID(), Vehicle: "V1", Head: 3, Cut: 9}); err != nil || h != want {
		t.Fatalf("hand-over %+v (%v), want %+v", h, err, want)
	}
	r.refused("no ECU is bound to it", func() error { _, err := r.Release(t.Context(), "V1", nil); return err })
	r.refused("is snapshot 8, and its key was handed over at snapshot 9", func() error {
		_, err := r.Replace(t.Context(), "V2", nil, e.at(8))
		return err
	})
	r.refused("cannot use ECU certificate", func() error {
		_, err := r.Replace(t.Context(), "V2", nil, ECU{e.identity(9), spare.certificate})
		return err
	})
	r.refused("the new ECU has the old one's key", func() error { _, err := r.Replace(t.Context(), "V2", nil, spare.at(9)); return err })
	if h, err = r.Replace(t.Context(), "V2", nil, e.at(9)); err != nil || h.ECU != spare.pub.ID() || h.Cut != 3 || h.Head != 3 {
		t.Fatalf("hand-over %+v (%v)", h, err)
	}
	if err := r.Bind(t.Context(), "V1", spare.at(3)); err != nil {
		t.Fatal(err)
	}
	head := func(e *ecu, seq uint64) wire.Head { id := e.identity(seq); return id.Snapshot.Head() }
	want := []store.Binding{
		{ECU: e.pub, Vehicle: "V1", Account: one, First: head(e, 3), Head: head(e, 3), Closed: true, Cut: 9},
		{ECU: e.pub, Vehicle: "V2", Account: two, First: head(e, 9), Head: head(e, 9)},
	}
	if d := cmp.Diff(want, r.bindings(e.pub)); d != "" {
		t.Error(d)
	}
	want = []store.Binding{
		{ECU: spare.pub, Vehicle: "V2", Account: two, First: head(spare, 3), Head: head(spare, 3), Closed: true, Cut: 3},
		{ECU: spare.pub, Vehicle: "V1", Account: one, First: head(spare, 3), Head: head(spare, 3)},
	}
	if d := cmp.Diff(want, r.bindings(spare.pub)); d != "" {
		t.Error(d)
	}
}

func TestRevoked(t *testing.T) {
	r := newRig(t)
	e, second, third := r.ecu(), r.ecu(), r.ecu()
	r.add(r.fitted("V1", e))
	r.add(r.fitted("V2", second))
	r.refused("it is not registered", func() error { _, err := r.Revoke(t.Context(), third.pub.ID()); return err })
	h, err := r.Revoke(t.Context(), e.pub.ID())
	if want := (Handover{ECU: e.pub.ID(), Vehicle: "V1", Head: 3, Cut: 3}); err != nil || h != want {
		t.Errorf("hand-over %+v (%v), want %+v", h, err, want)
	}
	r.refused("it is revoked already", func() error { _, err := r.Revoke(t.Context(), e.pub.ID()); return err })
	r.refused("its ECU key is revoked", func() error { return r.Bind(t.Context(), "V1", e.at(9)) })
	r.refused("its ECU key is revoked", func() error { _, _, err := r.Add(t.Context(), r.fitted("V3", e)); return err })
	if err := r.Bind(t.Context(), "V1", third.at(4)); err != nil {
		t.Fatal(err)
	}

	// What a released key could still earn is lost when it is revoked.
	if _, err := r.Release(t.Context(), "V2", second.final(20)); err != nil {
		t.Fatal(err)
	}
	if h, err = r.Revoke(t.Context(), second.pub.ID()); err != nil || h.Cut != 3 {
		t.Errorf("hand-over %+v (%v)", h, err)
	}
	keys, err := r.Keys(t.Context())
	if err != nil || len(keys) != 3 {
		t.Fatalf("keys %+v (%v)", keys, err)
	}
	for _, k := range keys {
		want := map[wire.KeyID]State{e.pub.ID(): Revoked, second.pub.ID(): Revoked, third.pub.ID(): Bound}[k.ID]
		if k.State != want || !k.Certified || len(k.Bindings) != 1 || k.Bindings[0].Revoked != (want == Revoked) {
			t.Errorf("key %+v, want %s", k, want)
		}
	}
	if _, err := r.Release(t.Context(), "V1", nil); err != nil {
		t.Fatal(err)
	}
	keys, err = r.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == third.pub.ID() && k.State != Released {
			t.Errorf("key %+v, want released", k)
		}
	}
}
