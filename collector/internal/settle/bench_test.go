package settle

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// BenchmarkAppend settles 20,000 credits from the records into the log with four validators that open and replay each of them, up to the
// day's leaves, order and first block, cosigned by all: entries/s, durable in records and log, and the ratio to appending the same entries to a log alone.
func BenchmarkAppend(b *testing.B) {
	const owners, each = 100, 200
	for range b.N {
		b.StopTimer()
		w := newWorld(b, 4, 3)
		w.now = timing.DropTime(2).Add(-time.Second)
		var ecus []wire.PublicKey
		w.must(w.db.Update(b.Context(), func(tx *store.Tx) error {
			var errs []error
			for i := range owners {
				_, pub := newKey(b)
				ecus = append(ecus, pub)
				id := fmt.Sprint("owner", i)
				errs = append(errs, tx.AddAccount(b.Context(), id), tx.AddVehicle(b.Context(), store.Vehicle{ID: id, Account: id, Device: pub}), tx.AddECU(b.Context(), pub, nil),
					tx.AddBinding(b.Context(), ledger.BindingOpening{Vehicle: id, Account: id, ECU: pub}))
			}
			return errors.Join(errs...)
		}))
		// The settler stands at the end of a day, whose blocks are there, before the credits come.
		w.must(w.start())
		w.step()
		w.must(w.db.Update(b.Context(), func(tx *store.Tx) error {
			var errs []error
			for i, pub := range ecus {
				id := fmt.Sprint("owner", i)
				binding, err := tx.OpenBinding(b.Context(), id)
				errs = append(errs, err)
				for seq := range uint64(each) {
					s := store.Span{ECU: pub.ID(), From: wire.Head{Seq: seq}, To: wire.Head{Seq: seq + 1}, Vehicle: id, Submission: wire.Hash{byte(i), byte(seq), byte(seq >> 8)}}
					errs = append(errs, tx.AddSpan(b.Context(), s, binding.Entry, seq, []store.Credit{{Account: id, Vehicle: id, ECU: pub.ID(), ToSeq: seq + 1,
						Policy: 1, Kind: terms.KindMileage, Km: 100, Effective: timing.Day(w.now) + 1, Submission: s.Submission}}))
				}
			}
			return errors.Join(errs...)
		}))
		w.now = timing.DropTime(2)
		first := w.log.Size()
		b.StartTimer()
		began := time.Now()
		w.step()
		took := time.Since(began)
		b.StopTimer()
		n := w.log.Size() - first
		if n < owners*each || w.settler.replay.Due().Drop != 3 {
			b.Fatalf("%d entries, drop %d", n, w.settler.replay.Due().Drop)
		}
		alone := appendAlone(b, w, first, n)
		b.ReportMetric(float64(n)/took.Seconds(), "entries/s")
		b.ReportMetric(alone.Seconds()/took.Seconds(), "x-alone")
		w.stop()
		b.StartTimer()
	}
}

// appendAlone appends the records' entries from a number on to a new log, as many at once as the settler does.
func appendAlone(b *testing.B, w *world, from, n uint64) time.Duration {
	b.Helper()
	signer, err := note.NewSigner(w.secret)
	w.must(err)
	log, err := tlog.Open(b.Context(), tlog.Config{Dir: b.TempDir(), Signer: signer, Verifier: w.program.LogKey, Logger: slog.New(slog.DiscardHandler)})
	w.must(err)
	var bodies [][]byte
	w.must(w.db.View(b.Context(), func(tx *store.Tx) error {
		list, err := tx.Entries(b.Context(), from, int(n))
		for i := range list {
			body, err := list[i].Encode()
			w.must(err)
			bodies = append(bodies, body)
		}
		return err
	}))
	began := time.Now()
	for i := 0; i < len(bodies); i += appended {
		w.must(log.Append(b.Context(), uint64(i), bodies[i:min(i+appended, len(bodies))]...))
	}
	took := time.Since(began)
	w.must(log.Close())
	return took
}
