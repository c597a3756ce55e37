package audit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// An author writes logs as an honest operator would, and holds every key, so that a test can make it lie under good signatures.
type author struct {
	t          testing.TB
	root       *ecdsa.PrivateKey
	policy     *ecdsa.PrivateKey
	board      []crypto.Signer
	validators []*ledger.ValidatorKey
	program    *terms.Program
	programID  wire.Hash
	logSecret  string

	replay   *Replay
	entries  []*ledger.Entry
	openings *opening.Set
	accounts map[string][32]byte
	ecus     map[string]wire.PublicKey
	weights  map[string]map[uint32]uint64
	seq      uint64

	ordered []reward.Leaf // of the day
	balance map[string]uint64
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

// Days of four drops; genesis in the middle of day 2.
var timing = terms.Timing{GenesisS: 100, DayS: 40, DropS: 10}

func newAuthor(t testing.TB, validators int, quorum uint8) *author {
	t.Helper()
	return newAuthorOn(t, validators, quorum, timing)
}

func newAuthorOn(t testing.TB, validators int, quorum uint8, timing terms.Timing) *author {
	t.Helper()
	a := &author{t: t, openings: new(opening.Set), accounts: make(map[string][32]byte), ecus: make(map[string]wire.PublicKey), weights: make(map[string]map[uint32]uint64), balance: make(map[string]uint64)}
	var rootPub, policyPub, receiptPub, boardPub wire.PublicKey
	a.root, rootPub = newKey(t)
	a.policy, policyPub = newKey(t)
	_, receiptPub = newKey(t)
	board, boardPub := newKey(t)
	a.board = []crypto.Signer{board}
	secret, verifier, err := tlog.GenerateKey("log.example")
	a.must(err)
	a.logSecret = secret
	a.program = &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: timing,
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub}, BoardQuorum: 1, Quorum: quorum, LogKey: verifier}
	for i := range validators {
		k, err := ledger.GenerateValidatorKey(fmt.Sprintf("validator%d.example", i))
		a.must(err)
		a.validators = append(a.validators, k)
		a.program.Validators = append(a.program.Validators, k.Public())
	}
	a.replay, err = NewReplay(rootPub, a.openings)
	a.must(err)
	signed, err := terms.SealProgram(a.root, a.program)
	a.must(err)
	a.programID = wire.ID(signed)
	a.add(ledger.TypeProgram, signed)
	a.add(ledger.TypeCharter, a.charter(1))
	a.add(ledger.TypePolicy, a.mileage(1))
	return a
}

func (a *author) rootKey() wire.PublicKey {
	p, err := wire.NewPublicKey(a.root.Public())
	a.must(err)
	return p
}

func (a *author) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func (a *author) charter(serial uint16) []byte {
	b, err := terms.SealCharter(a.board, &terms.Charter{Version: wire.Version, Program: a.programID, Serial: serial, Kinds: []string{terms.KindMileage},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	a.must(err)
	return b
}

func (a *author) mileage(serial uint16) []byte {
	p := &terms.Policy{Version: wire.Version, Program: a.programID, Serial: serial, Kind: terms.KindMileage, ToDay: 1000, Circuit: wire.Hash{1},
		ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, CapKm: 1000}
	row := wire.Row{B: 40_000}
	row.A[wire.OdometerM] = 1
	top := wire.Row{B: 100_000}
	top.A[wire.OdometerM] = 1
	p.Tiers = []terms.Tier{{Km: 40, Rows: []wire.Row{row}}, {Km: 100, Rows: []wire.Row{top}}}
	b, err := terms.SealPolicy(a.policy, p)
	a.must(err)
	return b
}

// append replays an entry and keeps it.
func (a *author) append(e *ledger.Entry) {
	a.t.Helper()
	a.must(a.replay.Apply(e))
	a.entries = append(a.entries, e)
}

func (a *author) add(t ledger.Type, body []byte) {
	a.t.Helper()
	a.append(a.entry(t, body))
}

func (a *author) entry(t ledger.Type, body []byte) *ledger.Entry {
	return &ledger.Entry{Number: a.replay.Next(), Type: t, Body: body}
}

func (a *author) encode(v any) []byte {
	b, err := codec.Encode(v)
	a.must(err)
	return b
}

// bind makes an account with a car.
func (a *author) bind(account string) {
	a.t.Helper()
	if _, ok := a.accounts[account]; !ok {
		a.accounts[account] = [32]byte([]byte(fmt.Sprintf("%-32s", "secret of "+account)))
		a.openings.AddAccount(account, a.accounts[account])
		a.weights[account] = make(map[uint32]uint64)
	}
	_, pub := newKey(a.t)
	a.ecus[account] = pub
	o := ledger.BindingOpening{Salt: [32]byte{1}, Vehicle: "CAR" + account, Account: account, ECU: pub}
	blind, err := o.Blind()
	a.must(err)
	a.openings.AddBinding(a.replay.Next(), o)
	a.add(ledger.TypeBinding, a.encode(ledger.Binding{Blind: blind}))
}

func (a *author) opening(account string) ledger.CreditOpening {
	a.seq++
	return ledger.CreditOpening{Salt: [32]byte{2, byte(a.seq)}, Account: account, ECU: a.ecus[account].ID(), ToSeq: a.seq, Kind: terms.KindMileage}
}

func (a *author) creditEntry(o ledger.CreditOpening, km, effective uint32) *ledger.Entry {
	blind, err := o.Blind()
	a.must(err)
	a.openings.AddCredit(a.replay.Next(), o)
	return a.entry(ledger.TypeCredit, a.encode(ledger.Credit{Blind: blind, Km: km, Effective: effective}))
}

func (a *author) credit(account string, km, effective uint32) {
	a.t.Helper()
	a.append(a.creditEntry(a.opening(account), km, effective))
	a.weights[account][effective] += uint64(km)
}

// seal has the validators cosign a payload.
func (a *author) seal(t ledger.Type, payload []byte, signers ...byte) *ledger.Entry {
	s := ledger.Sealed{Payload: payload}
	for _, i := range signers {
		s.Cosignatures = append(s.Cosignatures, a.validators[i].Cosign(i, a.programID, t, payload))
	}
	body, err := s.Encode()
	a.must(err)
	return a.entry(t, body)
}

func (a *author) all() (all []byte) {
	for i := range a.validators {
		all = append(all, byte(i))
	}
	return all
}

// set computes the leaves without the replay's help.
func (a *author) set(day uint32) (leaves []reward.Leaf) {
	for account, days := range a.weights {
		l := reward.Leaf{Pseudonym: reward.Pseudonym(a.accounts[account], day)}
		for effective, km := range days {
			if effective < day && effective+30 >= day {
				l.Weight += km
			}
		}
		if l.Weight > 0 {
			leaves = append(leaves, l)
		}
	}
	return leaves
}

func (a *author) nextLeaves() *ledger.Leaves {
	day := a.replay.Due().Day
	l := &ledger.Leaves{Day: day, Validators: a.all()}
	leaves := a.set(day)
	l.Count = uint64(len(leaves))
	var err error
	l.Set, l.Weight, err = reward.SetHash(leaves)
	a.must(err)
	return l
}

func (a *author) proofs(from ...byte) (p []ledger.Proof) {
	for _, i := range from {
		p = append(p, a.validators[i].Prove(i, a.replay.Alpha()))
	}
	return p
}

func (a *author) nextDay(withheld ...byte) *ledger.Day {
	d, err := a.replay.NextDay(a.proofs(a.without(withheld)...), withheld)
	a.must(err)
	a.ordered = reward.Order(d.Order, a.set(d.Day))
	tree, err := reward.NewTree(a.ordered)
	a.must(err)
	d.Root = tree.Root().Hash
	return d
}

func (a *author) without(out []byte) (in []byte) {
	for _, i := range a.all() {
		if !bytes.Contains(out, []byte{i}) {
			in = append(in, i)
		}
	}
	return in
}

func (a *author) nextBlock(withheld ...byte) *ledger.Block {
	b, err := a.replay.NextBlock(a.proofs(a.without(withheld)...), withheld)
	a.must(err)
	return b
}

// payload of the entry that is due, by honest rules.
func (a *author) due(withheld ...byte) (ledger.Type, []byte) {
	var b []byte
	var err error
	t := a.replay.Due().Type
	switch t {
	case ledger.TypeLeaves:
		b, err = ledger.EncodePayload(a.nextLeaves())
	case ledger.TypeDay:
		b, err = ledger.EncodePayload(a.nextDay(withheld...))
	default:
		b, err = ledger.EncodePayload(a.nextBlock(withheld...))
	}
	a.must(err)
	return t, b
}

// pay keeps account of a block by itself.
func (a *author) pay(b *ledger.Block) {
	if b.Weight == 0 {
		return
	}
	draw, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
	a.must(err)
	begin := uint64(0)
	for _, l := range a.ordered {
		n, err := draw.Share(reward.Interval{Begin: begin, End: begin + l.Weight})
		a.must(err)
		begin += l.Weight
		for account, secret := range a.accounts {
			if reward.Pseudonym(secret, b.Day) == l.Pseudonym {
				a.balance[account] += n * reward.Unit
			}
		}
	}
}

// until seals what is due until a drop is.
func (a *author) until(t ledger.Type, drop uint64) {
	a.t.Helper()
	for a.replay.Due().Drop < drop || a.replay.Due().Type < t {
		due, b := a.due()
		a.append(a.seal(due, b, a.all()...))
		if due == ledger.TypeBlock {
			k, err := ledger.DecodeBlock(b)
			a.must(err)
			a.pay(k)
		}
	}
}

// days writes six days of three owners.
func (a *author) days() {
	a.t.Helper()
	for _, account := range []string{"anna", "ben", "chen"} {
		a.bind(account)
	}
	a.credit("anna", 40, 2)
	a.until(ledger.TypeBlock, 0)
	a.credit("ben", 12, 3)
	a.until(ledger.TypeBlock, 5)
	a.credit("anna", 100, 4)
	a.credit("chen", 7, 5)
	a.until(ledger.TypeLeaves, 22)
}

func write(t *testing.T, a *author, entries []*ledger.Entry) string {
	t.Helper()
	dir := t.TempDir()
	signer, err := note.NewSigner(a.logSecret)
	a.must(err)
	l, err := tlog.Open(t.Context(), tlog.Config{Dir: dir, Signer: signer, Verifier: a.program.LogKey, Logger: slog.New(slog.DiscardHandler)})
	a.must(err)
	var all [][]byte
	for _, e := range entries {
		b, err := e.Encode()
		a.must(err)
		all = append(all, b)
	}
	a.must(l.Append(t.Context(), 0, all...))
	a.must(l.Close())
	return dir
}

func TestAudit(t *testing.T) {
	a := newAuthor(t, 4, 3)
	a.days()
	dir := write(t, a, a.entries)

	stranger, err := Audit(t.Context(), Config{Dir: dir, Root: a.rootKey()})
	if err != nil {
		t.Fatal(err)
	}
	full, err := Audit(t.Context(), Config{Dir: dir, Root: a.rootKey(), Openings: a.openings})
	if err != nil {
		t.Fatal(err)
	}
	// Days 2 to 7: the first of two drops (genesis is in its middle) and without weight, then four drops a day, all with weight.
	want := Report{Entries: 3 + 3 + 4 + 6*2 + 22, Policies: 1, Credits: 4, Blocks: 22, Seeds: 22 + 6, Supply: 20 * 500_000, Scheduled: 20 * 500_000}
	if diff := cmp.Diff(want, stranger); diff != "" {
		t.Error(diff)
	}
	balances := full.Balances
	want.Opened, want.Draws, want.Weights, full.Balances, full.Crystals = true, 22, 1+2+2+3+3, nil, nil
	if diff := cmp.Diff(want, full); diff != "" {
		t.Error(diff)
	}
	sum := uint64(0)
	for _, milli := range balances {
		sum += milli
	}
	if sum != full.Supply || len(balances) != 3 {
		t.Errorf("balances %v add up to %d, want %d", balances, sum, full.Supply)
	}
	if diff := cmp.Diff(a.balance, balances); diff != "" {
		t.Error(diff)
	}
	// Fair shares by hand: day 3 anna alone; days 4 and 5 40:12 and, from day 5 on, 140:12; chen's 7 from day 6 on. Each drop is
	// within one unit of them.
	fair := 4*1000.0 + 4*1000*40/52.0 + 4*1000*140/152.0 + 8*1000*140/159.0
	if got := float64(balances["anna"]) / reward.Unit; got < fair-20 || got > fair+20 {
		t.Errorf("anna has %v units, her fair share is %v", got, fair)
	}
	if s := full.String(); !strings.Contains(s, "10000.000 stones issued") || strings.Contains(s, "\n") {
		t.Errorf("report says %q", s)
	}

	if _, err := Audit(t.Context(), Config{Dir: dir}); err == nil {
		t.Error("an audit that pins no root is accepted")
	}
	_, other := newKey(t)
	if _, err := Audit(t.Context(), Config{Dir: dir, Root: other}); err == nil {
		t.Error("an audit under another root is accepted")
	}
	if _, err := Audit(t.Context(), Config{Dir: dir, Root: a.rootKey(), Openings: new(opening.Set)}); err == nil || !strings.Contains(err.Error(), "entry 3: binding has no opening") {
		t.Errorf("an audit without the openings it was promised: %v", err)
	}
	if _, err := Audit(t.Context(), Config{Dir: write(t, a, append(a.entries[:10:10], a.entries[11:]...)), Root: a.rootKey()}); err == nil || !strings.Contains(err.Error(), "entry 11: its number should be 10") {
		t.Errorf("a missing entry: %v", err)
	}
}

// TestBlocks checks what the replay itself fills in against other code: the chain, the schedule and the log's root.
func TestBlocks(t *testing.T) {
	a := newAuthor(t, 1, 1)
	a.days()
	var stored []xtlog.Hash
	reader := xtlog.HashReaderFunc(func(indexes []int64) (out []xtlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	policies := ledger.ChainPolicy(ledger.ChainPolicy(wire.Hash{}, a.entries[1].Body), a.entries[2].Body)
	var previous wire.Hash
	drop := uint64(0)
	for i, e := range a.entries {
		if e.Type == ledger.TypeBlock {
			s, err := e.Sealed()
			a.must(err)
			b, err := ledger.DecodeBlock(s.Payload)
			a.must(err)
			root, err := xtlog.TreeHash(int64(i), reader)
			a.must(err)
			if b.Size != uint64(i) || b.LogRoot != wire.Hash(root) {
				t.Errorf("checkpoint of drop %d is %d, %s, want %d, %s", drop, b.Size, b.LogRoot, i, root)
			}
			if b.Drop != drop || b.Time != 100+10*int64(drop) || b.Day != uint32(b.Time/40) || b.Previous != previous || b.Program != a.programID || b.Policies != policies {
				t.Errorf("drop %d is %+v", drop, b)
			}
			// Anna's first credit is entry 6; the leaves entries before drops 2, 6 and 10 follow what the days hold.
			if from, to := b.CreditFrom, b.CreditTo; drop < 2 && from != to || drop >= 2 && (from != 6 || a.entries[to].Type != ledger.TypeLeaves) {
				t.Errorf("credits of drop %d are %d to %d", drop, from, to)
			}
			previous = ledger.PayloadHash(ledger.TypeBlock, s.Payload)
			drop++
		}
		b, err := e.Encode()
		a.must(err)
		h, err := xtlog.StoredHashes(int64(i), b, reader)
		a.must(err)
		stored = append(stored, h...)
	}
	if drop != 22 {
		t.Errorf("%d blocks, want 22", drop)
	}
}

// TestLies has all validators of the day cosign what is false: whoever replays the log names it.
func TestLies(t *testing.T) {
	hash := wire.Hash{0xbd}
	lies := []struct {
		name   string
		drop   uint64
		typ    ledger.Type
		opened bool // only who holds the openings can see it
		lie    func(a *author, payload any)
		want   string
	}{
		{"supply", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Supply += 500 }, "block of drop 4: Supply is 1500500, should be 1500000"},
		{"units", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Units++ }, "Units is 1001, should be 1000"},
		{"carry", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Carry++ }, "Carry is 1, should be 0"},
		{"height", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Height++ }, "Height is 3, should be 2"},
		{"height of an empty drop", 1, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Height++ }, "Height is 1, should be 0"},
		{"seed", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Seed = hash }, "Seed is bd"},
		{"skipped drop", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Drop++ }, "Drop is 5, should be 4"},
		{"time", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Time-- }, "Time is 139, should be 140"},
		{"previous", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Previous = hash }, "Previous is bd"},
		{"program", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Program = hash }, "Program is bd"},
		{"policies", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Policies = hash }, "Policies is bd"},
		{"block's root", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Root = hash }, "Root is bd"},
		{"block's weight", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Weight++ }, "Weight is 41, should be 40"},
		{"block's count", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Count++ }, "Count is 2, should be 1"},
		{"first credit", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).CreditFrom-- }, "CreditFrom is 5, should be 6"},
		{"end of credits", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).CreditTo++ }, "CreditTo is 13, should be 12"},
		{"checkpoint size", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).Size-- }, "Size is 15, should be 16"},
		{"rewritten history", 4, ledger.TypeBlock, false, func(a *author, p any) { p.(*ledger.Block).LogRoot = hash }, "LogRoot is bd"},
		{"omitted proof", 4, ledger.TypeBlock, false, func(a *author, p any) {
			b := p.(*ledger.Block)
			b.Proofs = b.Proofs[:3]
		}, "validators with a proof and without are [0 1 2], should be the day's [0 1 2 3]"},
		{"too few proofs", 4, ledger.TypeBlock, false, func(a *author, p any) {
			b := p.(*ledger.Block)
			b.Proofs, b.Withheld = b.Proofs[:2], []byte{2, 3}
		}, "seed has 2 proofs, should have at least 3"},
		{"proof of another drop", 4, ledger.TypeBlock, false, func(a *author, p any) {
			p.(*ledger.Block).Proofs[1] = a.validators[1].Prove(1, ledger.DrawAlpha(a.replay.day.Root, 5))
		}, "VRF proof of validator validator1.example does not match"},
		{"weight more than the credits", 6, ledger.TypeLeaves, false, func(a *author, p any) { p.(*ledger.Leaves).Weight++ }, "total weight of day 4 is 53 km, should be 52 km"},
		{"leaves of another day", 6, ledger.TypeLeaves, false, func(a *author, p any) { p.(*ledger.Leaves).Day++ }, "leaves are of day 5, should be of day 4"},
		{"more leaves than credits", 6, ledger.TypeLeaves, false, func(a *author, p any) { p.(*ledger.Leaves).Count++ }, "number of leaves is 3, should be at most 2"},
		{"too few validators", 6, ledger.TypeLeaves, false, func(a *author, p any) { p.(*ledger.Leaves).Validators = []byte{0, 1} }, "validators of day 4 are [0 1]"},
		{"unknown validator", 6, ledger.TypeLeaves, false, func(a *author, p any) { p.(*ledger.Leaves).Validators[3] = 4 }, "validators of day 4 are [0 1 2 4]"},
		{"leaf left out", 6, ledger.TypeLeaves, true, func(a *author, p any) { p.(*ledger.Leaves).Count-- }, "number of leaves is 1, should be 2"},
		{"weight moved", 6, ledger.TypeLeaves, true, func(a *author, p any) {
			l := p.(*ledger.Leaves)
			leaves := a.set(l.Day)
			leaves[0].Weight--
			leaves[1].Weight++
			var err error
			l.Set, _, err = reward.SetHash(leaves)
			a.must(err)
		}, "hash of the set of leaves is"},
		{"order seed", 6, ledger.TypeDay, false, func(a *author, p any) { p.(*ledger.Day).Order = hash }, "Order is bd"},
		{"order of other leaves", 6, ledger.TypeDay, false, func(a *author, p any) { p.(*ledger.Day).Leaves = hash }, "Leaves is bd"},
		{"day's weight", 6, ledger.TypeDay, false, func(a *author, p any) { p.(*ledger.Day).Weight++ }, "Weight is 53, should be 52"},
		{"day's number", 6, ledger.TypeDay, false, func(a *author, p any) { p.(*ledger.Day).Day++ }, "Day is 5, should be 4"},
		{"root of no leaves", 0, ledger.TypeDay, false, func(a *author, p any) { p.(*ledger.Day).Root = hash }, "should be that of no leaves"},
		{"order of the leaves", 6, ledger.TypeDay, true, func(a *author, p any) {
			d := p.(*ledger.Day)
			ordered := reward.Order(d.Order, a.set(d.Day))
			ordered[0], ordered[1] = ordered[1], ordered[0]
			tree, err := reward.NewTree(ordered)
			a.must(err)
			d.Root = tree.Root().Hash
		}, "weights root is"},
	}
	for _, l := range lies {
		t.Run(l.name, func(t *testing.T) {
			a := newAuthor(t, 4, 3)
			for _, account := range []string{"anna", "ben", "chen"} {
				a.bind(account)
			}
			a.credit("anna", 40, 2)
			a.credit("ben", 12, 3)
			a.until(l.typ, l.drop)
			_, b := a.due()
			var p interface{ Validate() error }
			var err error
			switch l.typ {
			case ledger.TypeLeaves:
				p, err = ledger.DecodeLeaves(b)
			case ledger.TypeDay:
				p, err = ledger.DecodeDay(b)
			default:
				p, err = ledger.DecodeBlock(b)
			}
			a.must(err)
			l.lie(a, p)
			b, err = ledger.EncodePayload(p)
			a.must(err)
			lie := a.seal(l.typ, b, a.all()...)

			check := func(r *Replay, seen bool) {
				err := r.Apply(lie)
				if !seen {
					a.must(err)
					return
				}
				if err == nil || !strings.Contains(err.Error(), l.want) || !strings.Contains(err.Error(), fmt.Sprintf("entry %d:", lie.Number)) {
					t.Fatalf("got %v, want entry %d: … %s", err, lie.Number, l.want)
				}
				if err := r.Check(l.typ, b); err == nil {
					t.Error("a validator would cosign it")
				}
				// What was refused has changed nothing: the truth is still accepted.
				due, truth := a.due()
				a.must(r.Apply(a.seal(due, truth, a.all()...)))
			}
			public, err := NewReplay(a.rootKey(), nil)
			a.must(err)
			for _, e := range a.entries {
				a.must(public.Apply(e))
			}
			check(public, !l.opened)
			if l.opened {
				check(a.replay, true)
			}
		})
	}
}

// TestRefusedEntries are entries that no cosignature covers, or that too few do.
func TestRefusedEntries(t *testing.T) {
	_, stranger := newKey(t)
	evil, _ := newKey(t)
	for _, c := range []struct {
		name string
		make func(a *author) *ledger.Entry
		want string
	}{
		{"forged cosignature", func(a *author) *ledger.Entry {
			typ, b := a.due()
			s := &ledger.Sealed{Payload: b}
			for _, i := range a.all() {
				s.Cosignatures = append(s.Cosignatures, a.validators[0].Cosign(i, a.programID, typ, b))
			}
			body, err := s.Encode()
			a.must(err)
			return a.entry(typ, body)
		}, "cosignature of validator validator1.example does not match"},
		{"too few cosignatures", func(a *author) *ledger.Entry { typ, b := a.due(); return a.seal(typ, b, 0, 2) }, "cosigned by 2 validators, should be at least 3"},
		{"one cosignature three times", func(a *author) *ledger.Entry { typ, b := a.due(); return a.seal(typ, b, 0, 0, 0) }, "ascending order"},
		{"number", func(a *author) *ledger.Entry { e := a.entry(ledger.TypeCharter, a.charter(2)); e.Number++; return e }, "its number should be"},
		{"second program", func(a *author) *ledger.Entry { return a.entry(ledger.TypeProgram, a.entries[0].Body) }, "second program"},
		{"old charter", func(a *author) *ledger.Entry { return a.entry(ledger.TypeCharter, a.charter(1)) }, "charter has serial 1, should be above 1"},
		{"charter of nobody", func(a *author) *ledger.Entry { a.board[0] = evil; return a.entry(ledger.TypeCharter, a.charter(2)) }, "may not sign"},
		{"old policy", func(a *author) *ledger.Entry { return a.entry(ledger.TypePolicy, a.mileage(1)) }, "policy has serial 1, should be above 1"},
		{"policy of nobody", func(a *author) *ledger.Entry { a.policy = evil; return a.entry(ledger.TypePolicy, a.mileage(2)) }, "may not sign"},
		{"credit beyond the top tier", func(a *author) *ledger.Entry { return a.creditEntry(a.opening("anna"), 101, 3) }, "credit is 101 km, should be at most 100"},
		{"credit from yesterday", func(a *author) *ledger.Entry { return a.creditEntry(a.opening("anna"), 40, 1) }, "credit takes effect on day 1, should be from 2 to 4"},
		{"credit put by for later", func(a *author) *ledger.Entry { return a.creditEntry(a.opening("anna"), 40, 5) }, "credit takes effect on day 5, should be from 2 to 4"},
		{"credit without end", func(a *author) *ledger.Entry { return a.creditEntry(a.opening("anna"), 40, math.MaxUint32) }, "should be from 2 to 4"},
		{"head moving back", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			o.ToSeq = 100
			a.append(a.creditEntry(o, 40, 3))
			o.ToSeq, o.Salt[0] = 50, 8
			return a.creditEntry(o, 40, 3)
		}, "credit ends at snapshot 50, should be after 100"},
		{"second binding", func(a *author) *ledger.Entry {
			o := ledger.BindingOpening{Salt: [32]byte{5}, Vehicle: "CARben", Account: "ben", ECU: a.ecus["anna"]}
			blind, err := o.Blind()
			a.must(err)
			a.openings.AddBinding(a.replay.Next(), o)
			return a.entry(ledger.TypeBinding, a.encode(ledger.Binding{Blind: blind}))
		}, "which is bound already"},
		{"day's order a second time", func(a *author) *ledger.Entry { return a.entry(ledger.TypeDay, a.entries[len(a.entries)-1].Body) }, "it is of type day, should be block of day 2, drop 0"},
		{"garbage", func(a *author) *ledger.Entry { return a.entry(ledger.TypeBlock, []byte{1}) }, "cannot decode"},
		{"credit of an account whose car it is not", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			o.Account = "ben"
			return a.creditEntry(o, 40, 3)
		}, `credit is account "ben"'s, should be "anna"'s`},
		{"credit of a key that nobody bound", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			o.ECU = stranger.ID()
			return a.creditEntry(o, 40, 3)
		}, "was never bound"},
		{"credit twice", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			a.append(a.creditEntry(o, 40, 3))
			o.Salt[0]++
			return a.creditEntry(o, 40, 3)
		}, "stands a second time"},
		{"credit from before the binding", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			o.ToSeq = 0
			return a.creditEntry(o, 40, 3)
		}, "credit ends at snapshot 0, should be after 0"},
		{"kilometres of a kind without", func(a *author) *ledger.Entry {
			o := a.opening("anna")
			o.Kind = terms.KindSafe
			return a.creditEntry(o, 40, 3)
		}, `credit of kind "safe" is 40 km, should be 0`},
		{"another blind", func(a *author) *ledger.Entry {
			e := a.creditEntry(a.opening("anna"), 40, 3)
			a.openings.AddCredit(e.Number, a.opening("anna"))
			return e
		}, "credit's blind is"},
		{"no opening", func(a *author) *ledger.Entry {
			return a.entry(ledger.TypeCredit, a.encode(ledger.Credit{Km: 1, Effective: 3}))
		}, "credit has no opening"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAuthor(t, 4, 3)
			a.bind("anna")
			a.bind("ben")
			a.until(ledger.TypeBlock, 0)
			a.seq = 200 // beyond what the cases use
			e := c.make(a)
			if err := a.replay.Apply(e); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			a.credit("anna", 1, 3) // and the log goes on
		})
	}
	t.Run("before the program", func(t *testing.T) {
		a := newAuthor(t, 1, 1)
		r, err := NewReplay(a.rootKey(), nil)
		a.must(err)
		if err := r.Apply(&ledger.Entry{Type: ledger.TypeCharter, Body: a.charter(1)}); err == nil || !strings.Contains(err.Error(), "should be the program document") {
			t.Error(err)
		}
		if err := r.Check(ledger.TypeLeaves, nil); err == nil {
			t.Error("leaves are accepted before the program")
		}
		a.must(r.Apply(a.entries[0]))
		if err := r.Apply(&ledger.Entry{Number: 1, Type: ledger.TypePolicy, Body: a.mileage(1)}); err == nil || !strings.Contains(err.Error(), "before any charter") {
			t.Error(err)
		}
		if err := r.Apply(&ledger.Entry{Number: 1, Type: ledger.TypeCredit, Body: a.encode(ledger.Credit{})}); err == nil || !strings.Contains(err.Error(), "before any policy") {
			t.Error(err)
		}
	})
}

// TestKindLater credits a span for one more kind after the next span.
func TestKindLater(t *testing.T) {
	a := newAuthor(t, 1, 1)
	a.bind("anna")
	first, next := a.opening("anna"), a.opening("anna")
	a.append(a.creditEntry(first, 40, 3))
	a.append(a.creditEntry(next, 40, 3))
	first.Kind = terms.KindSafe
	a.append(a.creditEntry(first, 0, 3))
	if err := a.replay.Apply(a.creditEntry(first, 0, 3)); err == nil || !strings.Contains(err.Error(), "a second time") {
		t.Error(err)
	}
}

// TestStranger sees without openings what kilometres and days must be.
func TestStranger(t *testing.T) {
	a := newAuthor(t, 1, 1)
	r, err := NewReplay(a.rootKey(), nil)
	a.must(err)
	for _, e := range a.entries {
		a.must(r.Apply(e))
	}
	for _, c := range []struct {
		km, effective uint32
		right         bool
	}{{101, 3, false}, {100, 3, true}, {40, 1, false}, {40, 2, true}, {40, 4, true}, {40, 5, false}, {0, 5, false}} {
		e := &ledger.Entry{Number: r.Next(), Type: ledger.TypeCredit, Body: a.encode(ledger.Credit{Km: c.km, Effective: c.effective})}
		if err := r.Apply(e); (err == nil) != c.right {
			t.Errorf("%d km from day %d: %v", c.km, c.effective, err)
		}
	}
}

// TestNewDocuments logs only what is new, in what order the rules allow, and changes nothing.
func TestNewDocuments(t *testing.T) {
	a := newAuthor(t, 1, 1)
	program := ledger.Entry{Type: ledger.TypeProgram, Body: a.entries[0].Body}
	charter := func(serial uint16) ledger.Entry {
		return ledger.Entry{Type: ledger.TypeCharter, Body: a.charter(serial)}
	}
	policy := func(serial uint16) ledger.Entry {
		return ledger.Entry{Type: ledger.TypePolicy, Body: a.mileage(serial)}
	}
	empty, err := NewReplay(a.rootKey(), nil)
	a.must(err)
	for _, c := range []struct {
		name      string
		replay    *Replay
		documents []ledger.Entry
		lacking   []int
		want      string
	}{
		{"first start", empty, []ledger.Entry{program, charter(1), policy(1), policy(2)}, []int{0, 1, 2, 3}, ""},
		{"twice the same", empty, []ledger.Entry{program, charter(1), policy(1), policy(1)}, []int{0, 1, 2}, ""},
		{"misordered", empty, []ledger.Entry{program, charter(1), policy(2), policy(1)}, nil, "cannot log document 4, a policy: policy has serial 1, should be above 2"},
		{"no program", empty, []ledger.Entry{charter(1)}, nil, "cannot log document 1, a charter: it should follow the program document"},
		{"no charter", empty, []ledger.Entry{program, policy(1)}, nil, "policy stands before any charter"},
		{"signed again", a.replay, []ledger.Entry{program, charter(1), policy(1)}, nil, ""},
		{"successors", a.replay, []ledger.Entry{program, charter(2), policy(1), policy(2)}, []int{1, 3}, ""},
		{"logged ones in another order", a.replay, []ledger.Entry{program, policy(1), charter(1)}, nil, ""},
		{"lower serial", a.replay, []ledger.Entry{program, policy(0)}, nil, "policy has serial 0, should be above 1"},
		{"other program", a.replay, []ledger.Entry{{Type: ledger.TypeProgram, Body: append([]byte{0}, program.Body...)}}, nil, "second program"},
		{"credit", a.replay, []ledger.Entry{{Type: ledger.TypeCredit}}, nil, "it is no document"},
	} {
		before := c.replay.Next()
		got, absent, err := c.replay.NewDocuments(c.documents)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		var want []ledger.Entry
		for _, i := range c.lacking {
			want = append(want, c.documents[i])
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if len(absent) > 0 {
			t.Errorf("%s: policies %d are missed", c.name, absent)
		}
		if again, _, err2 := c.replay.NewDocuments(c.documents); c.replay.Next() != before || !cmp.Equal(got, again) || (err == nil) != (err2 == nil) {
			t.Errorf("%s: checking changed the replay", c.name)
		}
	}
	a.add(ledger.TypePolicy, a.mileage(2)) // what follows is as it was
	for _, c := range []struct {
		given  []ledger.Entry
		absent []uint16
	}{
		{[]ledger.Entry{program, charter(1), policy(1), policy(2), policy(3)}, nil},
		{[]ledger.Entry{program, charter(1), policy(2)}, []uint16{1}},
		{[]ledger.Entry{program, charter(1), policy(3)}, []uint16{1, 2}},
	} {
		if _, absent, err := a.replay.NewDocuments(c.given); err != nil || !cmp.Equal(absent, c.absent) {
			t.Errorf("policies %d are missed (%v), want %d", absent, err, c.absent)
		}
	}
}

// TestWithheld leaves one validator out: it stays out until the next day.
func TestWithheld(t *testing.T) {
	a := newAuthor(t, 4, 3)
	a.bind("anna")
	a.credit("anna", 40, 2)
	a.until(ledger.TypeBlock, 3)
	seal := func(withheld ...byte) error {
		typ, b := a.due(withheld...)
		e := a.seal(typ, b, a.all()...)
		err := a.replay.Apply(e)
		if err == nil {
			a.entries = append(a.entries, e)
		}
		return err
	}
	a.must(seal(2))
	if in, out := a.replay.Set(); !bytes.Equal(in, []byte{0, 1, 3}) || !bytes.Equal(out, []byte{2}) {
		t.Errorf("set is %v without %v", in, out)
	}
	if _, err := a.replay.NextBlock(a.proofs(0, 1, 2, 3), nil); err == nil || !strings.Contains(err.Error(), "validator 2 gave a proof, should be out until the next day") {
		t.Errorf("a validator comes back on the same day: %v", err)
	}
	a.must(seal(2))
	a.must(seal(2))
	a.must(seal()) // the leaves of the next day
	a.must(seal())
	a.must(seal())
	if _, out := a.replay.Set(); len(out) != 0 {
		t.Errorf("validators %v are out on the next day", out)
	}
}

// TestRecovery: a day that fewer than a quorum are left of goes on with those that are out or were not there, and no other day does.
func TestRecovery(t *testing.T) {
	a := newAuthor(t, 5, 3)
	a.bind("anna")
	a.credit("anna", 40, 2)
	a.until(ledger.TypeLeaves, 2) // day 3 is that of drops 2 to 5
	apply := func(typ ledger.Type, record any) {
		t.Helper()
		b, err := ledger.EncodePayload(record.(interface{ Validate() error }))
		a.must(err)
		a.append(a.seal(typ, b, a.all()...))
	}
	day := func(gave, withheld []byte) *ledger.Day {
		t.Helper()
		d, err := a.replay.NextDay(a.proofs(gave...), withheld)
		a.must(err)
		tree, err := reward.NewTree(reward.Order(d.Order, a.set(d.Day)))
		a.must(err)
		d.Root = tree.Root().Hash
		return d
	}
	block := func(gave, withheld []byte) *ledger.Block {
		t.Helper()
		b, err := a.replay.NextBlock(a.proofs(gave...), withheld)
		a.must(err)
		return b
	}
	l := a.nextLeaves()
	l.Validators = []byte{0, 1, 2} // the other two do not follow the log
	apply(ledger.TypeLeaves, l)
	expect := func(in, out string) {
		t.Helper()
		if i, o := a.replay.Set(); string(i) != in || string(o) != out {
			t.Errorf("set is %v without %v, want %v without %v", i, o, []byte(in), []byte(out))
		}
	}
	refuse := func(gave, withheld []byte, want string) {
		t.Helper()
		in, out := a.replay.Set()
		var err error
		if a.replay.Due().Type == ledger.TypeDay {
			_, err = a.replay.NextDay(a.proofs(gave...), withheld)
		} else {
			_, err = a.replay.NextBlock(a.proofs(gave...), withheld)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v with a proof, %v without: got %v, want %q in it", gave, withheld, err, want)
		}
		expect(string(in), string(out))
	}
	refuse([]byte{0, 1, 2, 3}, nil, "should be the day's [0 1 2]")
	refuse([]byte{0, 1}, []byte{2}, "seed has 2 proofs")
	refuse([]byte{0, 1, 3}, nil, "without are [0 1 3], should be the day's [0 1 2 3]")
	apply(ledger.TypeDay, day([]byte{0, 1, 3}, []byte{2}))
	expect("\x00\x01\x03", "\x02")
	refuse([]byte{0, 1, 2, 3}, nil, "validator 2 gave a proof, should be out")
	refuse([]byte{0, 1, 3, 4}, []byte{2}, "should be the day's [0 1 2 3]")
	refuse([]byte{0, 2, 3}, []byte{1, 4}, "should be the day's [0 1 2 3]")
	apply(ledger.TypeBlock, block([]byte{0, 2, 3}, []byte{1}))
	expect("\x00\x02\x03", "\x01")
	apply(ledger.TypeBlock, block([]byte{0, 2, 3}, []byte{1}))
	apply(ledger.TypeBlock, block([]byte{1, 2, 4}, []byte{0, 3}))
	expect("\x01\x02\x04", "\x00\x03")
	if a.replay.Recovers(a.proofs(1, 2, 4)) || !a.replay.Recovers(a.proofs(0, 1, 2, 3)) {
		t.Error("a recovery is none, or what is none is one")
	}
	// A recovery's proofs are checked as any, and its validators are those in force.
	proofs := a.proofs(0, 1, 2)
	proofs[0].Validator = 5
	if _, err := a.replay.NextBlock(proofs[1:2:2], []byte{0, 2, 3, 4}); err == nil {
		t.Error("one proof is enough")
	}
	if _, err := a.replay.NextBlock(append(proofs[1:2:2], a.proofs(3)[0], proofs[0]), []byte{0, 2, 4}); err == nil || !strings.Contains(err.Error(), "VRF proof of validator 5 of 5") {
		t.Errorf("a validator that is not in force: %v", err)
	}
	apply(ledger.TypeBlock, block([]byte{1, 2, 4}, []byte{0, 3}))
	expect("", "") // the next day has its own
	// Who replays it from nothing finds the same.
	r, err := NewReplay(a.rootKey(), nil)
	a.must(err)
	for _, e := range a.entries {
		a.must(r.Apply(e))
	}
}

// TestWindow lets a credit count on exactly the 30 days after its effective day, and carries the log over more days than that.
func TestWindow(t *testing.T) {
	a := newAuthor(t, 1, 1)
	a.bind("anna")
	a.until(ledger.TypeLeaves, 2)
	a.credit("anna", 40, 3)
	var counted []uint32
	for a.replay.Due().Day < 40 {
		typ, b := a.due()
		if typ == ledger.TypeLeaves {
			l, err := ledger.DecodeLeaves(b)
			a.must(err)
			if l.Weight > 0 {
				counted = append(counted, l.Day)
			}
		}
		a.append(a.seal(typ, b, 0))
	}
	if len(counted) != 30 || counted[0] != 4 || counted[29] != 33 {
		t.Errorf("the credit counts on days %v, want 4 to 33", counted)
	}
	if len(a.replay.live) != 0 {
		t.Errorf("%d days are kept that count no more", len(a.replay.live))
	}
	r := a.replay.Report()
	if r.Supply != 30*4*500_000 || !maps.Equal(r.Balances, map[string]uint64{"anna": r.Supply}) {
		t.Errorf("issued %d to %v, want %d to anna", r.Supply, r.Balances, 30*4*500_000)
	}
}

func BenchmarkReplay(b *testing.B) {
	a := newAuthor(b, 4, 3)
	a.bind("anna")
	for range 5000 {
		a.seq += 1
		a.credit("anna", 40, 2)
	}
	for b.Loop() {
		r, err := NewReplay(a.rootKey(), a.openings)
		a.must(err)
		for _, e := range a.entries {
			a.must(r.Apply(e))
		}
	}
	b.ReportMetric(float64(len(a.entries)*b.N)/b.Elapsed().Seconds(), "entries/s")
}
