package seat

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/role"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/claim"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Days of four drops; genesis in the middle of day 2, which has two.
var timing = terms.Timing{GenesisS: 100, DayS: 40, DropS: 10}

// good stands in for Groth16, which package proof has tests of: a proof whose first byte is 1 holds.
type good struct{}

func (good) VerifyBatch(items []claim.Item) []error {
	out := make([]error, len(items))
	for i, it := range items {
		if it.Proof[0] != 1 {
			out[i] = errors.New("proof does not hold")
		}
	}
	return out
}

// A story is a history of the ledger as somebody is told it, and its log.
type story struct {
	entries []disclosure.Entry
	log     *tlog.Log
	dir     string
	hide    func(*disclosure.Entry) // what was erased; nil for nothing
	gone    func(day uint32) []reward.Leaf
}

// Batches implements feed.Source.
func (s *story) Batches(_ context.Context, entries []ledger.Entry) ([][]byte, error) {
	from := entries[0].Number
	list := slices.Clone(s.entries[from : from+uint64(len(entries))])
	for i := range list {
		if s.hide != nil {
			s.hide(&list[i])
		}
	}
	return feed.Batches(list)
}

// leaves are those of erased accounts on a day.
func (s *story) leaves(_ context.Context, day uint32) (out []reward.Leaf, _ error) {
	if s.gone != nil {
		out = s.gone(day)
	}
	return out, nil
}

func (s *story) checkpoint() ([]byte, error) { return os.ReadFile(filepath.Join(s.dir, "checkpoint")) }

// A court is an operator and four validators, of which three make a quorum, each behind its feed.
type court struct {
	t       testing.TB
	dir     string
	now     time.Time
	root    *ecdsa.PrivateKey
	rootPub wire.PublicKey
	policy  *ecdsa.PrivateKey
	receipt *ecdsa.PrivateKey
	program *terms.Program
	id      wire.Hash
	signer  note.Signer
	keys    []*ledger.ValidatorKey

	told     *story
	replay   *audit.Replay
	weights  map[string]map[uint32]uint64
	settle   *peer.Identity
	nodes    []*peer.Identity
	seats    []*Seat
	clients  []*feed.Client
	stops    []func()
	cars     map[string]*car
	verifier proof.Verifier
	cosigned func(ctx context.Context, checkpoint, line []byte) // nil for most
}

type car struct {
	key    *ecdsa.PrivateKey
	pub    wire.PublicKey
	last   wire.Snapshot
	secret [32]byte
}

func (c *court) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *court) key() (*ecdsa.PrivateKey, wire.PublicKey) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	c.must(err)
	p, err := wire.NewPublicKey(k.Public())
	c.must(err)
	return k, p
}

func newCourt(t testing.TB) *court {
	t.Helper()
	c := &court{t: t, dir: t.TempDir(), now: timing.DropTime(0), weights: make(map[string]map[uint32]uint64), cars: make(map[string]*car), verifier: good{}}
	var policyPub, receiptPub wire.PublicKey
	c.root, c.rootPub = c.key()
	c.policy, policyPub = c.key()
	c.receipt, receiptPub = c.key()
	board, boardPub := c.key()
	secret, verifier, err := tlog.GenerateKey("log.example")
	c.must(err)
	c.signer, err = note.NewSigner(secret)
	c.must(err)
	c.program = &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: timing,
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub}, BoardQuorum: 1, Quorum: 3, LogKey: verifier}
	for _, name := range []string{"test/operator", "test/auditor", "test/bank", "test/owners"} {
		k, err := ledger.GenerateValidatorKey(name)
		c.must(err)
		c.keys, c.program.Validators = append(c.keys, k), append(c.program.Validators, k.Public())
	}
	c.replay, err = audit.NewReplay(c.rootPub, nil)
	c.must(err)
	c.told = c.story("log")
	c.must(ca.Init(c.path("ca"), time.Now()))
	c.settle = c.identity("settle", role.Settle)
	for i := range c.keys {
		c.nodes = append(c.nodes, c.identity(fmt.Sprint("v", i), role.Validator))
		c.seats, c.clients, c.stops = append(c.seats, nil), append(c.clients, nil), append(c.stops, nil)
		c.open(i)
	}
	t.Cleanup(func() {
		for i := range c.seats {
			c.close(i)
		}
	})
	signed, err := terms.SealProgram(c.root, c.program)
	c.must(err)
	c.id = wire.ID(signed)
	c.log(disclosure.Entry{Type: ledger.TypeProgram, Body: signed})
	charter, err := terms.SealCharter([]crypto.Signer{board}, &terms.Charter{Version: wire.Version, Program: c.id, Serial: 1, Kinds: []string{terms.KindMileage},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	c.must(err)
	c.log(disclosure.Entry{Type: ledger.TypeCharter, Body: charter})
	p := &terms.Policy{Version: wire.Version, Program: c.id, Serial: 1, Kind: terms.KindMileage, ToDay: 1000, Circuit: wire.Hash{1},
		ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, CapKm: 1000}
	row := wire.Row{B: 40_000}
	row.A[wire.OdometerM] = 1
	top := wire.Row{B: 100_000}
	top.A[wire.OdometerM] = 1
	p.Tiers = []terms.Tier{{Km: 40, Rows: []wire.Row{row}}, {Km: 100, Rows: []wire.Row{top}}}
	b, err := terms.SealPolicy(c.policy, p)
	c.must(err)
	c.log(disclosure.Entry{Type: ledger.TypePolicy, Body: b})
	return c
}

func (c *court) path(name string) string { return filepath.Join(c.dir, name) }

func (c *court) logger() *slog.Logger { return slog.New(slog.DiscardHandler) }

// story begins a log under the ledger's own key.
func (c *court) story(name string) *story {
	s := &story{dir: c.path(name)}
	var err error
	s.log, err = tlog.Open(context.Background(), tlog.Config{Dir: s.dir, Signer: c.signer, Verifier: c.program.LogKey, Logger: c.logger()})
	c.must(err)
	c.t.Cleanup(func() { c.must(s.log.Close()) })
	return s
}

func (c *court) identity(name string, as role.Set) *peer.Identity {
	c.must(ca.IssueNode(c.path("ca"), name, as.List(), []string{"127.0.0.1"}, c.path("nodes"), time.Now()))
	i, err := peer.Open(peer.Config{CA: c.path("ca/internal-ca.pem"), Certificate: c.path("nodes/" + name + ".pem"), Key: c.path("nodes/" + name + ".key")}, as, c.logger())
	c.must(err)
	return i
}

// open starts a validator and its feed.
func (c *court) open(i int) {
	c.t.Helper()
	s, err := Open(context.Background(), Config{
		Key: c.keys[i], Root: c.rootPub, Dir: c.path(fmt.Sprint("validator", i)), Now: func() time.Time { return c.now }, Logger: c.logger(), Registerer: prometheus.NewRegistry(),
		Verifier: func(*terms.Program, *terms.Policy) (proof.Verifier, error) { return c.verifier, nil },
	})
	c.must(err)
	server, err := feed.Listen(feed.ServerConfig{Address: "127.0.0.1:0", Identity: c.nodes[i], Validator: s, Logger: c.logger()})
	c.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	c.seats[i], c.stops[i] = s, func() {
		cancel()
		c.must(errors.Join(<-ended, s.Close()))
	}
	c.dial(i, "https://"+server.Addr(), c.told)
}

// dial has a validator be told a story.
func (c *court) dial(i int, url string, s *story) {
	c.t.Helper()
	if url == "" {
		url = c.clients[i].URL()
	}
	client, err := feed.Dial(feed.ClientConfig{URL: url, TLS: c.settle.Client(role.Validator), Source: s, Leaves: s.leaves, Checkpoint: s.checkpoint, Cosigned: c.cosigned})
	c.must(err)
	c.clients[i] = client
}

func (c *court) close(i int) {
	if c.stops[i] != nil {
		c.clients[i].Close()
		c.stops[i]()
		c.stops[i] = nil
	}
}

// log makes an entry final: the operator's own rules accept it, and the log has it.
func (c *court) log(e disclosure.Entry) {
	c.t.Helper()
	e.Number = c.replay.Next()
	l := e.Ledger()
	c.must(c.replay.Apply(&l))
	c.told.add(c, e)
}

// add puts an entry into a story, whatever it says.
func (s *story) add(c *court, e disclosure.Entry) {
	c.t.Helper()
	e.Number = uint64(len(s.entries))
	s.entries = append(s.entries, e)
	l := e.Ledger()
	b, err := l.Encode()
	c.must(err)
	c.must(s.log.Append(context.Background(), e.Number, b))
}

func (c *court) encode(v any) []byte {
	b, err := codec.Encode(v)
	c.must(err)
	return b
}

// snapshot signs a car's next snapshot.
func (c *court) snapshot(k *car, seq uint64, day uint32) wire.Snapshot {
	var o wire.Opening
	rand.Read(o.Salt[:])
	s, err := attest.Sign(k.key, c.id, seq, day, claim.Commit(o))
	c.must(err)
	return s
}

// bind returns the binding of a new car and account.
func (c *court) bind(account string) disclosure.Entry {
	c.t.Helper()
	k := new(car)
	k.key, k.pub = c.key()
	rand.Read(k.secret[:])
	k.last = c.snapshot(k, 1, 1)
	c.cars[account] = k
	o := ledger.BindingOpening{Vehicle: "V" + account, Account: account, ECU: k.pub, Head: k.last.Head(), Signature: k.last.Signature}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	c.must(err)
	e := disclosure.Entry{Type: ledger.TypeBinding, Body: c.encode(ledger.Binding{Blind: blind}), Account: account, Secret: slices.Clone(k.secret[:])}
	c.must(e.Open(&o))
	return e
}

// earn returns a credit of 100 km with its claim, whose proof begins with a byte.
func (c *court) earn(account string, first byte) disclosure.Entry {
	c.t.Helper()
	k := c.cars[account]
	day := c.replay.Due().Day
	to := c.snapshot(k, k.last.Seq+1, max(day, k.last.Day+1))
	m := &wire.Claim{Version: wire.Version, ECU: k.pub.ID(), From: wire.NewOrigin(k.last), To: to, Proofs: []wire.ClaimProof{{Policy: 1, Tier: 1, Proof: wire.Proof{first}}}}
	b, err := m.Encode()
	c.must(err)
	o := ledger.CreditOpening{Account: account, ECU: k.pub.ID(), ToSeq: to.Seq, Kind: terms.KindMileage}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	c.must(err)
	e := disclosure.Entry{Type: ledger.TypeCredit, Body: c.encode(ledger.Credit{Blind: blind, Km: 100, Effective: day + 1}), Claim: b}
	c.must(e.Open(&o))
	return e
}

// credit logs what a car has earned.
func (c *court) credit(account string) wire.Hash {
	c.t.Helper()
	e := c.earn(account, 1)
	k := c.cars[account]
	m, err := wire.DecodeClaim(e.Claim)
	c.must(err)
	k.last = m.To
	c.log(e)
	if c.weights[account] == nil {
		c.weights[account] = make(map[uint32]uint64)
	}
	c.weights[account][c.replay.Due().Day+1] += 100
	return wire.ID(e.Claim)
}

// leaves returns the leaves of the day that is due.
func (c *court) leaves() (out []reward.Leaf) {
	day := c.replay.Due().Day
	for account, days := range c.weights {
		km := uint64(0)
		for effective, n := range days {
			if reward.Counts(day, effective) {
				km += n
			}
		}
		if km > 0 {
			out = append(out, reward.Leaf{Pseudonym: reward.Pseudonym(c.cars[account].secret, day), Weight: km})
		}
	}
	return out
}

// bring tells validator i all of its story.
func (c *court) bring(i int, s *story) error {
	next, err := c.clients[i].Next(c.t.Context())
	if err != nil || next >= uint64(len(s.entries)) {
		return err
	}
	var list []ledger.Entry
	for _, e := range s.entries[next:] {
		list = append(list, e.Ledger())
	}
	for len(list) > 0 {
		n := min(len(list), disclosure.MaxBatch)
		if err := c.clients[i].Follow(c.t.Context(), list[:n]...); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// proofs are the given validators' for what is due, all when none is given.
func (c *court) proofs(of ...int) (proofs []ledger.Proof, withheld []byte) {
	c.t.Helper()
	in, out := c.replay.Set()
	for _, i := range in {
		if len(of) > 0 && !slices.Contains(of, int(i)) {
			withheld = append(withheld, i)
			continue
		}
		c.must(c.bring(int(i), c.told))
		p, err := c.clients[i].Prove(c.t.Context(), c.replay.Due())
		c.must(err)
		proofs = append(proofs, p)
	}
	return proofs, append(withheld, out...)
}

// record makes what is due by the rules. The clock is right for it.
func (c *court) record() (ledger.Type, any) {
	c.t.Helper()
	due := c.replay.Due()
	if due.Type == ledger.TypeBlock {
		c.now = timing.DropTime(due.Drop)
	} else {
		c.now = timing.DayStart(due.Day)
	}
	switch due.Type {
	case ledger.TypeLeaves:
		leaves := c.leaves()
		l := &ledger.Leaves{Day: due.Day, Count: uint64(len(leaves)), Validators: []byte{0, 1, 2, 3}}
		var err error
		l.Set, l.Weight, err = reward.SetHash(leaves)
		c.must(err)
		return due.Type, l
	case ledger.TypeDay:
		d, err := c.replay.NextDay(c.proofs())
		c.must(err)
		tree, err := reward.NewTree(reward.Order(d.Order, c.leaves()))
		c.must(err)
		d.Root = tree.Root().Hash
		return due.Type, d
	default:
		b, err := c.replay.NextBlock(c.proofs())
		c.must(err)
		return due.Type, b
	}
}

func (c *court) payload(r any) []byte {
	c.t.Helper()
	b, err := ledger.EncodePayload(r.(interface{ Validate() error }))
	c.must(err)
	return b
}

// cosign asks all validators that are there.
func (c *court) cosign(t ledger.Type, payload []byte) (s ledger.Sealed, refusals []error) {
	c.t.Helper()
	s.Payload = payload
	refusals = make([]error, len(c.seats))
	for i := range c.seats {
		err := c.bring(i, c.told)
		if err == nil {
			var one ledger.Cosignature
			if one, err = c.clients[i].Cosign(c.t.Context(), t, payload); err == nil {
				s.Cosignatures = append(s.Cosignatures, one)
			}
		}
		refusals[i] = err
	}
	return s, refusals
}

// step makes and seals what is due, with every validator's cosignature.
func (c *court) step() ledger.Type {
	c.t.Helper()
	t, r := c.record()
	s, refusals := c.cosign(t, c.payload(r))
	c.must(errors.Join(refusals...))
	b, err := s.Encode()
	c.must(err)
	c.log(disclosure.Entry{Type: t, Body: b})
	return t
}

// until steps until what is due is of a type and a day.
func (c *court) until(t ledger.Type, day uint32) {
	c.t.Helper()
	for range 100 {
		if d := c.replay.Due(); d.Type == t && d.Day == day {
			return
		}
		c.step()
	}
	c.t.Fatalf("%v of day %d never comes", t, day)
}

// begun returns a court with two owners, of whom each has 100 km from day 3 on, before the first block of that day.
func begun(t testing.TB) *court {
	t.Helper()
	c := newCourt(t)
	c.log(c.bind("anna"))
	c.log(c.bind("ben"))
	c.step()
	c.step()
	c.credit("anna")
	c.credit("ben")
	c.until(ledger.TypeBlock, 3)
	return c
}
