package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// keys makes proving keys of a development setup once for all tests; their directory goes when TestMain ends.
var keys = sync.OnceValues(func() (k struct {
	dir    string
	lock   claim.Lock
	prover *claim.Prover
	open   func(*terms.Program, *terms.Policy) (Verifier, error)
}, err error) {
	if k.dir, err = os.MkdirTemp("", "proof"); err != nil {
		return k, err
	}
	var errs [3]error
	k.lock, errs[0] = claim.Setup(k.dir)
	k.prover, errs[1] = claim.OpenProver(k.dir, k.lock)
	k.open, errs[2] = Keys(k.dir)
	return k, errors.Join(errs[:]...)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if k, err := keys(); err == nil {
		os.RemoveAll(k.dir)
	}
	os.Exit(code)
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

// A world writes a log with claims behind its credits.
type world struct {
	t            testing.TB
	root, policy *ecdsa.PrivateKey
	board        *ecdsa.PrivateKey
	rootPub      wire.PublicKey
	program      wire.Hash
	lock         claim.Lock
	openings     *opening.Set
	items        []Item
}

// genesis ends in the middle of day 2; a day has four drops.
func newWorld(t testing.TB) *world {
	t.Helper()
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, lock: k.lock, openings: new(opening.Set)}
	var policyPub wire.PublicKey
	w.root, w.rootPub = newKey(t)
	w.policy, policyPub = newKey(t)
	_, receiptPub := newKey(t)
	var boardPub wire.PublicKey
	w.board, boardPub = newKey(t)
	_, logKey, err := tlog.GenerateKey("log.example")
	w.must(err)
	p := &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: terms.Timing{GenesisS: 100, DayS: 40, DropS: 10},
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub}, BoardQuorum: 1, Quorum: 1, LogKey: logKey}
	v, err := ledger.GenerateValidatorKey("validator.example")
	w.must(err)
	p.Validators = append(p.Validators, v.Public())
	signed, err := terms.SealProgram(w.root, p)
	w.must(err)
	w.program = wire.ID(signed)
	w.add(ledger.TypeProgram, signed)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) next() uint64 { return uint64(len(w.items)) }

func (w *world) add(t ledger.Type, body []byte, claims ...[]byte) {
	w.items = append(w.items, Item{&ledger.Entry{Number: w.next(), Type: t, Body: body}, claims})
}

func (w *world) encode(v any) []byte {
	b, err := codec.Encode(v)
	w.must(err)
	return b
}

// terms logs a policy of a kind that is in force from a day to day 1000.
func (w *world) terms(serial uint16, kind string, from uint32, change ...func(*terms.Policy)) {
	w.t.Helper()
	p := &terms.Policy{Version: wire.Version, Program: w.program, Serial: serial, Kind: kind, FromDay: from, ToDay: 1000, CapKm: 100,
		Circuit: w.lock.Circuit, ProvingKey: w.lock.ProvingKey, VerifyingKey: w.lock.VerifyingKey, Lock: w.lock.ID()}
	if kind == terms.KindMileage {
		for _, km := range []uint32{10, 20, 400} {
			r := wire.Row{B: int64(km) * 1000}
			r.A[wire.OdometerM] = 1
			p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
		}
	} else {
		var slow wire.Row // overspeed under 5 % of drive time
		slow.A[wire.DriveTimeS], slow.A[wire.OverspeedS] = 1, -20
		p.Tiers = []terms.Tier{{Rows: []wire.Row{slow}}}
	}
	for _, f := range change {
		f(p)
	}
	b, err := terms.SealPolicy(w.policy, p)
	w.must(err)
	w.add(ledger.TypePolicy, b)
}

// An ecu signs snapshots and remembers what they hide.
type ecu struct {
	w        *world
	key      crypto.Signer
	pub      wire.PublicKey
	openings map[wire.Commitment]wire.Opening
}

func (w *world) ecu() *ecu {
	k, pub := newKey(w.t)
	return &ecu{w, k, pub, make(map[wire.Commitment]wire.Opening)}
}

// at returns the snapshot of a day at an odometer in kilometres.
func (e *ecu) at(seq uint64, day, km uint32) wire.Snapshot {
	var o wire.Opening
	o.Counters[wire.OdometerM], o.Counters[wire.DriveTimeS] = km*1000, km*50
	rand.Read(o.Salt[:])
	c := claim.Commit(o)
	e.openings[c] = o
	s, err := attest.Sign(e.key, e.w.program, seq, day, c)
	e.w.must(err)
	return s
}

// asked is what a claim proves: the serial of a policy that the world made, and a tier.
type asked struct {
	serial uint16
	tier   uint8
	kind   string
}

// claim proves what is asked of a span.
func (e *ecu) claim(from, to wire.Snapshot, asks ...asked) *wire.Claim {
	e.w.t.Helper()
	c := &wire.Claim{Version: wire.Version, ECU: e.pub.ID(), From: wire.NewOrigin(from), To: to}
	k, err := keys()
	e.w.must(err)
	for _, a := range asks {
		var p *terms.Policy
		for _, i := range e.w.items {
			if i.Entry.Type == ledger.TypePolicy {
				program, _, err := terms.OpenProgram(e.w.rootPub, e.w.items[0].Entry.Body)
				e.w.must(err)
				q, err := terms.OpenPolicy(program.Policy, e.w.program, i.Entry.Body)
				e.w.must(err)
				if q.Serial == a.serial {
					p = q
				}
			}
		}
		s := claim.Statement{From: from.Commitment, To: to.Commitment, Rows: p.Statement(int(a.tier))}
		proof, err := k.prover.Prove(s, e.openings[from.Commitment], e.openings[to.Commitment])
		e.w.must(err)
		c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: a.serial, Tier: a.tier, Proof: proof})
	}
	return c
}

func (w *world) bytes(c *wire.Claim) []byte {
	w.t.Helper()
	b, err := c.Encode()
	w.must(err)
	return b
}

// bind binds a key at a head that it signed.
func (w *world) bind(pub wire.PublicKey, head wire.Snapshot) {
	o := ledger.BindingOpening{Salt: [32]byte{1}, Vehicle: fmt.Sprintf("CAR%d", w.next()), Account: "a", ECU: pub, Head: head.Head(), Signature: head.Signature}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddBinding(w.next(), o)
	w.add(ledger.TypeBinding, w.encode(ledger.Binding{Blind: blind}))
}

func (w *world) handOver(pub wire.PublicKey, cut uint64, revoked bool) {
	o := ledger.HandoverOpening{Salt: [32]byte{1}, ECU: pub.ID(), Cut: cut, Revoked: revoked}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddHandover(w.next(), o)
	w.add(ledger.TypeHandover, w.encode(ledger.Handover{Blind: blind}))
}

// credit logs a credit of a kind for the end of a claim.
func (w *world) credit(c *wire.Claim, kind string, km uint32, claims ...[]byte) {
	w.creditOn(5, c, kind, km, claims...)
}

func (w *world) creditOn(effective uint32, c *wire.Claim, kind string, km uint32, claims ...[]byte) {
	o := ledger.CreditOpening{Salt: [32]byte{2}, Account: "a", ECU: c.ECU, ToSeq: c.To.Seq, Kind: kind}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddCredit(w.next(), o)
	w.add(ledger.TypeCredit, w.encode(ledger.Credit{Blind: blind, Km: km, Effective: effective}), claims...)
}

func (w *world) checker() *Checker {
	w.t.Helper()
	k, err := keys()
	w.must(err)
	c, err := New(Config{Root: w.rootPub, Openings: w.openings, Verifier: k.open, Workers: 2})
	w.must(err)
	return c
}
