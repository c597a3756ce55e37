package registry

import (
	"context"
	"time"

	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// A Connection says how a vehicle may connect.
type Connection string

// The states of a vehicle's connection: one that waits for its enrolment has a token that is good, one whose token has expired none.
const (
	Waiting  Connection = "waiting"
	Expired  Connection = "token expired"
	Enrolled Connection = "enrolled"
	Revoked  Connection = "revoked"
)

// A Registered is a vehicle in the registry.
type Registered struct {
	ID       string     `json:"id"`
	Account  string     `json:"account"`
	Model    string     `json:"model,omitempty"`
	AddedDay uint32     `json:"added_day"`
	LastSeen time.Time  `json:"last_seen,omitzero"`
	State    Connection `json:"state"`
	// Certificate is when its last client certificate ends, Token when a token that is good expires.
	Certificate time.Time `json:"certificate_until,omitzero"`
	Token       time.Time `json:"token_until,omitzero"`
}

// Vehicles lists the vehicles in the order of their names.
func (d *Desk) Vehicles(ctx context.Context) ([]Registered, error) {
	all, err := d.r.List(ctx)
	if err != nil {
		return nil, err
	}
	enrolments, err := d.r.Enrolments(ctx)
	if err != nil {
		return nil, err
	}
	by := make(map[string]store.Enrolment, len(enrolments))
	for _, e := range enrolments {
		by[e.Vehicle] = e
	}
	out := make([]Registered, 0, len(all)) // an empty list in JSON too
	for _, v := range all {
		e := by[v.ID]
		r := Registered{ID: v.ID, Account: v.Account, Model: v.Model, AddedDay: v.AddedDay, LastSeen: v.LastSeen, State: Expired, Certificate: e.Until}
		if d.now().Before(e.Expires) {
			r.State, r.Token = Waiting, e.Expires
		}
		if e.Device != (wire.PublicKey{}) {
			r.State = Enrolled
		}
		if e.Revoked {
			r.State = Revoked
		}
		out = append(out, r)
	}
	return out, nil
}

// A Key is an ECU key in the registry.
type Key struct {
	ID        string         `json:"id"`
	State     identity.State `json:"state"`
	Certified bool           `json:"certified"`
	Bindings  []Binding      `json:"bindings"`
}

// A Binding is one of a key's, by sequence numbers of its snapshots: credits lie behind First, and up to Cut once there is one.
type Binding struct {
	Vehicle string  `json:"vehicle"`
	First   uint64  `json:"first"`
	Head    uint64  `json:"head"`
	Cut     *uint64 `json:"cut,omitempty"`
}

// Keys lists the ECU keys in the order of their identifiers.
func (d *Desk) Keys(ctx context.Context) ([]Key, error) {
	all, err := d.r.Keys(ctx)
	out := make([]Key, 0, len(all))
	for _, k := range all {
		key := Key{ID: k.ID.String(), State: k.State, Certified: k.Certified}
		for _, b := range k.Bindings {
			one := Binding{Vehicle: b.Vehicle, First: b.First.Seq, Head: b.Head.Seq}
			if b.Closed {
				one.Cut = &b.Cut
			}
			key.Bindings = append(key.Bindings, one)
		}
		out = append(out, key)
	}
	return out, err
}
