package identity

import (
	"testing"
	"time"

	"rawstone/collector/internal/store"
	"rawstone/pkg/enroll"
	"rawstone/pkg/wire"
)

// enrolment returns how a vehicle may connect.
func (r *rig) enrolment(vehicle string) (e store.Enrolment) {
	r.t.Helper()
	all, err := r.Enrolments(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range all {
		if e.Vehicle == vehicle {
			return e
		}
	}
	r.t.Fatalf("no vehicle %s", vehicle)
	return e
}

// enrol lets a vehicle enrol with a device key.
func (r *rig) enrol(vehicle string, device wire.PublicKey) {
	r.t.Helper()
	hash := r.enrolment(vehicle).Token
	err := r.db.Update(r.t.Context(), func(tx *store.Tx) error {
		return tx.Enrol(r.t.Context(), vehicle, hash, device, testTime().Add(time.Hour))
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestTokens(t *testing.T) {
	r := newRig(t)
	_, first, err := r.Add(t.Context(), r.vehicle("V1"))
	if err != nil {
		t.Fatal(err)
	}
	r.add(r.vehicle("V2"))
	e := r.enrolment("V1")
	if !enroll.Matches(first, e.Token) || !e.Expires.Equal(testTime().Add(time.Hour)) || e.Device != (wire.PublicKey{}) || !e.Until.IsZero() || e.Revoked {
		t.Errorf("after registration: %+v", e)
	}
	second, expires, err := r.Token(t.Context(), "V1")
	if err != nil || second == first || !expires.Equal(testTime().Add(time.Hour)) {
		t.Fatalf("token until %s (%v)", expires, err)
	}
	if e := r.enrolment("V1"); enroll.Matches(first, e.Token) || !enroll.Matches(second, e.Token) {
		t.Error("the old token is good still, or the new one not")
	}
	_, device := newKey(t)
	r.enrol("V1", device)
	if e := r.enrolment("V1"); e.Token != (wire.Hash{}) || !e.Expires.IsZero() || e.Device != device {
		t.Errorf("after enrolment: %+v", e)
	}
	r.refused("cannot make token for vehicle V9: it is not registered", func() error { _, _, err := r.Token(t.Context(), "V9"); return err })
	if e := r.enrolment("V2"); enroll.Matches(second, e.Token) || enroll.Matches(first, e.Token) || e.Device != (wire.PublicKey{}) {
		t.Error("another vehicle has the token or the key")
	}
}

func TestRevokeVehicle(t *testing.T) {
	r := newRig(t)
	r.add(r.vehicle("V1"))
	r.add(r.vehicle("V2"))
	_, device := newKey(t)
	r.enrol("V1", device)
	if _, _, err := r.Token(t.Context(), "V1"); err != nil {
		t.Fatal(err)
	}
	if err := r.RevokeVehicle(t.Context(), "V1"); err != nil {
		t.Fatal(err)
	}
	if e := r.enrolment("V1"); !e.Revoked || e.Token != (wire.Hash{}) || e.Device != device {
		t.Errorf("after revocation: %+v", e)
	}
	if r.enrolment("V2").Revoked {
		t.Error("another vehicle is revoked")
	}
	r.refused("cannot revoke vehicle V1: it is revoked", func() error { return r.RevokeVehicle(t.Context(), "V1") })
	r.refused("cannot revoke vehicle V9: it is not registered", func() error { return r.RevokeVehicle(t.Context(), "V9") })
	r.refused("cannot make token for vehicle V1: it is revoked", func() error { _, _, err := r.Token(t.Context(), "V1"); return err })
}
