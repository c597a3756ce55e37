package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const today = 100

var program = wire.ID([]byte("program"))

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

func newVehicle(t *testing.T, id string, program wire.Hash, day uint32) Vehicle {
	t.Helper()
	k, pub := newKey(t)
	s, err := attest.Sign(k, program, 3, day, wire.Commitment{1})
	if err != nil {
		t.Fatal(err)
	}
	_, device := newKey(t)
	return Vehicle{ID: id, Identity: attest.Identity{Key: pub, Program: program, Snapshot: s}, Device: device}
}

func newRegistry(t *testing.T) (*Registry, *store.DB) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	clock := terms.Clock{Timing: terms.Timing{DayS: 86400}, Now: func() time.Time { return time.Unix(today*86400, 0) }}
	r, err := New(Config{DB: db, Program: program, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return r, db
}

func TestAddBindsAndLogsTheFirstHead(t *testing.T) {
	r, db := newRegistry(t)
	v := newVehicle(t, "V1", program, today)
	account, err := r.Add(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Get(t.Context(), "V1")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(store.Vehicle{ID: "V1", Account: account, Device: v.Device, AddedDay: today}, got); d != "" || account == "" {
		t.Error(d)
	}
	var k store.Key
	err = db.View(t.Context(), func(tx *store.Tx) (err error) {
		k, err = tx.Key(t.Context(), v.Identity.Key.ID())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(store.Key{Public: v.Identity.Key, Vehicle: "V1", Head: v.Identity.Snapshot.Head()}, k); d != "" {
		t.Error(d)
	}
}

func TestAccounts(t *testing.T) {
	r, _ := newRegistry(t)
	own, err := r.Add(t.Context(), newVehicle(t, "V1", program, today))
	if err != nil {
		t.Fatal(err)
	}
	other, err := r.Add(t.Context(), newVehicle(t, "V2", program, today))
	if err != nil || other == own {
		t.Fatalf("second vehicle: account %s (%v), want one of its own", other, err)
	}
	second := newVehicle(t, "V3", program, today)
	second.Account = own
	if got, err := r.Add(t.Context(), second); err != nil || got != own {
		t.Errorf("got account %s (%v), want %s", got, err, own)
	}
	all, err := r.List(t.Context())
	if err != nil || len(all) != 3 || all[0].ID != "V1" || all[2].Account != own {
		t.Errorf("list %+v (%v)", all, err)
	}
}

func TestAddRefuses(t *testing.T) {
	r, db := newRegistry(t)
	first := newVehicle(t, "V1", program, today)
	if _, err := r.Add(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]Vehicle{
		"it is already registered":                             newVehicle(t, "V1", program, today),
		"its ECU key is already bound to vehicle V1":           {ID: "V2", Identity: first.Identity, Device: newVehicle(t, "X", program, today).Device},
		"its device key is already registered for vehicle V1":  {ID: "V2", Identity: newVehicle(t, "X", program, today).Identity, Device: first.Device},
		"vehicle id must be":                                   newVehicle(t, "v2", program, today),
		"its ECU belongs to another program":                   newVehicle(t, "V2", wire.Hash{1}, today),
		"its ECU says day 102 and today is day 100":            newVehicle(t, "V2", program, today+2),
		"there is no account nobody: leave the account out":    with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Account = "nobody" }),
		"account name must be":                                 with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Account = "a b" }),
		"its device key is its ECU's key":                      with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Device = v.Identity.Key }),
		"device key: cannot use public key":                    with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Device = wire.PublicKey{} }),
		"ECU key: cannot use public key":                       with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Identity.Key = wire.PublicKey{} }),
		"ECU identity: cannot verify snapshot":                 with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Identity.Snapshot.Seq++ }),
		"ECU identity: cannot verify snapshot: cannot verify ": with(newVehicle(t, "V2", program, today), func(v *Vehicle) { v.Identity.Snapshot.Signature[0] ^= 1 }),
	} {
		if _, err := r.Add(t.Context(), v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	var s store.Summary
	err := db.View(t.Context(), func(tx *store.Tx) (err error) {
		s, err = tx.Summary(t.Context())
		return err
	})
	if err != nil || s.Vehicles != 1 || s.Accounts != 1 {
		t.Errorf("refusals left something behind: %+v (%v)", s, err)
	}
	if _, err := r.Get(t.Context(), "V2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func with(v Vehicle, change func(*Vehicle)) Vehicle {
	change(&v)
	return v
}
