package seal

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/report"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	carID    = "CAR1"
	firstDay = 20_000
)

var (
	program = wire.ID([]byte("program"))
	lock    = claim.Lock{Environment: wire.Development, Circuit: wire.ID([]byte("c")), ProvingKey: wire.ID([]byte("p")), VerifyingKey: wire.ID([]byte("v"))}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() (*ecdsa.PrivateKey, wire.PublicKey) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return k, must(wire.NewPublicKey(k.Public()))
}

func mileage(serial uint16, km ...uint32) *terms.Policy {
	p := &terms.Policy{Version: wire.Version, Program: program, Serial: serial, Kind: terms.KindMileage, ToDay: 1 << 30,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(), CapKm: 5000}
	for _, k := range km {
		r := wire.Row{B: int64(k) * 1000}
		r.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, terms.Tier{Km: k, Rows: []wire.Row{r}})
	}
	return p
}

func charter() *terms.Charter {
	return &terms.Charter{Version: wire.Version, Program: program, Serial: 1, Kinds: []string{terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200,
		Usage: terms.Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 10, 1, 1}, YearlyDispatches: 366}}
}

// days and allow are drivers that do not change their minds.
func each(n int) func() int { return func() int { return n } }

func allow(f wire.Family) func() wire.Family { return func() wire.Family { return f } }

// ecu plays the attestation ECU: one snapshot a day, the last 32 kept.
type ecu struct {
	key  *ecdsa.PrivateKey
	pub  wire.PublicKey
	day  uint32
	seq  uint64
	at   wire.Counters
	kept []attest.Message
}

func (e *ecu) snapshot(day uint32, metres uint32) attest.Message {
	e.day = day
	e.at[wire.OdometerM] += metres
	m := attest.Message{Opening: wire.Opening{Counters: e.at}}
	must(rand.Read(m.Opening.Salt[:]))
	m.Snapshot = must(attest.Sign(e.key, program, e.seq, day, claim.Commit(m.Opening)))
	e.seq++
	if e.kept = append(e.kept, m); len(e.kept) > attest.MaxLast {
		e.kept = e.kept[1:]
	}
	return m
}

// quickProver stands in for Groth16 where what is proven does not matter: its proof is a hash of the statement and a nonce.
type quickProver struct{}

func (quickProver) Prove(s claim.Statement, from, to wire.Opening) (p wire.Proof, err error) {
	if err := s.Check(from, to); err != nil {
		return p, err
	}
	h := digest(s)
	copy(p[:], h[:])
	_, err = rand.Read(p[32:])
	return p, err
}

func digest(s claim.Statement) [32]byte { return sha256.Sum256(fmt.Append(nil, s)) }

// collector plays the other end by the design's rules.
type collector struct {
	head     *wire.Head
	unknown  bool
	policies []*terms.Policy
	verify   func(claim.Statement, wire.Proof) error
	device   wire.PublicKey
	pub      *ecdsa.PublicKey
	today    func() uint32

	// old are the bindings of keys whose ECUs left the car.
	old map[wire.KeyID]*binding
	// sales are the cuts at which the car was sold, ascending, and owners what was earned before each and behind the last.
	sales  []sale
	owners []uint32

	claims   []*wire.Claim // accepted, in order
	km       uint32
	receipts map[wire.Hash]*wire.Receipt
	reports  map[uint32][]byte // by epoch
	days     map[uint32]int    // reports by day of arrival
	twice    []uint32          // epochs for which two different reports came
}

func (c *collector) answer(kind wire.Kind, body []byte) *wire.Receipt {
	id := wire.ID(body)
	if r, ok := c.receipts[id]; ok {
		return r
	}
	r := &wire.Receipt{Version: wire.Version, Submission: id, Vehicle: carID}
	switch {
	case c.unknown:
		r.Reason = wire.ReasonUnknownVehicle
	case kind == wire.KindReport:
		r.Reason = c.report(body)
	default:
		r.Reason = c.credit(body, r)
	}
	r.Accepted = r.Reason == ""
	c.receipts[id] = r
	return r
}

func (c *collector) report(body []byte) wire.Reason {
	rep, err := wire.OpenReport(c.device, carID, body)
	if err != nil {
		return wire.ReasonSignature
	}
	if old, ok := c.reports[rep.Epoch]; ok && !bytes.Equal(old, body) {
		c.twice = append(c.twice, rep.Epoch)
		return wire.ReasonEpoch
	}
	c.reports[rep.Epoch] = body
	c.days[c.today()]++
	return ""
}

// A binding is a key's that is closed at cut; unknown ones are of no vehicle.
type binding struct {
	pub     *ecdsa.PublicKey
	head    *wire.Head
	cut     uint64
	unknown bool
}

// credit judges a claim under the binding of its key.
func (c *collector) credit(body []byte, r *wire.Receipt) wire.Reason {
	cl, err := wire.DecodeClaim(body)
	if err != nil {
		return wire.ReasonMalformed
	}
	b := c.old[cl.ECU]
	if b == nil && len(c.sales) > 0 {
		return c.sold(cl, r)
	}
	if b == nil {
		defer func() { r.Head = c.head }()
		return c.claim(cl, r)
	}
	pub, head := c.pub, c.head
	c.pub, c.head = b.pub, b.head
	defer func() { r.Head, b.head, c.pub, c.head = c.head, c.head, pub, head }()
	switch {
	case b.unknown:
		return wire.ReasonUnknownKey
	case cl.To.Seq > b.cut:
		return wire.ReasonRevoked
	}
	return c.claim(cl, r)
}

// A sale divides what the ECU in the car counted. head is how far it was claimed for the seller.
type sale struct{ cut, head wire.Head }

// sell has the car earn for another owner from a cut on.
func (c *collector) sell(cut wire.Head) {
	c.sales = append(c.sales, sale{cut, *c.head})
	c.head = &cut
}

// sold judges a claim as package credit does: under the owner in whose time it ends, and a claim across a cut up to which not all is claimed
// is to be divided there.
func (c *collector) sold(cl *wire.Claim, r *wire.Receipt) wire.Reason {
	at := slices.IndexFunc(c.sales, func(s sale) bool { return cl.To.Seq <= s.cut.Seq })
	if at < 0 {
		at = len(c.sales)
	}
	c.owners = append(c.owners, make([]uint32, len(c.sales)+1-len(c.owners))...)
	for _, s := range c.sales[:at] {
		if cl.From.Seq < s.cut.Seq && s.head.Seq < s.cut.Seq {
			r.Head = &s.cut
			return wire.ReasonGap
		}
	}
	before, head := c.km, c.head
	if at < len(c.sales) {
		c.head = &c.sales[at].head
	}
	why := c.claim(cl, r)
	if r.Head = c.head; at < len(c.sales) {
		c.sales[at].head, c.head = *c.head, head
	}
	c.owners[at] += c.km - before
	return why
}

func (c *collector) claim(cl *wire.Claim, r *wire.Receipt) wire.Reason {
	from, whole := cl.From.Snapshot()
	if !whole || attest.Verify(c.pub, program, from) != nil || attest.Verify(c.pub, program, cl.To) != nil {
		return wire.ReasonSignature
	}
	switch {
	case cl.To.Day > c.today()+1:
		return wire.ReasonFuture
	case from.Seq < c.head.Seq:
		return wire.ReasonStale
	case from.Seq > c.head.Seq && !cl.Forfeit:
		return wire.ReasonGap
	case from.Seq == c.head.Seq && from.Head() != *c.head:
		return wire.ReasonStale
	}
	for _, p := range cl.Proofs {
		for _, policy := range c.policies {
			if policy.Serial != p.Policy {
				continue
			}
			s := claim.Statement{From: from.Commitment, To: cl.To.Commitment, Rows: policy.Statement(int(p.Tier))}
			if c.verify(s, p.Proof) != nil {
				return wire.ReasonProof
			}
			km := policy.Credit(int(p.Tier), cl.To.Day-from.Day)
			r.Credits = append(r.Credits, wire.Credit{Policy: p.Policy, Km: km, Effective: c.today() + 1})
			c.km += km
		}
	}
	head := cl.To.Head()
	c.head = &head
	c.claims = append(c.claims, cl)
	return ""
}

// usage counts one minute an hour for each day since it was consumed.
type usage struct{ days, taken int64 }

func (u *usage) Take(context.Context) (v [wire.VectorLen]int64, consume func(context.Context) error, err error) {
	n := u.days
	for i := range v {
		v[i] = n
	}
	return v, func(context.Context) error { u.days -= n; u.taken += n; return nil }, nil
}

// world is one car and its collector around stores that can be reopened.
type world struct {
	t      *testing.T
	dir    string
	now    time.Time
	ecu    *ecu
	col    *collector
	use    *usage
	device *ecdsa.PrivateKey
	change func(*Config)
	asked  []uint8
	mute   bool // the ECU does not answer requests
	guard  *crash
	// What the car knows of the rules, and how often it asked for news.
	policies []*terms.Policy
	provable func(*terms.Policy) error
	prover   Prover
	lacking  []uint16 // serials of the policies whose key is not here
	news     int
	unheard  error // why the collector's record of the budget was not compared

	db, budgetDB *badger.DB
	spool        *spool.Spool
	journal      *journal.Journal
	ledger       *budget.Ledger
	sealer       *Sealer
}

func newWorld(t *testing.T, change func(*Config)) *world {
	w := &world{t: t, dir: t.TempDir(), ecu: &ecu{at: wire.Counters{100_000_000}}, use: &usage{}, change: change, guard: &crash{},
		policies: []*terms.Policy{mileage(1, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640)}, prover: quickProver{}}
	w.ecu.key, w.ecu.pub = newKey()
	var devicePub wire.PublicKey
	w.device, devicePub = newKey()
	w.setDay(firstDay)
	w.col = &collector{
		receipts: make(map[wire.Hash]*wire.Receipt), reports: make(map[uint32][]byte), days: make(map[uint32]int),
		device: devicePub, pub: must(w.ecu.pub.Key()), today: func() uint32 { return w.timing().Day(w.now) },
		verify: func(s claim.Statement, p wire.Proof) error {
			if digest(s) != [32]byte(p[:32]) {
				return fmt.Errorf("another statement")
			}
			return nil
		},
	}
	birth := w.ecu.snapshot(firstDay, 0)
	head := birth.Snapshot.Head()
	w.col.head = &head
	w.open()
	t.Cleanup(w.close)
	return w
}

func (*world) timing() terms.Timing { return terms.Timing{DayS: 86400, DropS: 600} }

// setDay moves the clock to the noon of a program day.
func (w *world) setDay(day uint32) { w.now = w.timing().DayStart(day).Add(12 * time.Hour) }

func (w *world) config() Config {
	cfg := Config{
		DB: w.db, Spool: crashSpool{w.spool, w.guard}, Journal: crashJournal{w.journal, w.guard},
		Clock:   terms.Clock{Timing: w.timing(), Now: func() time.Time { return w.now }},
		Program: program, Vehicle: carID, ECU: w.ecu.pub, Charter: charter(), CharterID: wire.ID([]byte("charter")),
		Rules: func() cut.Rules {
			return cut.Rules{Program: program, Charter: charter(), Policies: w.policies, Kinds: []string{terms.KindSafe, "feature/assist"}, AgentVersion: "1.0.0", Provable: w.provable}
		},
		Prover: func(p *terms.Policy) (Prover, bool) {
			return crashProver{w.prover, w.guard}, !slices.Contains(w.lacking, p.Serial)
		},
		News:   func() { w.news++ },
		Device: crashSigner{w.device, w.guard}, Budget: w.ledger, MaxDelay: 1, Usage: crashUsage{w.use, w.guard}, Heard: func() error { return w.unheard },
		RequestResend: func(_ context.Context, n uint8) error {
			w.asked = append(w.asked, n)
			if !w.mute {
				for _, m := range w.ecu.kept[max(0, len(w.ecu.kept)-int(n)):] {
					if err := w.deliver(m); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	if w.change != nil {
		w.change(&cfg)
	}
	return cfg
}

func (w *world) open() {
	log := slog.New(slog.DiscardHandler)
	w.db = must(flash.Open(flash.Config{Dir: filepath.Join(w.dir, "spool"), Logger: log}))
	w.budgetDB = must(flash.Open(flash.Config{Dir: filepath.Join(w.dir, "budget"), Logger: log}))
	w.spool = must(spool.Open(spool.Config{DB: w.db, Logger: log}))
	w.journal = must(journal.Open(journal.Config{DB: w.db, Logger: log}))
	limit := must(budget.YearLimit(report.Cost(&charter().Usage), 52))
	w.ledger = must(budget.New(budget.Config{DB: w.budgetDB, Anchor: filepath.Join(w.dir, "anchor"), Limit: limit}))
	w.col.policies = w.policies
	var err error
	if w.sealer, err = New(w.config()); err != nil {
		w.t.Fatal(err)
	}
}

// rule has the car and the collector go by other policies.
func (w *world) rule(policies ...*terms.Policy) {
	w.policies, w.col.policies = policies, policies
	w.sealer.Wake()
}

func (w *world) close() {
	w.ledger.Close()
	w.db.Close()
	w.budgetDB.Close()
}

// start does what Run does first.
func (w *world) start() { w.sealer.asker.Ask(w.t.Context(), attest.MaxLast) }

func (w *world) deliver(m attest.Message) error {
	return w.sealer.Deliver(w.t.Context(), must(m.Encode()))
}

// settle lets the sealer work until it has nothing to do on this day.
func (w *world) settle() {
	w.t.Helper()
	for range 50 {
		wait, err := w.sealer.turn(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if wait > w.sealer.cfg.ResendWait {
			return
		}
		w.now = w.now.Add(wait)
	}
	w.t.Fatal("the sealer does not settle")
}

// waiting returns what leaves next: what is sealed on a day leaves on the next one.
func (w *world) waiting(kind wire.Kind) (id wire.Hash, b []byte, ok bool) {
	w.tomorrow(func() { id, b, ok = w.spool.Next(kind, w.now) })
	return id, b, ok
}

// tomorrow does something a day later.
func (w *world) tomorrow(f func()) {
	today := w.now
	w.now = today.Add(24 * time.Hour)
	defer func() { w.now = today }()
	f()
}

// exchange has the collector answer what leaves on the next day: claims as if it were this one, so that a refused one's wait is counted from it.
func (w *world) exchange() {
	w.t.Helper()
	for range 200 {
		w.settle()
		idle := true
		if _, body, ok := w.waiting(wire.KindClaim); ok {
			idle = false
			w.receive(wire.KindClaim, body)
		}
		if _, body, ok := w.waiting(wire.KindReport); ok {
			idle = false
			w.tomorrow(func() { w.receive(wire.KindReport, body) })
		}
		if idle {
			return
		}
	}
	w.t.Fatal("the exchange does not end")
}

func (w *world) receive(kind wire.Kind, body []byte) {
	w.t.Helper()
	r := w.col.answer(kind, body)
	if err := r.Validate(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.sealer.HandleReceipt(w.t.Context(), kind, body, r, []byte("signed")); err != nil {
		w.t.Fatal(err)
	}
}

// drive plays days: each the metres driven on the day before, then a snapshot that the agent gets.
func (w *world) drive(metres ...uint32) {
	w.t.Helper()
	for _, m := range metres {
		day := w.ecu.day + 1
		w.setDay(day)
		w.use.days++
		if err := w.deliver(w.ecu.snapshot(day, m)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) spans() (s [][2]uint32) {
	for _, c := range w.col.claims {
		s = append(s, [2]uint32{c.From.Day - firstDay, c.To.Day - firstDay})
	}
	return s
}
