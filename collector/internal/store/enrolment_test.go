package store

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

func TestEnrolment(t *testing.T) {
	engines(t, func(t *testing.T, r *rig) {
		d := r.open(t, every)
		ctx := t.Context()
		update := func(fn func(*Tx) error) error { t.Helper(); return d.Update(ctx, fn) }
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		get := func(vehicle string) (e Enrolment) {
			t.Helper()
			must(d.View(ctx, func(tx *Tx) (err error) { e, err = tx.Enrolment(ctx, vehicle); return err }))
			return e
		}
		gone := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%s: %v", what, err)
			}
		}
		admitted := func(vehicle string, want wire.PublicKey) {
			t.Helper()
			key, ok, err := d.Device(ctx, vehicle)
			if err != nil || ok != (want != wire.PublicKey{}) || ok && key != want {
				t.Errorf("vehicle %s connects with %v, %t (%v)", vehicle, key, ok, err)
			}
		}
		changed := func(since, until int64, want ...string) {
			t.Helper()
			got, serial, err := d.Changed(ctx, since)
			if err != nil || !slices.Equal(got, want) || serial != until {
				t.Errorf("changed after %d: %v, up to %d (%v)", since, got, serial, err)
			}
		}
		must(update(func(tx *Tx) error {
			return errors.Join(tx.AddAccount(ctx, "A"), tx.AddVehicle(ctx, Vehicle{ID: "V1", Account: "A"}), tx.AddVehicle(ctx, Vehicle{ID: "V2", Account: "A"}))
		}))
		if d := cmp.Diff(Enrolment{Vehicle: "V1"}, get("V1")); d != "" {
			t.Error(d)
		}
		admitted("V1", wire.PublicKey{})
		admitted("V9", wire.PublicKey{})
		changed(0, 0)

		token, device, expires, until := wire.Hash{1}, wire.PublicKey{2, 1}, time.Unix(time.Now().Unix()+1000, 0).UTC(), time.Unix(time.Now().Unix()+2000, 0).UTC()
		enrol := func(vehicle string, token wire.Hash, device wire.PublicKey) error {
			return update(func(tx *Tx) error { return tx.Enrol(ctx, vehicle, token, device, until) })
		}
		must(update(func(tx *Tx) error { return tx.SetToken(ctx, "V1", token, expires) }))
		if d := cmp.Diff(Enrolment{Vehicle: "V1", Token: token, Expires: expires}, get("V1")); d != "" {
			t.Error(d)
		}
		gone("another token", enrol("V1", wire.Hash{2}, device))
		gone("another vehicle", enrol("V2", token, device))
		gone("an empty token", enrol("V2", wire.Hash{}, device))
		changed(0, 0)
		must(enrol("V1", token, device))
		if d := cmp.Diff(Enrolment{Vehicle: "V1", Device: device, Until: until}, get("V1")); d != "" {
			t.Error(d)
		}
		gone("a used token", enrol("V1", token, wire.PublicKey{2, 9}))
		admitted("V1", device)
		changed(0, 1, "V1")
		changed(1, 0)

		must(update(func(tx *Tx) error { return tx.SetToken(ctx, "V2", token, expires) }))
		if err := enrol("V2", token, device); err == nil {
			t.Error("two vehicles have one device key")
		}
		must(enrol("V2", token, wire.PublicKey{2, 2}))
		changed(0, 2, "V1", "V2")
		renew := func(vehicle string, device wire.PublicKey, at time.Time) error {
			return update(func(tx *Tx) error { return tx.Renew(ctx, vehicle, device, at) })
		}
		gone("a renewal with another key", renew("V1", wire.PublicKey{2, 2}, expires))
		must(renew("V1", device, until.Add(time.Hour)))
		if e := get("V1"); !e.Until.Equal(until.Add(time.Hour)) || !get("V2").Until.Equal(until) {
			t.Errorf("after a renewal: %+v", e)
		}
		changed(2, 0) // a renewal changes nothing of who may connect

		must(update(func(tx *Tx) error { return tx.SetToken(ctx, "V1", token, expires) }))
		revoke := func() error { return update(func(tx *Tx) error { return tx.RevokeVehicle(ctx, "V1") }) }
		must(revoke())
		gone("a second revocation", revoke())
		gone("a token after revocation", update(func(tx *Tx) error { return tx.SetToken(ctx, "V1", token, expires) }))
		gone("a renewal after revocation", renew("V1", device, until))
		gone("an enrolment after revocation", enrol("V1", token, wire.PublicKey{2, 3}))
		admitted("V1", wire.PublicKey{})
		admitted("V2", wire.PublicKey{2, 2})
		changed(0, 3, "V2", "V1")
		changed(2, 3, "V1")
		var all []Enrolment
		must(d.View(ctx, func(tx *Tx) (err error) { all, err = tx.Enrolments(ctx); return err }))
		want := []Enrolment{{Vehicle: "V1", Device: device, Until: until.Add(time.Hour), Revoked: true}, {Vehicle: "V2", Device: wire.PublicKey{2, 2}, Until: until}}
		if d := cmp.Diff(want, all); d != "" {
			t.Error(d)
		}
	})
}
