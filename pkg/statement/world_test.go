package statement

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/pkg/account"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func public(k vectortest.Signer) wire.PublicKey { return must(wire.NewPublicKey(k.Public())) }

// A world makes a log, the same each time, and the statement of one of its accounts, by rules of its own: it shares with the verifier only the
// packages ledger, account and reward. It can lie as an operator can who holds every validator's key.
type world struct {
	t                   testing.TB
	root, policy, owner vectortest.Signer
	program             *terms.Program
	signed              []byte
	id                  wire.Hash
	validators          []*ledger.ValidatorKey
	log                 [][]byte
	roots               []wire.Hash // of the trees of the log's first entries
	hashes              *compact.Range
	kms                 map[string]map[uint32]uint64

	drop, height, carry, supply uint64
	cultivated, boxes, redeemed uint64
	previous, policies          wire.Hash
	day                         uint32
	begun                       bool
	tree                        *reward.Tree
	ordered                     []reward.Leaf
	from, to                    uint64
	steps                       []step
	closed                      []closed // before the last block
	asked                       []closed // since
	milli                       uint64
	crystals                    uint64
	ecu                         wire.PublicKey
	seq                         uint64
	offers                      *cultivation.Offers
	lie                         func(b *ledger.Block)            // before the proofs are made
	lieAfter                    func(b *ledger.Block)            // after
	forget                      func(account string) (km uint64) // kilometres left out of a day's leaves
	out                         func(drop uint64) int            // the validator that gives no proof
	signers                     []int                            // of the newest block
}

// A closed box waits for the second block after its request.
type closed struct {
	number uint64
	box    cultivation.Box
	owner  bool
}

// A step is a record of the statement of anna, to be made when the newest block is known.
type step struct {
	number  uint64 // of the entry
	record  Record
	block   *ledger.Block
	sealed  []byte
	entry   bool
	balance Close // after a block
}

const anna = "anna"

func newWorld(t testing.TB, timing terms.Timing) *world {
	t.Helper()
	w := &world{t: t, root: vectortest.Key(t, "root"), policy: vectortest.Key(t, "policy"), owner: vectortest.Key(t, "owner"), kms: make(map[string]map[uint32]uint64), signers: []int{0, 2}}
	key := func(name string) wire.PublicKey { return public(vectortest.Key(t, name)) }
	w.ecu = key("ecu")
	w.program = &terms.Program{
		Version: wire.Version, Name: "vector", Environment: wire.Development, Timing: timing,
		Receipt: wire.KeySet{key("receipt")}, Policy: wire.KeySet{public(w.policy)},
		Board: wire.KeySet{key("board-1")}, BoardQuorum: 1, Quorum: 2, LogKey: "vector/ledger+00+key",
	}
	for i := range 3 {
		k := validator(fmt.Sprintf("validator-%d", i))
		w.validators, w.program.Validators = append(w.validators, k), append(w.program.Validators, k.Public())
	}
	w.signed = must(terms.SealProgram(w.root, w.program))
	w.id = wire.ID(w.signed)
	w.append(ledger.TypeProgram, w.signed)
	return w
}

func validator(name string) *ledger.ValidatorKey {
	c, v := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
	return must(ledger.ParseValidatorKey(pem.EncodeToMemory(&pem.Block{
		Type: "RAWSTONE VALIDATOR KEY", Headers: map[string]string{"Name": name}, Bytes: slices.Concat(c[:], v[:]),
	})))
}

func secret(account string) [32]byte { return vectortest.Hash("secret " + account) }

func (w *world) salt() [32]byte { return vectortest.Hash(fmt.Sprintf("salt %d", len(w.log))) }

func (w *world) today() uint32 { return w.program.Timing.Day(w.program.Timing.DropTime(w.drop)) }

func (w *world) append(t ledger.Type, body []byte) (number uint64) {
	number = uint64(len(w.log))
	w.log = append(w.log, must((&ledger.Entry{Number: number, Type: t, Body: body}).Encode()))
	if number == 0 {
		w.hashes, w.roots = (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0), []wire.Hash{{}}
	}
	if err := w.hashes.Append(rfc6962.DefaultHasher.HashLeaf(w.log[number]), nil); err != nil {
		panic(err)
	}
	w.roots = append(w.roots, wire.Hash(must(w.hashes.GetRootHash(nil))))
	return number
}

// own logs an entry of anna's.
func (w *world) own(t ledger.Type, body, opening any) uint64 {
	n := w.append(t, must(codec.Encode(body)))
	w.steps = append(w.steps, step{number: n, entry: true, record: Record{Entry: &Entry{Entry: w.log[n], Opening: must(codec.Encode(opening))}}})
	return n
}

// document logs a charter, policy or witness change.
func (w *world) document(t ledger.Type, body []byte) {
	w.policies = ledger.ChainPolicy(w.policies, body)
	w.steps = append(w.steps, step{number: w.append(t, body), record: Record{Document: &Document{t, body}}})
}

func (w *world) announce(serial uint16, fromDay uint32) {
	w.offers = &cultivation.Offers{Version: wire.Version, Program: w.id, Serial: serial, FromDay: fromDay,
		Tasks: []cultivation.Task{{ID: "survey", Title: "Survey", Crystals: 30, Daily: 300, Total: 3000}},
		Boxes: []cultivation.OfferedBox{{ID: "small", Title: "Small box", Cost: 10,
			Owners: []cultivation.Odds{{Parts: 400_000, Prize: cultivation.Prize{Milli: 1500}}, {Parts: 300_000, Prize: cultivation.Prize{Crystals: 7}}, {Parts: 300_000, Prize: cultivation.Prize{Goods: "mug"}}},
			Others: []cultivation.Odds{{Parts: 1_000_000, Prize: cultivation.Prize{Crystals: 1}}}}},
		Catalogue: []cultivation.Item{{ID: "mug", Title: "Mug", Milli: 2500, Fen: 100}}}
	n := w.append(ledger.TypeOffers, must(cultivation.SealOffers(w.policy, w.offers)))
	w.steps = append(w.steps, step{number: n, entry: true, record: Record{Entry: &Entry{Entry: w.log[n]}}})
}

func (w *world) bind() {
	o := &ledger.BindingOpening{Salt: w.salt(), Vehicle: "CAR1", Account: anna, ECU: w.ecu}
	w.own(ledger.TypeBinding, ledger.Binding{Blind: must(o.Blind())}, o)
}

func (w *world) handover() {
	o := &ledger.HandoverOpening{Salt: w.salt(), ECU: w.ecu.ID(), Cut: w.seq}
	w.own(ledger.TypeHandover, ledger.Handover{Blind: must(o.Blind())}, o)
}

func (w *world) earn(account string, km, effective uint32) {
	if w.kms[account] == nil {
		w.kms[account] = make(map[uint32]uint64)
	}
	w.kms[account][effective] += uint64(km)
}

// credit logs a credit of anna's that counts from tomorrow on.
func (w *world) credit(km uint32) uint64 {
	w.seq++
	o := &ledger.CreditOpening{Salt: w.salt(), Account: anna, ECU: w.ecu.ID(), ToSeq: w.seq, Kind: terms.KindMileage}
	w.earn(anna, km, w.today()+1)
	return w.own(ledger.TypeCredit, ledger.Credit{Blind: must(o.Blind()), Km: km, Effective: w.today() + 1}, o)
}

// others logs credits of other accounts.
func (w *world) others(n int, km uint32) {
	for i := range n {
		w.earn(fmt.Sprintf("other %d", i), km, w.today()+1)
		w.append(ledger.TypeCredit, must(codec.Encode(ledger.Credit{Blind: wire.Hash{byte(i)}, Km: km, Effective: w.today() + 1})))
	}
}

func (w *world) change(activated uint32) {
	o := &account.ChangeOpening{Salt: w.salt(), Account: anna, Key: public(w.owner), Activated: activated}
	w.own(ledger.TypeAccount, account.Change{Blind: must(o.Blind())}, o)
}

func (w *world) grant(crystals uint32) {
	o := &account.GrantOpening{Salt: w.salt(), Account: anna, Task: "survey", Reference: wire.Hash{byte(len(w.log))}}
	w.crystals += uint64(crystals)
	w.own(ledger.TypeGrant, account.Grant{Blind: must(o.Blind()), Crystals: crystals, Day: w.today()}, o)
}

func (w *world) box(nonce byte, owner bool) {
	r := must(account.SealBoxRequest(w.owner, &account.BoxRequest{Program: w.id, Account: anna, Nonce: [16]byte{nonce}, Offers: w.offers.Serial, Box: "small", Until: w.today() + 1}))
	o := &account.RequestOpening{Salt: w.salt(), Account: anna, Request: r}
	w.crystals -= 10
	n := w.own(ledger.TypeBox, account.Box{Blind: must(o.Blind()), Day: w.today(), Offers: w.offers.Serial, Box: "small", Owner: owner}, o)
	w.asked = append(w.asked, closed{n, must(w.offers.Boxes[0].Box()), owner})
}

func (w *world) redeem(nonce byte, milli uint64) {
	r := must(account.SealRedemptionRequest(w.owner, &account.RedemptionRequest{Program: w.id, Account: anna, Nonce: [16]byte{nonce}, Offers: w.offers.Serial, Item: "mug", Milli: 2500, Fen: 100, Until: w.today() + 1}))
	o := &account.RequestOpening{Salt: w.salt(), Account: anna, Request: r}
	w.milli -= milli
	w.redeemed += milli
	w.own(ledger.TypeRedemption, account.Redemption{Blind: must(o.Blind()), Day: w.today(), Milli: milli}, o)
}

// block draws the next drop, after the day's leaves and order when it is the first of a day.
func (w *world) block() {
	day := w.today()
	if !w.begun || day != w.day {
		w.begin(day)
	}
	line := w.tree.Line()
	b := &ledger.Block{Drop: w.drop, Time: w.program.Timing.DropTime(w.drop).Unix(), Previous: w.previous, Program: w.id, Policies: w.policies, Day: day,
		Root: w.tree.Root().Hash, Count: w.tree.Root().Count, Weight: w.tree.Root().Sum, CreditFrom: w.from, CreditTo: w.to,
		Height: w.height, Carry: w.carry, Supply: w.supply, Size: uint64(len(w.log)), LogRoot: w.roots[len(w.log)], Cultivated: w.cultivated, Boxes: w.boxes, Redeemed: w.redeemed}
	if b.Weight > 0 {
		b.Units, b.Carry, _ = reward.Units(b.Height, b.Carry)
		b.Supply += b.Units * reward.Unit
	}
	if w.lie != nil {
		w.lie(b)
	}
	alpha := ledger.DrawAlpha(b.Root, b.Drop)
	validators := make([]terms.Validator, len(w.validators))
	for i, v := range w.validators {
		validators[i] = v.Public()
		if w.out != nil && w.out(b.Drop) == i {
			b.Withheld = []byte{byte(i)}
			continue
		}
		b.Proofs = append(b.Proofs, v.Prove(uint8(i), alpha))
	}
	b.Seed = must(ledger.Seed(validators, alpha, b.Proofs))
	units := uint64(0)
	if at := slices.IndexFunc(w.ordered, func(l reward.Leaf) bool { return l.Pseudonym == reward.Pseudonym(secret(anna), day) }); at >= 0 && b.Weight > 0 {
		units = must(must(reward.NewDraw(b.Seed, b.Units, b.Weight)).Share(line.Interval(at)))
	}
	w.milli += units * reward.Unit
	for _, c := range w.closed {
		p := c.box.Open(b.Seed, c.number, c.owner)
		w.milli, w.crystals, b.Cultivated, b.Boxes = w.milli+p.Milli, w.crystals+uint64(p.Crystals), b.Cultivated+p.Milli, b.Boxes+1
	}
	w.closed, w.asked = w.asked, nil
	b.Reserved = 1500 * uint64(len(w.closed))
	if w.lieAfter != nil {
		w.lieAfter(b)
	}
	payload := must(ledger.EncodePayload(b))
	s := ledger.Sealed{Payload: payload}
	for _, i := range w.signers {
		s.Cosignatures = append(s.Cosignatures, w.validators[i].Cosign(uint8(i), w.id, ledger.TypeBlock, payload))
	}
	sealed := must(s.Encode())
	n := w.append(ledger.TypeBlock, sealed)
	w.steps = append(w.steps, step{number: n, block: b, sealed: sealed, record: Record{Block: &Block{payload, units}}, balance: Close{w.milli, w.crystals}})
	w.previous = ledger.PayloadHash(ledger.TypeBlock, payload)
	if b.Weight > 0 {
		w.height++
	}
	w.drop, w.carry, w.supply, w.cultivated, w.boxes = w.drop+1, b.Carry, b.Supply, b.Cultivated, b.Boxes
}

// begin begins a day: entries in the place of its leaves and order, and its tree.
func (w *world) begin(day uint32) {
	var leaves []reward.Leaf
	for account, days := range w.kms {
		km := uint64(0)
		for effective, n := range days {
			if reward.Counts(day, effective) {
				km += n
			}
		}
		if w.forget != nil {
			km -= min(km, w.forget(account))
		}
		if km > 0 {
			leaves = append(leaves, reward.Leaf{Pseudonym: reward.Pseudonym(secret(account), day), Weight: km})
		}
	}
	w.to = w.append(ledger.TypeLeaves, []byte("leaves"))
	w.append(ledger.TypeDay, []byte("day"))
	w.ordered = reward.Order(wire.Hash{byte(day)}, leaves)
	w.tree, w.day, w.begun = must(reward.NewTree(w.ordered)), day, true
	w.from = 0
	if at := slices.IndexFunc(w.ordered, func(l reward.Leaf) bool { return l.Pseudonym == reward.Pseudonym(secret(anna), day) }); at >= 0 {
		w.steps = append(w.steps, step{number: w.to, record: Record{Day: &Day{day, w.ordered[at].Weight, must(w.tree.Path(at))}}})
	}
}

// blocks draws n drops.
func (w *world) blocks(n int) {
	for range n {
		w.block()
	}
}

// until draws drops until the next is of a day.
func (w *world) until(day uint32) {
	for w.today() < day {
		w.block()
	}
}

// path proves an entry in the tree of the first size entries.
func (w *world) path(number, size uint64) (path []wire.Hash) {
	nodes := must(proof.Inclusion(number, size))
	var hashes [][]byte
	for _, id := range nodes.IDs {
		begin, end := id.Coverage()
		tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
		for _, e := range w.log[begin:end] {
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
				panic(err)
			}
		}
		hashes = append(hashes, must(tree.GetRootHash(nil)))
	}
	for _, h := range must(nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)) {
		path = append(path, wire.Hash(h))
	}
	return path
}

// statement returns the records of anna's statement from a drop on, up to the last block. With a base it is a whole one.
func (w *world) statement(from uint64, based bool) (records []*Record) {
	last := w.steps[len(w.steps)-1]
	if last.block == nil {
		w.t.Fatal("the last step is no block")
	}
	records = append(records, &Record{Opening: &Opening{Version: Version, Account: anna, Secret: secret(anna), Program: w.signed, From: from, Newest: last.sealed}})
	begun := from == 0
	for _, s := range w.steps {
		r := s.record
		if s.entry {
			e := *r.Entry
			e.Path = w.path(s.number, last.block.Size)
			r.Entry = &e
		}
		switch {
		case s.block != nil && s.block.Drop+1 == from:
			begun = true
			if !based {
				continue
			}
			r = Record{Base: r.Block.Payload}
		case begun:
		case based && (r.Document != nil || r.Entry != nil && must(ledger.DecodeEntry(r.Entry.Entry)).Type == ledger.TypeOffers):
		default:
			continue
		}
		records = append(records, &r)
	}
	return append(records, &Record{Close: &last.balance})
}

func encode(records []*Record) []byte {
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range records {
		if err := w.Write(r); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (w *world) verify(records []*Record, from *State) (*Report, *State, error) {
	return Verify(bytes.NewReader(encode(records)), Config{Root: public(w.root), Account: anna, State: from})
}

func idOf(b []byte) wire.Hash { return wire.ID(b) }
