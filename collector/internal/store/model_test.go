package store

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/admission"
	"rawstone/pkg/wire"
)

// TestUsageByModel: reports are read in pieces, each with its vehicle's model as of when it came, under one charter alone and without the vehicle.
func TestUsageByModel(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		admin, ingest, web := r.open(t, Admin), r.open(t, Ingest), r.open(t, Web)
		update(t, admin, func(tx *Tx) error {
			return errors.Join(tx.AddAccount(t.Context(), "A"), tx.AddVehicle(t.Context(), Vehicle{ID: "V1", Account: "A", Model: "Onyx"}),
				tx.AddVehicle(t.Context(), Vehicle{ID: "V2", Account: "A"}))
		})
		var want []Usage
		vector := make([]byte, 4*wire.VectorLen)
		update(t, ingest, func(tx *Tx) (err error) {
			for i := range uint32(7) {
				report := Report{
					Vehicle: []string{"V1", "V2"}[i%2], Epoch: 10 + i, Families: wire.FamilyTrips, Vector: slices.Clone(vector), Charter: wire.Hash{1},
					Submission: wire.Hash{byte(i)}, Charge: wire.NewCharge(uint64(i)+1, [32]byte{1}),
				}
				report.Vector[3] = byte(i)
				if i == 3 {
					report.Charter = wire.Hash{2}
				} else {
					want = append(want, Usage{
						Epoch: report.Epoch, Families: report.Families, Vector: report.Vector, Submission: report.Submission, Model: []string{"Onyx", ""}[i%2],
					})
				}
				err = errors.Join(err, tx.AddReport(t.Context(), report))
			}
			return err
		})
		update(t, admin, func(tx *Tx) error { return tx.SetModel(t.Context(), "V2", "Granite 2") })
		if err := admin.Update(t.Context(), func(tx *Tx) error { return tx.SetModel(t.Context(), "V9", "Onyx") }); !errors.Is(err, ErrNotFound) {
			t.Errorf("a vehicle that is not there: %v", err)
		}
		var got []Usage
		last := int64(0)
		for n := 1; n > 0; {
			n = 0
			err := web.View(t.Context(), func(tx *Tx) error {
				return tx.EachUsage(t.Context(), wire.Hash{1}, last, 4, func(u Usage) error {
					if u.Serial <= last {
						t.Errorf("serial %d after %d", u.Serial, last)
					}
					n, last, u.Serial, u.Vector = n+1, u.Serial, 0, slices.Clone(u.Vector)
					got = append(got, u)
					return nil
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			if n > 4 {
				t.Fatalf("%d at once", n)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		// The table itself bounds a model's name.
		if err := admin.Update(t.Context(), func(tx *Tx) error { return tx.SetModel(t.Context(), "V1", "abcdefghijklmnopqrstuvwxyz0123456") }); err == nil {
			t.Error("33 characters are stored")
		}
	})
}

func TestCheckModel(t *testing.T) {
	for name, good := range map[string]bool{
		"": true, "A": true, "Granite 2": true, "x_1-2.b": true, "abcdefghijklmnopqrstuvwxyz012345": true, "abcdefghijklmnopqrstuvwxyz0123456": false,
		" A": false, "A ": false, "A\n": false, "ä": false, "*": false, "<b>": false, "\x00": false,
	} {
		if err := admission.CheckModel(name); (err == nil) != good {
			t.Errorf("%q: %v", name, err)
		}
	}
}
