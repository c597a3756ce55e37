package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/wire"
)

// power runs f and says whether the power was cut in it.
func power(f func()) (cut bool) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(powerCut); !ok {
				panic(e)
			}
			cut = true
		}
	}()
	f()
	return false
}

func (w *world) reopen() {
	w.close()
	w.open()
	w.start()
}

// live drives for some days, connected on every second one; at each cut of the power the stores are reopened.
func (w *world) live(days int) (cuts int) {
	w.start()
	for i := range days {
		w.drive(uint32(i%4) * 7_000)
		for {
			work := w.settle
			if i%2 == 1 || i == days-1 {
				work = w.exchange
			}
			if !power(work) {
				break
			}
			cuts++
			w.reopen()
		}
	}
	return cuts
}

func TestPowerCutsHarmNothing(t *testing.T) {
	const days = 8
	consent := func(c *Config) { c.EveryDays, c.Families = each(2), allow(wire.FamilyHours|wire.FamilySpeed) }
	var secret [32]byte
	run := func(at int) (*world, int) {
		w := newWorld(t, consent)
		if at == 0 {
			secret = w.sealer.archive.State().Secret
		} else if err := w.sealer.archive.Commit(func(s *archive.State) { s.Secret = secret }); err != nil {
			t.Fatal(err)
		}
		w.guard.at = at
		return w, w.live(days)
	}
	calm, _ := run(0)
	if calm.col.km == 0 || len(calm.col.reports) < 3 {
		t.Fatalf("the calm run has %d km and %d reports", calm.col.km, len(calm.col.reports))
	}
	steps := calm.guard.count
	calm.close()
	for at := 1; at <= steps; at++ {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w, cuts := run(at)
			defer w.close()
			if cuts != 1 {
				t.Fatalf("%d power cuts", cuts)
			}
			if w.col.km != calm.col.km || cmp.Diff(calm.spans(), w.spans()) != "" {
				t.Errorf("%d km over %v, undisturbed %d over %v", w.col.km, w.spans(), calm.col.km, calm.spans())
			}
			w.checkReports(t, len(calm.col.reports)-1)
			if waiting := w.journal.Waiting(); len(waiting) != 0 {
				t.Errorf("%d entries of the journal have no end", len(waiting))
			}
			noted := make(map[string]bool)
			for _, e := range must(w.journal.List(0)) {
				noted[e.Submission] = true
			}
			for id := range w.col.receipts {
				if !noted[id.String()] {
					t.Error("a submission left that the journal does not know")
				}
			}
			if n := w.keptReceipts(); n != len(w.col.claims) {
				t.Errorf("%d receipts kept for %d accepted claims", n, len(w.col.claims))
			}
			if n, _ := w.spool.Depth(); n != 0 {
				t.Errorf("%d submissions were left in the spool", n)
			}
		})
	}
	t.Logf("%d points", steps)
}

func (w *world) keptReceipts() (n int) {
	w.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = w.prefix(receiptPrefix)
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		return nil
	})
	return n
}

// checkReports checks what holds whatever happened: one report an epoch and a program day, none beyond the budget's charges.
func (w *world) checkReports(t *testing.T, atLeast int) {
	t.Helper()
	if len(w.col.twice) != 0 {
		t.Errorf("two different reports for epochs %v", w.col.twice)
	}
	if n := len(w.col.reports); n < atLeast || n > int(w.ledger.Summary(0).Releases) {
		t.Errorf("%d reports for %d charges, want at least %d", n, w.ledger.Summary(0).Releases, atLeast)
	}
	for day, n := range w.col.days {
		if n > 1 {
			t.Errorf("%d reports on program day %d", n, day)
		}
	}
}

func TestSpoolFailureIsTriedAgain(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	broken := &brokenSpool{Spool: w.sealer.cfg.Spool, broken: true}
	w.sealer.out.Spool = broken
	var err error
	for range 10 {
		wait, e := w.sealer.turn(t.Context())
		w.now = w.now.Add(min(wait, w.sealer.cfg.ResendWait))
		if err = e; err != nil {
			break
		}
	}
	if !errors.Is(err, errBroken) {
		t.Errorf("error is %v", err)
	}
	broken.broken = false
	w.exchange()
	if w.col.km != 10 {
		t.Errorf("%d km", w.col.km)
	}
}

var errBroken = errors.New("flash is broken")

type brokenSpool struct {
	Spool
	broken bool
}

func (s *brokenSpool) Put(kind wire.Kind, b []byte, created, due time.Time) (wire.Hash, []wire.Hash, error) {
	if s.broken {
		return wire.Hash{}, nil, errBroken
	}
	return s.Spool.Put(kind, b, created, due)
}

// setBytes overwrites a record with what change makes of it.
func (w *world) setBytes(k []byte, change func([]byte) []byte) {
	w.t.Helper()
	err := w.db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if err != nil {
			return err
		}
		b, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		return txn.Set(k, change(b))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Where the archive keeps things: a format on flash that must not change unseen.
const (
	snapshotPrefix = "seal/snapshot/"
	receiptPrefix  = "seal/receipt/"
	stateKey       = "seal/state"
)

// prefix is that of one kind of record of the world's ECU.
func (w *world) prefix(kind string) []byte {
	id := w.ecu.pub.ID()
	return append([]byte(kind), id[:]...)
}

func (w *world) seqKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(w.prefix(snapshotPrefix), seq)
}
