package window

import (
	"context"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/wire"
)

// open is what is open: a minute more in each value whenever it is looked at.
type open struct{ minutes, consumed int64 }

func (o *open) Take(context.Context) (v [wire.VectorLen]int64, consume func(context.Context) error, err error) {
	o.minutes++
	for i := range v {
		v[i] = o.minutes
	}
	return v, func(context.Context) error { o.consumed++; return nil }, nil
}

func TestWindows(t *testing.T) {
	db, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithLogger(nil).WithSyncWrites(true))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, o := Store{DB: db}, new(open)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(boundary uint32, i int) int64 {
		t.Helper()
		v, _, err := s.Of(boundary).Take(t.Context())
		check(err)
		return v[i]
	}
	for _, b := range []uint32{0, 7, 7, 14, 21} { // the power went before 7 was consumed
		check(s.Close(t.Context(), o, 0, b))
	}
	hours, speed := wire.Layouts()[0], wire.Layouts()[1]
	if at(0, 0) != 1 || at(7, 0) != 2 || at(14, 0) != 4 || at(8, 0) != 0 || o.consumed != 5 {
		t.Errorf("windows of %d, %d, %d, %d", at(0, 0), at(7, 0), at(14, 0), at(8, 0))
	}
	check(s.Restrict(hours.Family))
	if at(14, hours.Offset) != 4 || at(14, hours.Offset+hours.Len-1) != 4 || at(14, speed.Offset) != 0 {
		t.Error("restricted to another family")
	}
	check(s.Close(t.Context(), o, 14, 28))
	if at(0, 0) != 0 || at(7, 0) != 0 || at(14, 0) != 4 || at(28, 0) != 6 {
		t.Error("not bounded by the oldest")
	}
	_, consume, err := s.Of(14).Take(t.Context())
	check(err)
	check(consume(t.Context()))
	if at(14, 0) != 0 || at(21, 0) != 5 {
		t.Error("consumed another window")
	}
	// A damaged record counts as none.
	check(db.Update(func(txn *badger.Txn) error { return txn.Set(key(21), make([]byte, bodyLen+4-1)) }))
	b := encode(new([wire.VectorLen]int64))
	b[3] ^= 1
	check(db.Update(func(txn *badger.Txn) error { return txn.Set(key(28), b) }))
	if at(21, 0) != 0 || at(28, 0) != 0 {
		t.Error("damage is told")
	}
	check(s.Restrict(0))
	check(db.View(func(txn *badger.Txn) error {
		for _, b := range []uint32{0, 7, 14, 21, 28} {
			if _, err := txn.Get(key(b)); err != badger.ErrKeyNotFound {
				t.Errorf("window %d is kept without consent", b)
			}
		}
		return nil
	}))
}
