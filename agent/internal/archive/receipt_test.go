package archive

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/wire"
)

// receipt keeps the receipt of a claim that ends with a snapshot of a key, and moves the head there.
func (p *place) receipt(t *testing.T, ecu byte, seq uint64) Receipt {
	t.Helper()
	r := Receipt{
		ECU: wire.KeyID{ecu}, Seq: seq, Claim: wire.Hash{ecu, byte(seq)}, Signed: []byte{0xd2, byte(seq)}, Came: time.Unix(1_000_000+int64(seq), 0).UTC(),
		Kinds: []string{"mileage"},
	}
	if err := p.CommitReceipt(r, func(st *State) { st.Head = &wire.Head{Seq: seq} }); err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *place) free(t *testing.T, r Receipt) {
	t.Helper()
	if err := p.Free(r); err != nil {
		t.Fatal(err)
	}
}

func (p *place) kept() (claims []wire.Hash) {
	for _, r := range must(p.Receipts()) {
		claims = append(claims, r.Claim)
	}
	return claims
}

func TestReceiptsAreKept(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1, 2, 3)
	want := []Receipt{p.receipt(t, 0, 2), p.receipt(t, 0, 3)}
	p.reopen(t)
	if d := cmp.Diff(want, must(p.Receipts())); d != "" {
		t.Error(d)
	}
	if first, err := p.Refute(want[0], []byte("false")); !first || err != nil {
		t.Errorf("first %v, %v", first, err)
	}
	p.reopen(t)
	want[0].False = []byte("false")
	list := must(p.Receipts())
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	if first, err := p.Refute(list[0], []byte("another")); first || err != nil {
		t.Errorf("first %v, %v", first, err)
	}
	if d := cmp.Diff(want, must(p.Receipts())); d != "" {
		t.Error(d)
	}
	// A record of the first agents is the signed receipt alone.
	old := Receipt{Seq: 9, Claim: wire.Hash{9}, Signed: []byte{0xd2, 9}, Came: time.Unix(0, 0).UTC()}
	if err := p.db.Update(func(txn *badger.Txn) error { return txn.Set(old.Key(receiptPrefix), record.WithSum(old.Signed)) }); err != nil {
		t.Fatal(err)
	}
	p.spoil(t, want[1].Key(receiptPrefix))
	if d := cmp.Diff([]Receipt{old, want[0]}, must(p.Receipts())); d != "" || p.damaged != 1 {
		t.Errorf("%d damaged: %s", p.damaged, d)
	}
}

// TestFree frees receipts in order: the openings before each go with it and are not taken again from the ECU's repetition.
func TestFree(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1, 2, 3, 4, 5)
	two, four := p.receipt(t, 0, 2), p.receipt(t, 0, 4)
	if d := cmp.Diff([]uint64{1, 2, 3, 4, 5}, p.held()); d != "" {
		t.Error(d)
	}
	p.free(t, two)
	for range 2 {
		if d := cmp.Diff([]uint64{2, 3, 4, 5}, p.held()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]wire.Hash{four.Claim}, p.kept()); d != "" {
			t.Error(d)
		}
		if fresh, err := p.Put(message(1)); fresh || err != nil {
			t.Errorf("a freed snapshot: new %v, %v", fresh, err)
		}
		p.reopen(t)
	}
	// The salt of a freed snapshot is still not used again.
	again := message(6)
	again.Opening.Salt = message(1).Opening.Salt
	if fresh, err := p.Put(again); fresh || !errors.Is(err, ErrSalt) {
		t.Errorf("a freed snapshot's salt: new %v, %v", fresh, err)
	}
	p.free(t, four)
	if missing, _ := p.Missing(); len(missing) != 0 {
		t.Errorf("%v are missing", missing)
	}
	if d := cmp.Diff([]uint64{4, 5}, p.held()); d != "" || p.Len() != 2 || p.State().Spent != 4 || len(p.kept()) != 0 {
		t.Errorf("%d held, spent %d: %s", p.Len(), p.State().Spent, d)
	}
	if must(p.Get(4)).Snapshot.Seq != 4 {
		t.Error("the head's opening is gone")
	}
}

// TestFreeOutOfOrder: while an earlier claim waits for its proof its openings stay, and so they do before the head.
func TestFreeOutOfOrder(t *testing.T) {
	p := newPlace(t)
	p.put(t, 1, 2, 3, 4, 5, 6)
	two, four := p.receipt(t, 0, 2), p.receipt(t, 0, 4)
	p.free(t, four)
	if d := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, p.held()); d != "" {
		t.Error(d)
	}
	p.spoil(t, two.Key(receiptPrefix))
	six := p.receipt(t, 0, 6)
	p.free(t, six) // the damaged one waits too
	if d := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, p.held()); d != "" {
		t.Error(d)
	}
	p.spoil(t, two.Key(receiptPrefix)) // whole again
	// The collector's head went back.
	if err := p.Commit(func(st *State) { st.Head = &wire.Head{Seq: 1} }); err != nil {
		t.Fatal(err)
	}
	p.free(t, two)
	if d := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, p.held()); d != "" || p.State().Spent != 1 {
		t.Errorf("spent %d: %s", p.State().Spent, d)
	}
}

// TestFreeOfFormer: a swapped ECU's receipts are proven after it has left, and free its openings alone.
func TestFreeOfFormer(t *testing.T) {
	p := newPlace(t)
	p.ecu = wire.KeyID{1}
	p.reopen(t)
	p.put(t, 1, 2, 3)
	own := p.receipt(t, 1, 2)
	p.ecu = wire.KeyID{2}
	p.reopen(t)
	p.put(t, 1, 2)
	p.free(t, own)
	var seqs []uint64
	former := p.State().Claimants()[0]
	for _, m := range must(p.scan(wire.KeyID{1}, 0)) {
		seqs = append(seqs, m.Snapshot.Seq)
	}
	if !slices.Equal(seqs, []uint64{2, 3}) || former.Spent != 2 || p.State().Spent != 0 || p.Len() != 2 {
		t.Errorf("former holds %v, spent %d and %d, %d of the new one's", seqs, former.Spent, p.State().Spent, p.Len())
	}
	p.ecu = wire.KeyID{1} // comes back
	p.reopen(t)
	if d := cmp.Diff([]uint64{2, 3}, p.held()); d != "" {
		t.Error(d)
	}
}

// TestFreeMany frees more than one transaction takes, and keeps the salts within the archive's bound.
func TestFreeMany(t *testing.T) {
	p := newPlace(t)
	const n = 3 * MinMax / 2
	for seq := uint64(1); seq <= n; seq++ {
		p.put(t, seq)
		if seq%50 == 0 {
			p.free(t, p.receipt(t, 0, seq))
		}
	}
	if p.Len() > 50 || len(p.salts) > MinMax+p.Len() {
		t.Errorf("%d snapshots and %d salts are kept", p.Len(), len(p.salts))
	}
	before := len(p.salts)
	p.reopen(t)
	if len(p.salts) != before || p.damaged != 0 {
		t.Errorf("%d salts after a restart, %d before; %d damaged", len(p.salts), before, p.damaged)
	}
	long := newPlace(t)
	for seq := uint64(1); seq <= MinMax; seq++ {
		long.put(t, seq)
	}
	long.free(t, long.receipt(t, 0, MinMax))
	if d := cmp.Diff([]uint64{MinMax}, long.held()); d != "" {
		t.Error(d)
	}
}
