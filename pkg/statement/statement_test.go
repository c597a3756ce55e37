package statement

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// Days of two drops, from day 3 on.
var timing = terms.Timing{GenesisS: 100, DayS: 40, DropS: 20, OffsetS: 20}

// life is what anna lives through: credits with others on some days, a task, boxes, and in the end a redemption.
func life(t testing.TB) *world {
	w := newWorld(t, timing)
	w.document(ledger.TypeCharter, []byte("charter"))
	w.document(ledger.TypePolicy, []byte("policy"))
	w.announce(1, w.today()+14)
	w.others(6, 11)
	w.blocks(3)
	w.change(0)
	w.bind()
	w.credit(40)
	w.others(3, 20)
	w.blocks(5)
	w.credit(60)
	w.credit(0)
	w.change(w.today())
	w.blocks(2)
	w.until(18)
	w.grant(30)
	w.credit(25)
	w.block()
	w.box(1, true)
	w.box(2, true)
	w.block()
	w.document(ledger.TypePolicy, []byte("another policy"))
	w.until(45)
	w.credit(7)
	w.others(2, 9)
	w.until(110)
	w.redeem(3, 2500)
	w.handover()
	w.blocks(3)
	return w
}

func TestVerify(t *testing.T) {
	w := life(t)
	report, state, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	var sum, km, won uint64
	for _, r := range report.Days {
		sum, km, won = sum+r.Drawn, km+r.Km, won+r.Won
	}
	if report.Milli != w.milli || report.Milli != sum+won-2500 || sum == 0 || km != 132 || report.Crystals != w.crystals || report.Blocks != w.drop || state.Next() != w.drop {
		t.Errorf("report %+v, want %d milli-stones, %d crystals", report, w.milli, w.crystals)
	}
	var b strings.Builder
	if err := report.Write(&b); err != nil || !strings.Contains(b.String(), "statement is right: account anna") {
		t.Error(b.String(), err)
	}
	t.Logf("\n%sstate of %d bytes", b.String(), len(must(state.Encode())))
}

// TestBase: a statement may begin with any block before the account's first entry.
func TestBase(t *testing.T) {
	w := life(t)
	whole, _, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	for from := uint64(1); from <= 3; from++ {
		report, _, err := w.verify(w.statement(from, true), nil)
		if err != nil {
			t.Fatal(from, err)
		}
		if report.Milli != whole.Milli || report.Crystals != whole.Crystals || report.From != from {
			t.Errorf("from %d: %+v", from, report)
		}
	}
	if _, _, err := w.verify(w.statement(4, true), nil); err == nil {
		t.Error("a statement that begins after the account's first entry is taken")
	}
	for name, c := range map[string]struct {
		forge func(*Opening, *Record)
		want  string
	}{
		"another beginning": {func(o *Opening, _ *Record) { o.From = 2 }, "should begin with drop 2"},
		"more supply":       {func(_ *Opening, r *Record) { r.Base = reblock(r.Base, func(b *ledger.Block) { b.Supply += 500_000 }) }, "supply before it is"},
		"more units":        {func(_ *Opening, r *Record) { r.Base = reblock(r.Base, func(b *ledger.Block) { b.Units = 1 << 60 }) }, "do not fit a supply"},
		"false seed":        {func(_ *Opening, r *Record) { r.Base = reblock(r.Base, func(b *ledger.Block) { b.Seed[0] ^= 1 }) }, "seed is"},
		"other policies":    {func(_ *Opening, r *Record) { r.Base = reblock(r.Base, func(b *ledger.Block) { b.Policies[0] ^= 1 }) }, "chain of policies is"},
		"another base":      {func(_ *Opening, r *Record) { r.Base = reblock(r.Base, func(b *ledger.Block) { b.LogRoot[0] ^= 1 }) }, "hash of the previous block is"},
	} {
		records := w.statement(3, true)
		i := find(records, 0, func(r *Record) bool { return r.Base != nil })
		opening := *records[0].Opening
		records[0], records[i] = &Record{Opening: &opening}, &Record{Base: records[i].Base}
		c.forge(&opening, records[i])
		if _, _, err := w.verify(records, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	records := w.statement(3, true)
	i := find(records, 0, func(r *Record) bool { return r.Base != nil })
	if _, _, err := w.verify(slices.Insert(records, i, records[i]), nil); err == nil || !strings.Contains(err.Error(), "is not the first") {
		t.Errorf("two bases: %v", err)
	}
}

// TestIncrements: statements that go on from each other's state come to what a whole one does.
func TestIncrements(t *testing.T) {
	w := life(t)
	_, want, err := w.verify(w.statement(0, false), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, stride := range []uint64{1, 2, 5, 37} {
		var state *State
		for next := uint64(0); next < w.drop; {
			next = min(next+stride, w.drop)
			part := *w
			for i, s := range w.steps {
				if s.block != nil && s.block.Drop == next-1 {
					part.steps, part.log = w.steps[:i+1], w.log[:s.number+1]
				}
			}
			from := uint64(0)
			if state != nil {
				from = state.Next()
			}
			if _, state, err = part.verify(part.statement(from, false), state); err != nil {
				t.Fatalf("up to %d by %d: %v", next, stride, err)
			}
			b, err := state.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if state, err = DecodeState(b); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(must(want.Encode()), must(state.Encode())); d != "" {
			t.Errorf("by %d blocks: %s", stride, d)
		}
	}
	// Nothing new is a statement too.
	if _, _, err := w.verify(w.statement(w.drop, false), want); err != nil {
		t.Error(err)
	}
	for _, from := range []uint64{0, w.drop - 1} {
		if _, _, err := w.verify(w.statement(from, false), want); err == nil || !strings.Contains(err.Error(), "where the saved state ends") {
			t.Errorf("from %d: %v", from, err)
		}
	}
}

// TestSizes measures a day of 144 drops under four validators among 10,000 owners.
func TestSizes(t *testing.T) {
	w := newWorld(t, terms.Timing{GenesisS: 0, DayS: 86400, DropS: 600})
	for len(w.validators) < 4 {
		w.validators = append(w.validators, validator("validator-3"))
	}
	w.program.Validators = append(w.program.Validators, w.validators[3].Public())
	w.signed = must(terms.SealProgram(w.root, w.program))
	w.id = idOf(w.signed)
	w.log = nil
	w.append(ledger.TypeProgram, w.signed)
	w.bind()
	w.credit(40)
	w.others(9_999, 33)
	w.block()
	w.drop = 288 // of the first day on which they count; what lies between is of no interest
	w.until(3)
	var public, own, path int
	for _, s := range w.steps {
		n := len(encode([]*Record{&s.record}))
		switch {
		case s.block != nil && s.block.Drop >= 288:
			public += n
		case s.record.Day != nil:
			own += n
			path = len(must(s.record.Day.Path.Encode()))
		case s.record.Entry != nil && s.number > 1:
			s.record.Entry.Path = w.path(s.number, uint64(len(w.log)-1))
			own += len(encode([]*Record{&s.record}))
		}
	}
	t.Logf("a day among 10,000 owners: %d bytes of the owner's, of which the path takes %d, and %d bytes of %d blocks, the same for all", own, path, public, 144)
	if path > 1200 || path == 0 || own > 2500 {
		t.Errorf("path of %d bytes in %d of the owner's, want at most 1,200 and 2,500", path, own)
	}
}

// BenchmarkVerify measures a statement by what its seeds alone take: the rest must be little beside them.
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b, timing)
	w.bind()
	w.credit(40)
	w.others(50, 9)
	w.blocks(144)
	statement := encode(w.statement(0, false))
	c := Config{Root: public(w.root), Account: anna}
	var all, seeds time.Duration
	for b.Loop() {
		start := time.Now()
		if _, _, err := Verify(bytes.NewReader(statement), c); err != nil {
			b.Fatal(err)
		}
		all += time.Since(start)
		start = time.Now()
		for _, k := range w.statementBlocks() {
			if _, err := ledger.Seed(w.program.Validators, ledger.DrawAlpha(k.Root, k.Drop), k.Proofs); err != nil {
				b.Fatal(err)
			}
		}
		seeds += time.Since(start)
	}
	b.ReportMetric(float64(all)/float64(seeds), "x-seeds")
}

// TestForm: a record's head has one spelling, and bounds it.
func TestForm(t *testing.T) {
	record := encode([]*Record{{Close: &Close{1, 2}}})
	n := byte(len(record) - 1)
	if r, err := NewReader(bytes.NewReader(record)).Next(); err != nil || *r.Close != (Close{1, 2}) {
		t.Fatal(r, err)
	}
	for want, head := range map[string][]byte{"shortest form": {oneByte, n}, "shortest form ": {twoBytes, 0, n}, "ends within it": {byteString | n + 1}, "no byte string": {byteString | 26, 0, 0, 0, n}, "0 things": {byteString | 1, 0xa0}} {
		if _, err := NewReader(bytes.NewReader(append(head, record[1:]...))).Next(); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%x: %v, want %q in it", head, err, want)
		}
	}
}
