package credit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const today = 100 // the program day on which tests begin

var testProgram = wire.ID([]byte("test program"))

// keys makes the proving keys once for all tests.
var keys = sync.OnceValues(func() (k struct {
	lock     claim.Lock
	prover   *claim.Prover
	verifier *claim.Verifier
}, err error) {
	dir, err := os.MkdirTemp("", "credit")
	if err != nil {
		return k, err
	}
	defer os.RemoveAll(dir)
	var errs [3]error
	k.lock, errs[0] = claim.Setup(dir)
	k.prover, errs[1] = claim.OpenProver(dir, k.lock)
	k.verifier, errs[2] = claim.OpenVerifier(dir, k.lock)
	return k, errors.Join(errs[:]...)
})

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
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

// An ecu signs snapshots and remembers what they hide.
type ecu struct {
	key      *ecdsa.PrivateKey
	pub      wire.PublicKey
	openings map[wire.Commitment]wire.Opening
}

func newECU(t testing.TB) *ecu {
	k, pub := newKey(t)
	return &ecu{k, pub, make(map[wire.Commitment]wire.Opening)}
}

// at returns the snapshot of a day at an odometer in metres; drive time follows at 20 m/s.
func (e *ecu) at(t testing.TB, seq uint64, day uint32, metres uint32) wire.Snapshot {
	t.Helper()
	var o wire.Opening
	o.Counters[wire.OdometerM], o.Counters[wire.DriveTimeS] = metres, metres/20
	rand.Read(o.Salt[:])
	c := claim.Commit(o)
	e.openings[c] = o
	s, err := attest.Sign(e.key, testProgram, seq, day, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The policies: mileage by 1, serial 1; safe driving, serial 2; an old mileage policy and a stopped one of a feature.
func policies(lock claim.Lock) []*terms.Policy {
	base := terms.Policy{
		Version: wire.Version, Program: testProgram, Kind: terms.KindMileage, FromDay: 10, ToDay: 1000, CapKm: 100,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
	}
	for _, km := range []uint32{1, 10, 20, 40, 50, 400} {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		base.Tiers = append(base.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
	}
	mileage, safe, old, stopped := base, base, base, base
	mileage.Serial = 1
	var slow wire.Row // overspeed under 5 % of drive time
	slow.A[wire.DriveTimeS], slow.A[wire.OverspeedS] = 1, -20
	safe.Serial, safe.Kind, safe.Tiers = 2, terms.KindSafe, []terms.Tier{{Rows: []wire.Row{slow}}}
	old.Serial, old.FromDay, old.ToDay = 3, 0, 9
	stopped.Serial, stopped.Kind, stopped.Tiers, stopped.Stop = 4, "feature/cruise", safe.Tiers, true
	return []*terms.Policy{&mileage, &safe, &old, &stopped}
}

// A rig is a judge over a real database, with real proofs.
type rig struct {
	t        testing.TB
	path     string // of the records
	db       *store.DB
	cfg      Config
	judge    *Judge
	receipts wire.KeySet
	day      uint32
}

func newRig(t testing.TB) *rig {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "records.db")
	db, err := store.Open(t.Context(), store.Config{Path: path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, path: path, db: db, day: today}
	signer, pub := newKey(t)
	r.receipts = wire.KeySet{pub}
	charter := &terms.Charter{
		Version: wire.Version, Program: testProgram, Serial: 1, Kinds: []string{"feature/cruise", "feature/eco", terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200,
		Usage: terms.Usage{
			Families: wire.FamilyHours | wire.FamilySpeed, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 53,
		},
	}
	r.cfg = Config{
		DB: db, Program: testProgram, Receipt: signer,
		Clock:     terms.Clock{Timing: terms.Timing{GenesisS: today * 86400, DayS: 86400, DropS: 600}, Now: func() time.Time { return time.Unix(int64(r.day)*86400, 0) }},
		Policies:  policies(k.lock),
		Verifiers: map[wire.Hash]Verifier{k.lock.VerifyingKey: k.verifier},
		Charter:   charter, CharterID: wire.ID([]byte("charter")),
	}
	r.restart()
	return r
}

func (r *rig) restart() {
	r.t.Helper()
	var err error
	if r.judge, err = New(r.cfg); err != nil {
		r.t.Fatal(err)
	}
}

// add registers a vehicle whose ECU was born on day 50 at 1,000 km; it returns the first head and the device key.
func (r *rig) add(vehicle string, e *ecu) (wire.Snapshot, *ecdsa.PrivateKey) {
	r.t.Helper()
	birth := e.at(r.t, 0, 50, 1_000_000)
	device, public := newKey(r.t)
	r.register(vehicle, public)
	r.bind(vehicle, e, birth)
	return birth, device
}

// register adds a vehicle without an ECU, of an account of its own.
func (r *rig) register(vehicle string, device wire.PublicKey) {
	r.t.Helper()
	r.update(func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.AddAccount(ctx, "account of "+vehicle),
			tx.AddVehicle(ctx, store.Vehicle{ID: vehicle, Account: "account of " + vehicle, Device: device, AddedDay: r.cfg.Clock.Today()}))
	})
}

// enrol gives a vehicle another device key.
func (r *rig) enrol(vehicle string, device wire.PublicKey) {
	r.t.Helper()
	now := r.cfg.Clock.Now()
	r.update(func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.SetToken(ctx, vehicle, wire.Hash{1}, now.Add(time.Hour)), tx.Enrol(ctx, vehicle, wire.Hash{1}, device, now.Add(time.Hour)))
	})
}

// bind lets an ECU speak for a vehicle from a head on, which it signed.
func (r *rig) bind(vehicle string, e *ecu, first wire.Snapshot) {
	r.t.Helper()
	r.update(func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.AddECU(ctx, e.pub, nil),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: vehicle, Account: "account of " + vehicle, ECU: e.pub, Head: first.Head(), Signature: first.Signature}))
	})
}

// release closes the binding of an ECU at a cut.
func (r *rig) release(e *ecu, cut uint64) { r.handOver(e, cut, false) }

func (r *rig) handOver(e *ecu, cut uint64, revoked bool) {
	r.t.Helper()
	r.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: e.pub.ID(), Cut: cut, Revoked: revoked})
	})
}

func (r *rig) update(fn func(context.Context, *store.Tx) error) {
	r.t.Helper()
	if err := r.db.Update(r.t.Context(), func(tx *store.Tx) error { return fn(r.t.Context(), tx) }); err != nil {
		r.t.Fatal(err)
	}
}

// A proof asks for a tier of a policy.
type proof struct {
	policy uint16
	tier   uint8
}

// claim proves the tiers over the span. A tier that is not true gets the proof of the highest one below it that is.
func (r *rig) claim(e *ecu, from wire.Origin, to wire.Snapshot, begin wire.Snapshot, ps ...proof) *wire.Claim {
	r.t.Helper()
	k, err := keys()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(ps) == 0 {
		ps = []proof{{1, 1}}
	}
	c := &wire.Claim{Version: wire.Version, ECU: e.pub.ID(), From: from, To: to}
	for _, p := range ps {
		policy := r.cfg.Policies[p.policy-1]
		for tier := min(int(p.tier), len(policy.Tiers)-1); ; tier-- {
			if tier < 0 {
				r.t.Fatal("no tier is true")
			}
			s := claim.Statement{From: begin.Commitment, To: to.Commitment, Rows: policy.Statement(tier)}
			if s.Check(e.openings[begin.Commitment], e.openings[to.Commitment]) != nil {
				continue
			}
			b, err := k.prover.Prove(s, e.openings[begin.Commitment], e.openings[to.Commitment])
			if err != nil {
				r.t.Fatal(err)
			}
			c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: p.policy, Tier: p.tier, Proof: b})
			break
		}
	}
	return c
}

// forge returns a claim of a span with a proof of something else.
func (r *rig) forge(e *ecu, from, to wire.Snapshot, policy uint16, tier uint8, p wire.Proof) *wire.Claim {
	return &wire.Claim{Version: wire.Version, ECU: e.pub.ID(), From: wire.NewOrigin(from), To: to,
		Proofs: []wire.ClaimProof{{Policy: policy, Tier: tier, Proof: p}}}
}

// span is claim for a span that begins with a whole snapshot.
func (r *rig) span(e *ecu, from, to wire.Snapshot, ps ...proof) *wire.Claim {
	r.t.Helper()
	return r.claim(e, wire.NewOrigin(from), to, from, ps...)
}

func (r *rig) encode(c *wire.Claim) []byte {
	r.t.Helper()
	b, err := c.Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// submit has a submission judged and returns its receipt, opened, and its bytes.
func (r *rig) submit(vehicle string, kind wire.Kind, body []byte) (*wire.Receipt, []byte) {
	r.t.Helper()
	return r.apply(vehicle, body, r.prepare(vehicle, kind, body))
}

// An apply decides in a transaction.
type apply = func(context.Context, *store.Tx) (store.Submission, bool, error)

// prepare has one submission checked.
func (r *rig) prepare(vehicle string, kind wire.Kind, body []byte) apply {
	r.t.Helper()
	return r.prepareAll(kind, Submission{Vehicle: vehicle, Body: body})[0]
}

// prepareAll has submissions checked in one batch.
func (r *rig) prepareAll(kind wire.Kind, subs ...Submission) (out []apply) {
	r.t.Helper()
	for _, p := range r.judge.Prepare(r.t.Context(), kind, subs) {
		if p.Err != nil || p.Apply == nil {
			r.t.Fatal(p.Err)
		}
		out = append(out, p.Apply)
	}
	if len(out) != len(subs) {
		r.t.Fatalf("%d of %d submissions prepared", len(out), len(subs))
	}
	return out
}

func (r *rig) apply(vehicle string, body []byte, apply apply) (*wire.Receipt, []byte) {
	r.t.Helper()
	var s store.Submission
	err := r.db.Update(r.t.Context(), func(tx *store.Tx) (err error) {
		s, _, err = apply(r.t.Context(), tx)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	receipt, err := wire.OpenReceipt(r.receipts, s.Receipt)
	if err != nil {
		r.t.Fatal(err)
	}
	if receipt.Submission != wire.ID(body) || receipt.Vehicle != vehicle {
		r.t.Fatalf("receipt answers %v of %s", receipt.Submission, receipt.Vehicle)
	}
	return receipt, s.Receipt
}

// send is submit for a claim.
func (r *rig) send(vehicle string, c *wire.Claim) *wire.Receipt {
	r.t.Helper()
	receipt, _ := r.submit(vehicle, wire.KindClaim, r.encode(c))
	return receipt
}

func (r *rig) summary() (s store.Summary) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) (err error) {
		s, err = tx.Summary(r.t.Context())
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// claims returns the bytes of the claims that are kept.
func (r *rig) claims() (kept [][]byte) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
		return tx.EachClaim(r.t.Context(), 0, func(_ int64, id wire.Hash, body []byte) error {
			if id != wire.ID(body) {
				r.t.Errorf("claim %s is kept as %s", wire.ID(body), id)
			}
			kept = append(kept, bytes.Clone(body))
			return nil
		})
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return kept
}

// head returns the head of an ECU key.
func (r *rig) head(e *ecu) wire.Head {
	r.t.Helper()
	var k store.Binding
	err := r.db.View(r.t.Context(), func(tx *store.Tx) (err error) {
		all, err := tx.KeyBindings(r.t.Context(), e.pub.ID())
		if err == nil {
			k = all[len(all)-1]
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return k.Head
}

// refused checks that a receipt refuses for a reason and that the records credit nothing beyond km.
func (r *rig) refused(got *wire.Receipt, want wire.Reason, km int64) {
	r.t.Helper()
	if got.Accepted || got.Reason != want {
		r.t.Errorf("accepted %v for reason %q, want refused for %q", got.Accepted, got.Reason, want)
	}
	if s := r.summary(); s.KmProven != km {
		r.t.Errorf("%d km credited, want %d", s.KmProven, km)
	}
}

// accepted checks that a receipt accepts and credits km.
func (r *rig) accepted(got *wire.Receipt, km uint32) {
	r.t.Helper()
	var sum uint32
	for _, c := range got.Credits {
		sum += c.Km
	}
	if !got.Accepted || sum != km {
		r.t.Errorf("accepted %v (%s) with %d km, want %d", got.Accepted, got.Reason, sum, km)
	}
}
