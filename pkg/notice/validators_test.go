package notice

import (
	"crypto"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// day0 is the program day of drop 0, which is that of perDay drops.
const (
	day0   = 1_700_000_000 / 20
	perDay = 10
)

// set returns three validators; set 0 is the program's own.
func set(n int) (keys []*ledger.ValidatorKey) {
	for i := range 3 {
		keys = append(keys, validator(fmt.Sprintf("validator-%d", 10*n+i)))
	}
	return keys
}

// change is a signed change to a set from the day day0+from on.
func (w *world) change(serial uint16, from uint32, keys []*ledger.ValidatorKey) []byte {
	return w.changeBy(vectortest.Key(w.t, "root"), w.id, serial, from, keys)
}

func (w *world) changeBy(key crypto.Signer, program wire.Hash, serial uint16, from uint32, keys []*ledger.ValidatorKey) []byte {
	c := &ledger.Witness{Version: wire.Version, Program: program, Serial: serial, FromDay: day0 + from}
	for _, k := range keys {
		c.Validators = append(c.Validators, k.Public())
	}
	return must(ledger.SealWitness(key, c))
}

// on is the notice of the last drop of the day day0+day, cosigned by two of keys, over documents of which the first left are left out.
func (w *world) on(day uint32, keys []*ledger.ValidatorKey, left int, documents ...[]byte) *Notice {
	return w.over(w.dated(day, documents...), keys, left, documents...)
}

// dated is the block of the last drop of a day.
func (w *world) dated(day uint32, documents ...[]byte) *ledger.Block {
	b := w.block(chain(documents...))
	b.Drop, b.Day = uint64(day)*perDay+perDay-1, day0+day
	return b
}

func (w *world) over(b *ledger.Block, keys []*ledger.ValidatorKey, left int, documents ...[]byte) *Notice {
	payload := must(ledger.EncodePayload(b))
	s := ledger.Sealed{Payload: payload}
	for _, i := range []uint8{0, 2} {
		s.Cosignatures = append(s.Cosignatures, keys[i].Cosign(i, b.Program, ledger.TypeBlock, payload))
	}
	return &Notice{Version: Version, Block: must(s.Encode()), Before: chain(documents[:left]...), Documents: slices.Clone(documents[left:])}
}

func changeSerials(list []*ledger.Witness) (out []uint16) {
	for _, c := range list {
		out = append(out, c.Serial)
	}
	return out
}

// changes is a log with three changes: to set 1 from day 2 on, to set 2 from day 5 on, to set 3 from day 9 on.
func (w *world) changes() [][]byte {
	return [][]byte{
		w.charter(1), w.seal(w.policy(1, terms.KindMileage, 10, math.MaxInt32)), w.change(1, 2, set(1)), w.seal(w.policy(2, terms.KindSafe, 10, math.MaxInt32)),
		w.change(2, 5, set(2)), w.change(4, 9, set(3)),
	}
}

// inForce is which set is that of a day.
func inForce(day uint32) int {
	switch {
	case day < 2:
		return 0
	case day < 5:
		return 1
	case day < 9:
		return 2
	}
	return 3
}

// TestSeveralChanges opens notices of each day by the root alone, as a car does that was away since before the first of them.
func TestSeveralChanges(t *testing.T) {
	w := newWorld(t)
	log := w.changes()
	for day := range uint32(12) {
		for by := range 4 {
			n := must(Decode(must(w.on(day, set(by), 0, log...).Encode())))
			o, err := n.Open(w.root, w.program, w.id)
			if by != inForce(day) {
				if err == nil || !strings.Contains(err.Error(), "does not match") {
					t.Errorf("day %d: cosigned by set %d: %v", day, by, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("day %d: %v", day, err)
				continue
			}
			if d := cmp.Diff([]uint16{1, 2, 4}, changeSerials(o.Changes)); d != "" || o.Day != day0+day || len(o.Policies) != 2 {
				t.Errorf("day %d: %+v, changes (-want +got):\n%s", day, o, d)
			}
		}
	}
	// What was replaced before the block's day may be left out, and what is in force may not: nobody stands for the block then.
	for left := range log {
		_, err := w.on(6, set(2), left, log...).Open(w.root, w.program, w.id)
		if (err == nil) != (left <= 4) {
			t.Errorf("day 6 without the first %d documents: %v", left, err)
		}
	}
}

// TestOldKeys: attackers who hold all keys of the program's first validators, and every document that was ever logged.
func TestOldKeys(t *testing.T) {
	w := newWorld(t)
	log, old := w.changes(), set(0)
	backdated := func(drop uint64) *Notice {
		b := w.dated(1, log...)
		b.Drop = drop
		return w.over(b, old, 0, log...)
	}
	mixed := w.on(6, set(2), 0, log...)
	s := opened(mixed.Block)
	s.Cosignatures[1] = old[2].Cosign(2, w.id, ledger.TypeBlock, s.Payload)
	mixed.Block = must(s.Encode())
	hidden := w.on(6, old, 0, log...)
	hidden.Documents = slices.Delete(hidden.Documents, 2, 3)
	by := func(key string, program wire.Hash) []byte {
		return w.changeBy(vectortest.Key(t, key), program, 9, 5, old)
	}
	// Logged by mistake: even those in force cannot stand for it.
	spoilt := func(doc []byte) *Notice { return w.on(6, set(2), 0, append(slices.Clone(log), doc)...) }
	for name, c := range map[string]struct {
		n    *Notice
		want string
	}{
		"a block of a day after the change":          {w.on(2, old, 0, log...), "does not match"},
		"of a day after the next one":                {w.on(6, old, 0, log...), "does not match"},
		"by validators that are not in force yet":    {w.on(1, set(1), 0, log...), "does not match"},
		"one old cosignature beside a new one":       {mixed, "does not match"},
		"a newer drop said to be of an older day":    {backdated(6 * perDay), "says that it is of day"},
		"the next drop said to be of the day before": {backdated(2 * perDay), "says that it is of day"},
		"a drop beyond all days":                     {backdated(math.MaxUint64), "says that it is of day"},
		"a drop whose time overflows":                {backdated(1 << 63), "says that it is of day"},
		"the change taken out of the documents":      {hidden, "not those that its block stands on"},
		"a change under the policy key":              {spoilt(by("policy", w.id)), "nor is it a change of validators"},
		"a change under another root":                {spoilt(by("another root", w.id)), "may not sign this"},
		"a change of another program":                {spoilt(by("root", wire.Hash{1})), "belongs to another program"},
		"a change under an old serial":               {spoilt(w.change(3, 20, old)), "comes after change 4"},
		"a change that was logged before":            {spoilt(log[2]), "comes after change 4"},
		"a change that begins before the last one":   {spoilt(w.change(5, 9, old)), "comes after change 4"},
		"a change that cannot meet the quorum":       {spoilt(w.change(5, 10, old[:1])), "quorum 2 of 1"},
		"a change that counts one party twice":       {spoilt(w.change(5, 10, []*ledger.ValidatorKey{old[0], old[0]})), "one party would count as two"},
	} {
		if _, err := c.n.Open(w.root, w.program, w.id); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	// Who pins another root accepts no change, and so no block after it.
	if _, err := w.on(6, set(2), 0, log...).Open(public(vectortest.Key(t, "another root")), w.program, w.id); err == nil {
		t.Error("a change under a root that is not pinned is accepted")
	}
	// The last drop before the change is still theirs.
	if _, err := w.on(1, old, 0, log...).Open(w.root, w.program, w.id); err != nil {
		t.Error(err)
	}
}

// TestAfter: what a car has heard of changes cannot be kept from it by a later notice.
func TestAfter(t *testing.T) {
	w := newWorld(t)
	log := w.changes()
	open := func(n *Notice) *Opened {
		t.Helper()
		o, err := n.Open(w.root, w.program, w.id)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	heard := open(w.on(1, set(0), 0, log[:3]...))
	another := slices.Clone(log)
	another[2] = w.change(1, 2, set(0))
	later := slices.Clone(log)
	later[2] = w.change(1, 3, set(1))
	for name, c := range map[string]struct {
		before *Opened
		n      *Notice
		want   string
	}{
		"the same":                               {heard, w.on(1, set(0), 0, log[:3]...), ""},
		"a day later":                            {heard, w.on(2, set(1), 0, log[:3]...), ""},
		"after two more":                         {heard, w.on(6, set(2), 0, log...), ""},
		"left out once the next one has begun":   {heard, w.on(6, set(2), 4, log...), ""},
		"left out once the last one has begun":   {heard, w.on(9, set(3), 5, log...), ""},
		"one who knew of none":                   {open(w.on(1, set(0), 0, log[:2]...)), w.on(6, set(2), 3, log...), ""},
		"hid behind the chain":                   {heard, w.on(6, set(0), 3, log[:4]...), "keeps back change of validators 1"},
		"never logged, by old keys":              {heard, w.on(6, set(0), 0, log[:2]...), "keeps back change of validators 1"},
		"not there, before it begins":            {heard, w.on(1, set(0), 0, log[:2]...), "keeps back change of validators 1"},
		"a later one that has not begun instead": {heard, w.on(4, set(0), 3, log[:5]...), "keeps back change of validators 1"},
		"the next one, before it begins":         {open(w.on(3, set(1), 0, log[:5]...)), w.on(4, set(1), 0, log[:4]...), "keeps back change of validators 2"},
		"another change under the same serial":   {heard, w.on(6, set(2), 0, another...), "another one than was heard of"},
		"the same change from another day on":    {heard, w.on(6, set(2), 0, later...), "another one than was heard of"},
	} {
		err := open(c.n).After(c.before)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestRefutes: a notice that old keys forged ahead of time gives way to one that shows that they had been replaced, and no other does.
func TestRefutes(t *testing.T) {
	w := newWorld(t)
	log := w.changes()
	open := func(n *Notice) *Opened {
		t.Helper()
		o, err := n.Open(w.root, w.program, w.id)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	far := func(day uint32, drop uint64, by int, documents ...[]byte) *Opened {
		b := w.dated(day, documents...)
		b.Drop = drop
		return open(w.over(b, set(by), 0, documents...))
	}
	honest := open(w.on(3, set(1), 0, log[:4]...))
	for name, c := range map[string]struct {
		other *Opened
		want  bool
	}{
		"forged for a day after the change":        {open(w.on(100, set(0), 0, log[:2]...)), true},
		"forged for the first drop of the change":  {far(2, 2*perDay, 0, log[:2]...), true},
		"forged for a drop whose time overflows":   {far(1, 1<<63, 0, log[:2]...), true},
		"forged and dated back":                    {far(0, math.MaxUint64, 0, log[:2]...), true},
		"of the last drop before the change":       {open(w.on(1, set(0), 0, log[:2]...)), false},
		"of the last drop before, with the change": {open(w.on(1, set(0), 0, log[:3]...)), false},
		"of a later day, with the change":          {open(w.on(4, set(1), 0, log[:4]...)), false},
		"of a later day, with later changes":       {open(w.on(6, set(2), 0, log...)), false},
		"of a later day, with the next one alone":  {open(w.on(6, set(2), 4, log...)), false},
		"itself": {honest, false},
	} {
		if got := honest.Refutes(c.other, w.program.Timing); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if open(w.on(1, set(0), 0, log[:2]...)).Refutes(open(w.on(100, set(0), 0, log[:2]...)), w.program.Timing) {
		t.Error("a notice without changes refutes another")
	}
	if open(w.on(6, set(2), 0, log...)).Refutes(open(w.on(7, set(1), 0, log[:4]...)), w.program.Timing) != true {
		t.Error("a notice that was forged by the validators of the last change but one stands")
	}
}

// TestNewKeepsChanges: what decides about the block's day stays, however full the notice is; what came before goes.
func TestNewKeepsChanges(t *testing.T) {
	w := newWorld(t)
	log := w.changes()
	for day, want := range map[uint32]int{1: 1, 2: 1, 5: 1, 9: 1} { // there is room for all but the charter
		block := w.on(day, set(inForce(day)), 0, log...).Block
		n, err := New(w.root, w.program, w.id, block, log, day0+day)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Open(w.root, w.program, w.id); err != nil || len(log)-len(n.Documents) != want {
			t.Errorf("day %d: %d documents, %v", day, len(n.Documents), err)
		}
	}
	// So many policies of single days, all over, that not all fit.
	many := w.many(60, terms.KindMileage)
	full := slices.Concat([][]byte{w.charter(1), w.change(1, 2, set(1))}, many[:20], [][]byte{w.change(2, 5, set(2))}, many[20:])
	make1 := func(day, today uint32) (*Notice, error) {
		return New(w.root, w.program, w.id, w.on(day, set(inForce(day)), 0, full...).Block, full, day0+today)
	}
	n, err := make1(5, 5)
	if err != nil {
		t.Fatal(err)
	}
	o, err := n.Open(w.root, w.program, w.id)
	if err != nil || len(full)-len(n.Documents) < 2 {
		t.Fatalf("%d documents, %v", len(n.Documents), err)
	}
	if d := cmp.Diff([]uint16{2}, changeSerials(o.Changes)); d != "" {
		t.Error(d)
	}
	// Today counts for policies alone: a block of the day before the change needs the validators of that day.
	if _, err := make1(4, 5); err == nil || !strings.Contains(err.Error(), "document 1 is still in force") || !strings.Contains(err.Error(), "change of validators") {
		t.Errorf("the change in force on the block's day is left out: %v", err)
	}
	if _, err := make1(1, 1); err == nil || !strings.Contains(err.Error(), "document 1 is still in force") {
		t.Errorf("changes to come are left out: %v", err)
	}
	if _, err := New(w.root, w.program, w.id, []byte("x"), nil, 1); err == nil {
		t.Error("a notice without a block is made")
	}
	if _, err := New(wire.PublicKey{}, w.program, w.id, n.Block, full, day0+5); err == nil || !strings.Contains(err.Error(), "nor is it a change of validators") {
		t.Errorf("without a root: %v", err)
	}
}
