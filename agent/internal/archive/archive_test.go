package archive

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

// place is an archive in a store that can be reopened; damaged counts the records that were passed over.
type place struct {
	*Archive
	dir     string
	ecu     wire.KeyID
	db      *badger.DB
	damaged int
}

func newPlace(t *testing.T) *place {
	p := &place{dir: t.TempDir()}
	p.open()
	t.Cleanup(func() { p.db.Close() })
	return p
}

func (p *place) open() {
	p.db = must(flash.Open(flash.Config{Dir: p.dir, Logger: slog.New(slog.DiscardHandler)}))
	p.Archive = must(Open(Config{DB: p.db, ECU: p.ecu, Max: MinMax, Damaged: func(error) { p.damaged++ }}))
}

func (p *place) reopen(t *testing.T) {
	t.Helper()
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	p.open()
}

// message is a message of the ECU; the archive asks for no signature.
func message(seq uint64) *attest.Message {
	m := &attest.Message{Snapshot: wire.Snapshot{Seq: seq, Day: uint32(seq), Commitment: wire.Commitment{1}}}
	m.Opening.Counters[wire.OdometerM], m.Opening.Salt[0], m.Opening.Salt[1] = uint32(seq), byte(seq), byte(seq>>8)
	return m
}

func (p *place) put(t *testing.T, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		if fresh, err := p.Put(message(seq)); !fresh || err != nil {
			t.Fatalf("snapshot %d: new %v, %v", seq, fresh, err)
		}
	}
}

func (p *place) spoil(t *testing.T, k []byte) {
	t.Helper()
	err := p.db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if err != nil {
			return err
		}
		b, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		b[len(b)-1] ^= 1
		return txn.Set(k, b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) held() (seqs []uint64) {
	for _, m := range must(p.Since(0)) {
		seqs = append(seqs, m.Snapshot.Seq)
	}
	return seqs
}

func TestGapsAreFound(t *testing.T) {
	p := newPlace(t)
	if missing, newest := p.Missing(); missing != nil || newest != 0 {
		t.Errorf("empty archive misses %v up to %d", missing, newest)
	}
	p.put(t, 40, 10, 42, 39)
	want := []uint64{41}
	for seq := uint64(38); seq >= 42-31; seq-- { // the ECU repeats its last 32
		want = append([]uint64{seq}, want...)
	}
	missing, newest := p.Missing()
	if d := cmp.Diff(want, missing); d != "" || newest != 42 {
		t.Errorf("newest %d: %s", newest, d)
	}
	if err := p.Commit(func(st *State) { st.Head = &wire.Head{Seq: 40} }); err != nil {
		t.Fatal(err)
	}
	p.reopen(t)
	if missing, _ := p.Missing(); cmp.Diff([]uint64{41}, missing) != "" {
		t.Errorf("from the head on %v are missing, want 41", missing)
	}
}

func TestTheFirstSnapshotStands(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1)
	if fresh, err := p.Put(message(1)); fresh || err != nil {
		t.Errorf("a repetition: new %v, %v", fresh, err)
	}
	second := message(1)
	second.Snapshot.Commitment[0]++
	if _, err := p.Put(second); !errors.Is(err, ErrConflict) {
		t.Errorf("error is %v", err)
	}
	if m := must(p.Get(1)); cmp.Diff(*message(1), m) != "" {
		t.Errorf("holds %+v", m)
	}
	if _, err := p.Get(2); !errors.Is(err, badger.ErrKeyNotFound) {
		t.Errorf("error is %v", err)
	}
}

func TestSaltsAreUsedOnce(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1, 2, 3)
	again := func(seq, of uint64) *attest.Message {
		m := message(seq)
		m.Opening.Salt = message(of).Opening.Salt
		return m
	}
	refused := func(when string) {
		t.Helper()
		for _, of := range []uint64{1, 2, 3} {
			if fresh, err := p.Put(again(50, of)); fresh || !errors.Is(err, ErrSalt) {
				t.Errorf("%s: salt of %d: new %v, %v", when, of, fresh, err)
			}
		}
	}
	refused("fresh")
	p.reopen(t)
	refused("reopened")
	if d := cmp.Diff([]uint64{1, 2, 3}, p.held()); d != "" {
		t.Error(d)
	}
	// A snapshot's own repetition is no reuse, also where its record has gone bad.
	p.spoil(t, new(Archive).key(snapshotPrefix, 2))
	p.put(t, 2)
	p.put(t, 50)
	// What the archive no longer holds is no longer compared with: the index stays within its bound.
	for seq := uint64(51); len(p.held()) < MinMax; seq++ {
		p.put(t, seq)
	}
	p.put(t, 300)
	if n := len(p.salts); n != MinMax {
		t.Errorf("%d salts are kept for %d snapshots", n, MinMax)
	}
	if _, err := p.Put(again(301, 1)); err != nil {
		t.Errorf("salt of one that is gone: %v", err)
	}
	p.spoil(t, new(Archive).key(snapshotPrefix, 300))
	if held := p.held(); len(p.salts) != len(held) {
		t.Errorf("%d salts are kept for %d snapshots, one of which is damaged", len(p.salts), len(held))
	}
}

func TestDamageIsMissingAndHeals(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1, 2, 3)
	p.spoil(t, new(Archive).key(snapshotPrefix, 2))
	if d := cmp.Diff([]uint64{1, 3}, p.held()); d != "" || p.damaged != 1 {
		t.Errorf("%d damaged: %s", p.damaged, d)
	}
	if missing, _ := p.Missing(); len(missing) == 0 || missing[len(missing)-1] != 2 {
		t.Errorf("%v are missing", missing)
	}
	p.put(t, 2)
	p.spoil(t, new(Archive).key(snapshotPrefix, 3))
	p.put(t, 3) // before anybody noticed
	p.reopen(t)
	if d := cmp.Diff([]uint64{1, 2, 3}, p.held()); d != "" || p.damaged != 1 {
		t.Errorf("%d damaged: %s", p.damaged, d)
	}
}

func TestTheOldestGoButNeverTheHead(t *testing.T) {
	p := newPlace(t)
	p.put(t, 5, 6, 7)
	id := wire.Hash(sha256.Sum256(nil))
	for seq := uint64(5); seq <= 6; seq++ {
		if err := p.CommitReceipt(Receipt{ECU: p.cfg.ECU, Seq: seq, Claim: id, Signed: []byte("signed")}, func(st *State) { st.Head = &wire.Head{Seq: seq} }); err != nil {
			t.Fatal(err)
		}
	}
	for seq := uint64(8); seq < 5+MinMax+3; seq++ {
		p.put(t, seq)
	}
	held := p.held()
	if len(held) != MinMax || held[0] != 6 || held[1] != 9 {
		t.Errorf("%d held, from %v on", len(held), held[:2])
	}
	if fresh, err := p.Put(message(4)); fresh || err != nil {
		t.Errorf("one older than all: new %v, %v", fresh, err)
	}
	for seq, want := range map[uint64]error{5: badger.ErrKeyNotFound, 6: nil} {
		err := p.db.View(func(txn *badger.Txn) error {
			_, err := txn.Get(append(new(Archive).key(receiptPrefix, seq), id[:]...))
			return err
		})
		if !errors.Is(err, want) {
			t.Errorf("receipt of %d: %v, want %v", seq, err, want)
		}
	}
}

func TestStateIsKept(t *testing.T) {
	p := newPlace(t)
	first := p.State()
	if first.Secret == [32]byte{} {
		t.Fatal("no secret was drawn")
	}
	if err := p.Commit(func(st *State) { st.Left, st.Reason = 7, wire.ReasonGap }); err != nil {
		t.Fatal(err)
	}
	want := first
	want.Left, want.Reason = 7, wire.ReasonGap
	p.reopen(t)
	if d := cmp.Diff(want, p.State()); d != "" {
		t.Error(d)
	}
	p.spoil(t, []byte(stateKey))
	p.reopen(t)
	st := p.State()
	if p.damaged != 1 || st.Secret == first.Secret || st.Left != 0 {
		t.Errorf("%d damaged, state %+v", p.damaged, st)
	}
	p.db.Close()
	if err := p.Commit(func(st *State) { st.Left = 9 }); err == nil || p.State().Left != 0 {
		t.Errorf("a state that was not written is believed: %v", err)
	}
}

// TestFormer swaps the ECU again and again: each key keeps head, refusals and snapshots of its own.
func TestFormer(t *testing.T) {
	p := newPlace(t)
	for n := byte(1); n <= 2; n++ {
		p.ecu = wire.KeyID{n}
		p.reopen(t)
		p.put(t, 5, 6, 7, 8)
		if err := p.Commit(func(st *State) {
			st.Head, st.Reason, st.Refusals = &wire.Head{Seq: 4 + uint64(n)}, wire.ReasonRevoked, 2
		}); err != nil {
			t.Fatal(err)
		}
	}
	p.ecu = wire.KeyID{3}
	p.reopen(t)
	p.put(t, 7)
	seqs := func() (all [][]uint64) {
		for _, st := range p.State().Claimants() {
			var seqs []uint64
			for _, m := range must(p.Backlog(st)) {
				seqs = append(seqs, m.Snapshot.Seq)
			}
			all = append(all, seqs)
		}
		return all
	}
	if d := cmp.Diff([][]uint64{{5, 6, 7, 8}, {6, 7, 8}, {7}}, seqs()); d != "" {
		t.Error(d)
	}
	before, secret := p.State(), p.State().Secret
	for _, f := range before.Former {
		if f.Reason != "" || f.Refusals != 0 {
			t.Errorf("refusals of the time in the car go on: %+v", f)
		}
	}
	refuse := func(st *State) { st.Head, st.Reason, st.Refusals, st.Since = &wire.Head{Seq: 7}, wire.ReasonGap, 1, 9 }
	if err := p.CommitOf(wire.KeyID{2}, refuse); err != nil {
		t.Fatal(err)
	}
	between := p.State()
	for _, err := range []error{
		p.Bound(wire.KeyID{1}, 8), p.Bound(wire.KeyID{9}, 0),
		p.CommitReceipt(Receipt{ECU: wire.KeyID{1}, Seq: 6, Claim: wire.Hash{1}, Signed: []byte("signed")}, func(st *State) { st.Head = &wire.Head{Seq: 6} }),
		p.CommitOf(wire.KeyID{9}, refuse), // unknown
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if before.Former[0].Head.Seq != 5 || before.Former[1].Reason != "" || between.Former[0].Before != 0 {
		t.Error("a state that was handed out has changed")
	}
	p.reopen(t)
	want := []Former{{ECU: wire.KeyID{1}, Head: &wire.Head{Seq: 6}, Before: 8}, {ECU: wire.KeyID{2}, Head: &wire.Head{Seq: 7}, Refusals: 1, Reason: wire.ReasonGap, Since: 9}}
	if d := cmp.Diff(want, p.State().Former); d != "" || p.State().Head != nil || p.State().Reason != "" {
		t.Errorf("%+v: %s", p.State(), d)
	}
	if d := cmp.Diff([][]uint64{{6, 7}, {7, 8}, {7}}, seqs()); d != "" {
		t.Error(d)
	}
	if st := p.State().Claimants()[1]; st.Reason != wire.ReasonGap || st.Head.Seq != 7 || st.Secret != secret {
		t.Errorf("%+v", st)
	}
	p.ecu = wire.KeyID{1} // comes back
	p.reopen(t)
	if d := cmp.Diff([][]uint64{{7, 8}, {7}, {5, 6, 7, 8}}, seqs()); d != "" || p.damaged != 0 {
		t.Error(d)
	}
	if err := p.Bound(wire.KeyID{3}, 0); err != nil || len(p.State().Former) != 1 {
		t.Errorf("%v, %+v", err, p.State().Former)
	}
	for n := byte(10); n < 20; n++ {
		p.ecu = wire.KeyID{n}
		p.reopen(t)
	}
	if f := p.State().Former; len(f) != MaxFormer || f[MaxFormer-1].ECU != (wire.KeyID{18}) || p.State().Secret != secret {
		t.Errorf("%+v", f)
	}
}

func TestOpenRefuses(t *testing.T) {
	unsynced := must(badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil)))
	defer unsynced.Close()
	p := newPlace(t)
	for name, change := range map[string]func(*Config){
		"zero":     func(c *Config) { *c = Config{} },
		"unsynced": func(c *Config) { c.DB = unsynced },
		"small":    func(c *Config) { c.Max = MinMax - 1 },
		"negative": func(c *Config) { c.Max = -1 },
		"deaf":     func(c *Config) { c.Damaged = nil },
	} {
		cfg := Config{DB: p.db, Damaged: func(error) {}}
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
