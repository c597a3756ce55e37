package settle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/evidence"
	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// believer takes every proof for true: what is proven is not the question here.
type believer struct{}

func (believer) Verify(claim.Statement, wire.Proof) error      { return nil }
func (believer) VerifyBatch(items []claim.Item) (errs []error) { return make([]error, len(items)) }

// A unit is an attestation ECU with what it has signed.
type unit struct {
	key         *ecdsa.PrivateKey
	pub         wire.PublicKey
	certificate []byte
	signed      []wire.Snapshot
}

// A collector is a world with all that writes into its records.
type collector struct {
	*world
	rand     *rand.Rand
	ca       string
	policies []*terms.Policy
	registry *identity.Registry
	judge    *credit.Judge
	units    []*unit
	sent     []credit.Submission
	did      *tally
}

// A tally counts what happened in all runs.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func (t *tally) add(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[what]++
}

// seeds is how many runs there are. Each is the same every time, but for its keys.
const seeds = 4

// newCollector makes a collector with policies of two kinds and nothing in its records.
func newCollector(t *testing.T, seed uint64, did *tally) *collector {
	w := newWorld(t, 1, 1)
	c := &collector{world: w, rand: rand.New(rand.NewPCG(seed, 1)), ca: filepath.Join(w.dir, "ca"), did: did}
	charter, err := terms.SealCharter(w.board[:1], &terms.Charter{Version: wire.Version, Program: w.id, Serial: 1, Kinds: []string{terms.KindMileage, terms.KindSafe},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	w.must(err)
	var slow wire.Row
	slow.A[wire.DriveTimeS], slow.A[wire.OverspeedS] = 1, -20
	safe, err := terms.SealPolicy(w.policy, &terms.Policy{Version: wire.Version, Program: w.id, Serial: 2, Kind: terms.KindSafe, ToDay: 1000,
		Circuit: wire.Hash{1}, ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, Tiers: []terms.Tier{{Rows: []wire.Row{slow}}}})
	w.must(err)
	w.documents = []Document{w.documents[0], {Type: ledger.TypeCharter, Body: charter}, w.documents[2], {Type: ledger.TypePolicy, Body: safe}}
	for _, d := range w.documents[2:] {
		p, err := terms.OpenPolicy(w.program.Policy, w.id, d.Body)
		w.must(err)
		c.policies = append(c.policies, p)
	}
	w.must(ca.Init(c.ca, w.now))
	pool, err := ca.Pool(filepath.Join(c.ca, "ecu-ca.pem"))
	w.must(err)
	clock := terms.Clock{Timing: timing, Now: func() time.Time { return w.now }}
	c.registry, err = identity.New(identity.Config{DB: w.db, Program: w.id, Clock: clock, ECUCA: pool, TokenLife: time.Hour})
	w.must(err)
	receipt, _ := newKey(t)
	c.judge, err = credit.New(credit.Config{DB: w.db, Program: w.id, Clock: clock, Policies: c.policies,
		Verifiers: map[wire.Hash]credit.Verifier{{3}: believer{}}, Receipt: receipt})
	w.must(err)
	w.must(w.start())
	return c
}

// chance is true so many times in a hundred.
func (c *collector) chance(percent int) bool { return c.rand.IntN(100) < percent }

func pick[T any](c *collector, from []T) T { return from[c.rand.IntN(len(from))] }

// build makes an ECU. Some have counted so far that a signed number is negative.
func (c *collector) build() *unit {
	u := new(unit)
	u.key, u.pub = newKey(c.t)
	seq := pick(c, []uint64{0, 1<<63 - 12, 1<<64 - 1<<20})
	u.sign(c, seq)
	var err error
	id := u.identity(c, 0)
	u.certificate, err = ca.IssueECU(c.ca, &id, c.now)
	c.must(err)
	c.units = append(c.units, u)
	return u
}

func (u *unit) sign(c *collector, seq uint64) {
	s, err := attest.Sign(u.key, c.id, seq, timing.Day(c.now), wire.Commitment{byte(seq), byte(len(u.signed)), 1})
	c.must(err)
	u.signed = append(u.signed, s)
}

func (u *unit) identity(c *collector, back int) attest.Identity {
	return attest.Identity{Key: u.pub, Program: c.id, Snapshot: u.signed[max(len(u.signed)-1-back, 0)]}
}

// recent is the identity of an ECU, mostly its newest.
func (c *collector) recent(u *unit) attest.Identity {
	return u.identity(c, pick(c, []int{0, 0, 0, 1, 4}))
}

func (c *collector) ecu(u *unit) identity.ECU {
	return identity.ECU{Identity: c.recent(u), Certificate: u.certificate}
}

func (c *collector) unit() *unit {
	if len(c.units) < 3 || c.chance(1) {
		return c.build()
	}
	return pick(c, c.units[len(c.units)-3:])
}

var cars = []string{"V1", "V2", "V3"}

// manage does something to the registry, which may be refused.
func (c *collector) manage() {
	ctx, car, u := c.t.Context(), pick(c, cars), c.unit()
	if c.chance(80) { // an ECU that may be bound, into a car that may have none
		for range 9 {
			if _, err := c.open(car); err != nil && !c.bound(u) {
				break
			}
			car, u = pick(c, cars), c.unit()
		}
	}
	id := c.recent(u)
	final := &id
	if c.chance(30) {
		final = nil
	} else if c.chance(80) {
		for _, other := range c.units { // the car's own
			if b, err := c.open(car); err == nil && b.ECU == other.pub {
				id = c.recent(other)
			}
		}
	}
	var err error
	what := pick(c, []string{"bind", "bind", "bind", "release", "replace", "revoke"})
	switch what {
	case "bind":
		err = c.registry.Bind(ctx, car, c.ecu(u))
	case "release":
		_, err = c.registry.Release(ctx, car, final)
	case "replace":
		_, err = c.registry.Replace(ctx, car, final, c.ecu(u))
	case "revoke":
		if c.chance(60) {
			return
		}
		if b, err := c.open(car); err == nil {
			u = &unit{pub: b.ECU}
		}
		_, err = c.registry.Revoke(ctx, u.pub.ID())
	}
	if err == nil {
		c.did.add(what)
	}
}

func (c *collector) open(car string) (b store.Binding, err error) {
	err = c.db.View(c.t.Context(), func(tx *store.Tx) error {
		b, err = tx.OpenBinding(c.t.Context(), car)
		return err
	})
	return b, err
}

func (c *collector) bound(u *unit) bool {
	all, err := c.bindings(u)
	c.must(err)
	return len(all) > 0 && !all[len(all)-1].Closed
}

func (c *collector) bindings(u *unit) (all []store.Binding, err error) {
	err = c.db.View(c.t.Context(), func(tx *store.Tx) error {
		all, err = tx.KeyBindings(c.t.Context(), u.pub.ID())
		return err
	})
	return all, err
}

// claim makes a claim over two snapshots of an ECU, for a car that may be another's, or sends an old one again.
func (c *collector) claim() (s credit.Submission, ok bool) {
	if len(c.sent) > 0 && c.chance(25) {
		s = pick(c, c.sent)
		if c.chance(30) {
			s.Vehicle = pick(c, cars)
		}
		if c.chance(60) { // the same span, other proofs
			m, err := wire.DecodeClaim(s.Body)
			c.must(err)
			m.Proofs = c.proofs()
			s.Body, err = m.Encode()
			c.must(err)
		}
		return s, true
	}
	u := c.unit()
	if len(u.signed) < 2 {
		return s, false
	}
	m := wire.Claim{Version: wire.Version, ECU: u.pub.ID(), Forfeit: c.chance(30)}
	from := c.rand.IntN(len(u.signed) - 1)
	s.Vehicle = pick(c, cars)
	all, err := c.bindings(u)
	c.must(err)
	if len(all) > 0 && c.chance(90) {
		b := all[max(0, len(all)-1-c.rand.IntN(2))]
		s.Vehicle = b.Vehicle
		for i, one := range u.signed[:len(u.signed)-1] {
			if one.Head() == b.Head && c.chance(80) {
				from = min(i+pick(c, []int{0, 0, 0, 1}), len(u.signed)-2)
			}
		}
	}
	m.To = u.signed[from+1+c.rand.IntN(min(len(u.signed)-1-from, 3))]
	m.From = wire.NewOrigin(u.signed[from])
	if !m.Forfeit && c.chance(30) {
		m.From = wire.Origin{Seq: u.signed[from].Seq}
	}
	m.Proofs = c.proofs()
	s.Body, err = m.Encode()
	if err == nil {
		c.sent = append(c.sent, s)
	}
	return s, err == nil
}

func (c *collector) proofs() (all []wire.ClaimProof) {
	for _, serial := range pick(c, [][]uint16{{1}, {1}, {2}, {1, 2}}) {
		p := wire.ClaimProof{Policy: serial}
		for i := range p.Proof {
			p.Proof[i] = byte(c.rand.Uint32())
		}
		all = append(all, p)
	}
	return all
}

// intake takes claims as package ingest does: checked in a batch, decided in one transaction, and something may come between.
func (c *collector) intake() {
	var batch []credit.Submission
	for range 1 + c.rand.IntN(6) {
		if s, ok := c.claim(); ok {
			batch = append(batch, s)
		}
	}
	prepared := c.judge.Prepare(c.t.Context(), wire.KindClaim, batch)
	if c.chance(40) {
		c.manage()
	}
	if c.chance(20) {
		c.tick()
	}
	c.must(c.db.Update(c.t.Context(), func(tx *store.Tx) error {
		for _, p := range prepared {
			c.must(p.Err)
			s, repeated, err := p.Apply(c.t.Context(), tx)
			if err != nil {
				return err
			}
			switch {
			case repeated:
				c.did.add("repeated")
			case s.Accepted && s.Original != nil:
				c.did.add("again")
			case s.Accepted:
				c.did.add("accepted")
			default:
				c.did.add(string(s.Reason))
			}
		}
		return nil
	}))
}

// tick lets time pass, or the validator fail, and settles.
func (c *collector) tick() {
	if v := c.validators[0]; v.noSign {
		v.noSign = c.chance(70) // for days, now and then
	} else {
		v.noSign = c.chance(15)
	}
	c.now = c.now.Add(time.Duration(c.rand.IntN(6)) * (10 * time.Second))
	for _, u := range c.units {
		if timing.Day(c.now) > u.signed[len(u.signed)-1].Day {
			u.sign(c, u.signed[len(u.signed)-1].Seq+1+c.rand.Uint64N(3))
		}
	}
	if err := c.settler.Step(c.t.Context()); err != nil && !errors.Is(err, ErrNoQuorum) {
		c.t.Fatal(err)
	}
}

// TestLedgerTakesWhatIsAccepted drives registry, judge and settler at random: whatever the first two write into the records, in whatever
// order, the rules of the ledger take, with and without openings, and an auditor with the registry's file finds every kept claim good.
func TestLedgerTakesWhatIsAccepted(t *testing.T) {
	did := &tally{n: make(map[string]int)}
	t.Run("runs", func(t *testing.T) {
		for seed := range uint64(seeds) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				c := newCollector(t, seed, did)
				c.must(c.db.Update(t.Context(), func(tx *store.Tx) error {
					for i, car := range cars {
						_, device := newKey(t)
						account := []string{"anna", "anna", "ben"}[i]
						if i != 1 {
							c.must(tx.AddAccount(t.Context(), account))
						}
						c.must(tx.AddVehicle(t.Context(), store.Vehicle{ID: car, Account: account, Device: device}))
					}
					return nil
				}))
				for range 120 {
					pick(c, []func(){c.manage, c.intake, c.intake, c.tick})()
				}
				c.validators[0].noSign = false
				c.now = c.now.Add(40 * time.Second)
				c.step()
				openings, err := stones.Openings(t.Context(), c.db)
				c.must(err)
				_, err = audit.Audit(t.Context(), audit.Config{Dir: c.logDir(), Root: c.root, Openings: openings})
				c.must(err)
				c.verify()
			})
		}
	})
	for _, what := range []string{"bind", "release", "replace", "revoke", "accepted", "again", "repeated", "stale", "gap", "revoked", "unknown_key"} {
		if did.n[what] == 0 {
			t.Errorf("it never came to %q", what)
		}
	}
	t.Log(did.n)
}

// verify checks the kept claims from the registry's file.
func (c *collector) verify() {
	c.t.Helper()
	var file bytes.Buffer
	c.must(evidence.ExportRegistry(c.t.Context(), store.Config{Path: filepath.Join(c.dir, "records.db"), Role: store.Audit}, c.id, &file))
	registry, err := evidence.ReadRegistry(&file)
	c.must(err)
	checker, err := evidence.New(evidence.Config{Program: c.id, Policies: c.policies, Registry: registry,
		Verifiers: map[wire.Hash]evidence.Verifier{{3}: believer{}}})
	c.must(err)
	var kept []*wire.Claim
	c.must(c.db.View(c.t.Context(), func(tx *store.Tx) error {
		return tx.EachClaim(context.Background(), 0, func(_ int64, _ wire.Hash, body []byte) error {
			m, err := wire.DecodeClaim(body)
			kept = append(kept, m)
			return err
		})
	}))
	_, errs := checker.Check(kept)
	c.must(errors.Join(errs...))
}

// TestSlowDrops draws drops that take longer than the time between them: what is final reaches the log even so, and not at the end of all.
func TestSlowDrops(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.at(0)
	size, grew := w.log.Size(), 0
	until := timing.DropTime(40)
	w.validators[0].signing = func() {
		if now := w.log.Size(); now > size {
			size, grew = now, grew+1
		}
		if w.elapsed += 2 * time.Second; w.now.Before(until) {
			w.now = w.now.Add(time.Duration(timing.DropS) * time.Second)
		}
	}
	w.now = timing.DropTime(1)
	w.step()
	if grew < 5 {
		t.Errorf("the log grew %d times in the course of 40 drops", grew)
	}
	w.audit()
	w.stop()
}
