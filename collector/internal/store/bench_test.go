package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// BenchmarkCredits compares write transactions of 256 credits, each with what the intake reads and writes for a claim. SQLite waits for the
// disk once a transaction and the tests' server never does, which favours the server by that.
func BenchmarkCredits(b *testing.B) {
	const batch = 256
	ctx := b.Context()
	type lane struct {
		db   *DB
		took time.Duration
	}
	lanes := []*lane{{db: (&rig{path: b.TempDir() + "/records.db"}).open(b, every)}, {db: onPostgres(b).open(b, every)}}
	vehicle := func(i int) (string, wire.PublicKey) { return fmt.Sprintf("V%d", i), wire.PublicKey{2, 7, byte(i)} }
	for _, l := range lanes {
		err := l.db.Update(ctx, func(tx *Tx) error {
			errs := []error{tx.AddAccount(ctx, "A")}
			for i := range batch {
				id, key := vehicle(i)
				errs = append(errs, tx.AddVehicle(ctx, Vehicle{ID: id, Account: "A", Device: key}), tx.AddECU(ctx, key, nil),
					tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: id, Account: "A", ECU: key, Head: birth}))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	head := birth
	for b.Loop() {
		to := wire.Head{Seq: head.Seq + 1}
		for _, l := range lanes {
			began := time.Now()
			err := l.db.Update(ctx, func(tx *Tx) error {
				id := func(i int) wire.Hash { return wire.Hash{byte(to.Seq), byte(to.Seq >> 8), byte(to.Seq >> 16), byte(i)} }
				wants := make([]Want, batch)
				for i := range wants {
					vehicle, key := vehicle(i)
					wants[i] = Want{Submission: id(i), Vehicle: vehicle, Kind: wire.KindClaim, ECU: key.ID(), To: to.Seq}
				}
				tx.Ahead(ctx, wants)
				for _, w := range wants {
					vehicle, key, id := w.Vehicle, w.ECU, w.Submission
					_, none := tx.Submission(ctx, id, vehicle, wire.KindClaim)
					_, none2 := tx.Span(ctx, key, to.Seq)
					_, none3 := tx.LastBlock(ctx)
					if !errors.Is(none, ErrNotFound) || !errors.Is(none2, ErrNotFound) || !errors.Is(none3, ErrNotFound) {
						return errors.Join(errors.New("something is there"), none, none2, none3)
					}
					if _, err := tx.Vehicle(ctx, vehicle); err != nil {
						return err
					}
					bs, err := tx.KeyBindings(ctx, key)
					if err != nil {
						return err
					}
					s := Span{ECU: key, From: head, To: to, Vehicle: vehicle, Submission: id}
					c := Credit{Account: "A", Vehicle: vehicle, ECU: key, ToSeq: to.Seq, Policy: 1, Kind: terms.KindMileage, Km: 1, Submission: id}
					sub := Submission{ID: id, Vehicle: vehicle, Kind: wire.KindClaim, Accepted: true, Receipt: make([]byte, 200)}
					if err := errors.Join(tx.AddSpan(ctx, s, bs[0].Entry, head.Seq, []Credit{c}), tx.AddClaim(ctx, id, vehicle, make([]byte, 1000)),
						tx.SetSeen(ctx, vehicle, began), tx.AddSubmission(ctx, &sub)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			l.took += time.Since(began)
		}
		head = to
	}
	b.ReportMetric(lanes[0].took.Seconds()/lanes[1].took.Seconds(), "x-sqlite")
	b.ReportMetric(float64(b.N)*batch/lanes[0].took.Seconds(), "sqlite-credits/s")
	b.ReportMetric(float64(b.N)*batch/lanes[1].took.Seconds(), "postgres-credits/s")
}
