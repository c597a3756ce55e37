package store

import (
	"errors"
	"math/rand/v2"
	"testing"

	"rawstone/pkg/wire"
)

// TestYear: of a vehicle's reports under a charter, whatever the device key, the most that 365 days with the epoch in it hold are counted, also in
// the transaction that adds them. What lies outside, and what another charter or vehicle has, does not count.
func TestYear(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		ctx, d := t.Context(), r.open(t, every)
		update(t, d, func(tx *Tx) error {
			return errors.Join(tx.AddAccount(ctx, "A"), tx.AddVehicle(ctx, Vehicle{ID: "V1", Account: "A"}), tx.AddVehicle(ctx, Vehicle{ID: "V2", Account: "A"}))
		})
		mine, index := make(map[uint32]bool), uint64(0)
		add := func(tx *Tx, vehicle string, epoch uint32, charter byte) error {
			index++
			return tx.AddReport(ctx, Report{
				Vehicle: vehicle, Epoch: epoch, Vector: []byte{1}, Charter: wire.Hash{charter}, Device: wire.KeyID{byte(index % 3)},
				Charge: wire.NewCharge(index, [32]byte{1}),
			})
		}
		check := func(tx *Tx, epoch uint32) {
			t.Helper()
			most := 0
			for end := uint64(epoch); end <= uint64(epoch)+364; end++ {
				n := 1
				for e := range mine {
					if e != epoch && uint64(e) <= end && uint64(e)+364 >= end {
						n++
					}
				}
				most = max(most, n)
			}
			c, err := tx.Charges(ctx, Report{Vehicle: "V1", Epoch: epoch, Charter: wire.Hash{1}, Charge: wire.NewCharge(1, [32]byte{})})
			if err != nil || !c.Reported && c.Year != most {
				t.Errorf("day %d among %d reports: %d in a year, %v; want %d", epoch, len(mine), c.Year, err, most)
			}
		}
		update(t, d, func(tx *Tx) error {
			check(tx, 1000)
			err := errors.Join(add(tx, "V1", 1000, 1), add(tx, "V1", 1001, 2), add(tx, "V2", 1002, 1))
			mine[1000] = true
			for _, epoch := range []uint32{0, 635, 636, 999, 1001, 1364, 1365, 1<<32 - 1 - 364} {
				check(tx, epoch)
			}
			return err
		})
		for _, epoch := range rand.New(rand.NewPCG(1, 2)).Perm(900) {
			if epoch := uint32(2000 + epoch); epoch%6 == 0 {
				update(t, d, func(tx *Tx) error {
					check(tx, epoch)
					mine[epoch] = true
					return add(tx, "V1", epoch, 1)
				})
			}
		}
		view(t, d, func(tx *Tx) error {
			for epoch := uint32(1600); epoch < 3300; epoch += 37 {
				if !mine[epoch] {
					check(tx, epoch)
				}
			}
			return nil
		})
	})
}
