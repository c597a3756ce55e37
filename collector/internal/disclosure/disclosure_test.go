package disclosure

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

func FuzzDecodeBatch(f *testing.F) {
	e := Entry{Number: 3, Type: ledger.TypeCredit, Body: []byte{1}, Claim: []byte{2}, Account: "a", Secret: make([]byte, 32)}
	if err := e.Open(&ledger.CreditOpening{Account: "a"}); err != nil {
		f.Fatal(err)
	}
	b, err := (&Batch{[]Entry{e, {Number: 4, Type: ledger.TypeBlock, Body: []byte{3}}}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := DecodeBatch(b)
		if err != nil {
			return
		}
		again, err := (&Batch{entries}).Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("re-encodes as %x, %v", again, err)
		}
	})
}

// TestDecodeBatch holds what a batch may be, and that an opening is read as its entry's type alone.
func TestDecodeBatch(t *testing.T) {
	good := Entry{Number: 7, Type: ledger.TypeCredit, Body: []byte{1}, Claim: []byte{2}}
	want := ledger.CreditOpening{Account: "anna", ToSeq: 9}
	if err := good.Open(&want); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Entry)
		ok     bool
	}{
		"good":         {func(*Entry) {}, true},
		"type":         {func(e *Entry) { e.Type = 99 }, false},
		"no type":      {func(e *Entry) { e.Type = 0 }, false},
		"body":         {func(e *Entry) { e.Body = make([]byte, ledger.MaxBodyLen+1) }, false},
		"opening":      {func(e *Entry) { e.Opening = make([]byte, maxOpeningLen+1) }, false},
		"claim":        {func(e *Entry) { e.Claim = make([]byte, 1<<12) }, false},
		"secret":       {func(e *Entry) { e.Account, e.Secret = "a", make([]byte, 31) }, false},
		"no secret":    {func(e *Entry) { e.Account = "a" }, false},
		"whose secret": {func(e *Entry) { e.Secret = make([]byte, 32) }, false},
		"erased":       {func(e *Entry) { *e = e.Erase(); e.Seen = false }, true},
		"seen":         {func(e *Entry) { *e = e.Erase() }, false},
		"half erased":  {func(e *Entry) { e.Erased = true }, false},
		"erased block": {func(e *Entry) { *e = Entry{Number: 7, Type: ledger.TypeBlock, Erased: true} }, false},
		"leaf":         {func(e *Entry) { *e = Entry{Number: 7, Type: ledger.TypeLeaves}; e.AddLeaf(reward.Leaf{Weight: 3}) }, true},
		"half a leaf":  {func(e *Entry) { *e = Entry{Number: 7, Type: ledger.TypeLeaves, Leaves: make([]byte, 41)} }, false},
		"many leaves": {func(e *Entry) {
			*e = Entry{Number: 7, Type: ledger.TypeLeaves, Leaves: make([]byte, leafLen*(MaxLeaves+1))}
		}, false},
		"credit's": {func(e *Entry) { e.AddLeaf(reward.Leaf{Weight: 3}) }, false},
	} {
		e := good
		c.change(&e)
		b, err := (&Batch{[]Entry{e}}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBatch(b)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && cmp.Diff([]Entry{e}, got) != "" {
			t.Error(cmp.Diff([]Entry{e}, got))
		}
	}
	for name, list := range map[string][]Entry{"none": {}, "gap": {good, good}, "too many": make([]Entry, MaxBatch+1)} {
		if len(list) > MaxBatch {
			for i := range list {
				list[i] = Entry{Number: uint64(i), Type: ledger.TypeBlock}
			}
		}
		b, err := (&Batch{list}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeBatch(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if got, ok := Opened[ledger.CreditOpening](&good, ledger.TypeCredit); !ok || got != want {
		t.Errorf("opened as %+v, %t", got, ok)
	}
	if _, ok := Opened[ledger.BindingOpening](&good, ledger.TypeBinding); ok {
		t.Error("a credit is opened as a binding")
	}
	long := make([]Entry, 600)
	for i := range long {
		long[i] = Entry{Number: uint64(i), Type: ledger.TypePolicy, Body: make([]byte, 30<<10)}
	}
	next := uint64(0)
	for _, part := range Split(long) {
		b, err := (&Batch{part}).Encode()
		if err != nil || len(b) > MaxBatchLen || part[0].Number != next {
			t.Fatalf("a batch of %d bytes from %d, %v", len(b), part[0].Number, err)
		}
		next += uint64(len(part))
	}
	if next != 600 {
		t.Errorf("%d entries are in batches", next)
	}
}
