package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/policy"
	"rawstone/collector/internal/program"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// counted is what a snapshot hides at an odometer in km; drive time follows at 20 m/s.
func counted(km uint32) wire.Opening {
	var o wire.Opening
	o.Counters[wire.OdometerM], o.Counters[wire.DriveTimeS], o.Salt[0] = km*1000, km*50, byte(km)
	return o
}

// snapshot has a vehicle's ECU sign what it counted.
func (w *world) snapshot(t *testing.T, id string, seq uint64, day, km uint32) wire.Snapshot {
	t.Helper()
	ecu, err := keyfile.Load(w.path(id + ".ecu"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.Sign(ecu, w.id, seq, day, claim.Commit(counted(km)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// driven is a car whose ECU was born at 0 km on day 2, with its claim of 45 km until day 5 that proves the tier of 40.
func (w *world) driven(t *testing.T, id string) (Vehicle, []byte) {
	t.Helper()
	car := w.car(t, id)
	birth, last := w.snapshot(t, id, 1, 2, 0), w.snapshot(t, id, 4, 5, 45)
	ecu, err := keyfile.Load(w.path(id + ".ecu"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := wire.NewPublicKey(ecu.Public())
	if err != nil {
		t.Fatal(err)
	}
	born := attest.Identity{Key: key, Program: w.id, Snapshot: birth}
	identity, err := attest.EncodeIdentity(born)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.IssueECU(w.path("ca"), &born, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, filepath.Base(car.ECUKey), identity)
	w.write(t, filepath.Base(car.ECUCert), certificate)
	lock, err := claim.ReadLock(w.path("program/claim"))
	if err != nil {
		t.Fatal(err)
	}
	prover, err := claim.OpenProver(w.path("program/claim"), lock)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := policy.Read(w.path("program/policies/1.cose"))
	if err != nil {
		t.Fatal(err)
	}
	const tier = 13 // 40 km
	proof, err := prover.Prove(claim.Statement{From: birth.Commitment, To: last.Commitment, Rows: doc.Statement(tier)}, counted(0), counted(45))
	if err != nil {
		t.Fatal(err)
	}
	c := wire.Claim{Version: wire.Version, ECU: key.ID(), From: wire.NewOrigin(birth), To: last, Proofs: []wire.ClaimProof{{Policy: 1, Tier: tier, Proof: proof}}}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return car, b
}

// TestPostgreSQL takes a collector whose records are in PostgreSQL from an empty server to a claim that is credited in the ledger. A
// second one waits for it, and ends when its lock is lost.
func TestPostgreSQL(t *testing.T) {
	pg := server.New(t, firewall.Owner)
	w := newWorld(t)
	const there = "state_dir: state\nrecords: {postgres: {url_file: records.url}}"
	w.write(t, "records.url", []byte(pg.URL()+"\n"))
	cfg := w.load(t, "state_dir: state", there)
	contains(t, refuses(t, cfg), "as rawstone_owner: ")
	if err := Migrate(t.Context(), cfg, ""); err != nil {
		t.Fatal(err)
	}
	car, submitted := w.driven(t, "CAR1")
	now := func() time.Time { return time.Now().Add(time.Minute) } // ten days into the program
	_, token, err := AddVehicle(t.Context(), cfg, car, now)
	if err != nil {
		t.Fatal(err)
	}
	r := startAt(t, cfg, now)
	client, _, err := r.connect(t, "CAR1", w.enrols(t, r, "CAR1", token))
	if err != nil {
		t.Fatal(err)
	}
	receipts := make(chan []byte, 8)
	tok := client.Subscribe(wire.Topic("CAR1", wire.KindReceipt), 1, func(_ mqtt.Client, m mqtt.Message) { receipts <- m.Payload() })
	if !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	if tok := client.Publish(wire.Topic("CAR1", wire.KindClaim), 1, false, submitted); !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	about, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-receipts:
		got, err := wire.OpenReceipt(about.Receipt, b)
		if err != nil || !got.Accepted || len(got.Credits) != 1 || got.Credits[0].Km != 40 {
			t.Fatalf("%+v, %v", got, err)
		}
	case <-time.After(hang):
		t.Fatalf("no receipt\n%s", r.log)
	}
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		os.Remove(w.path("openings.json"))
		if err := WriteOpenings(t.Context(), cfg, w.path("openings.json")); err != nil {
			t.Fatal(err)
		}
		report, err := Audit(t.Context(), w.path("state/ledger"), w.path("program/root.pub"), w.path("openings.json"))
		if err == nil && report.Credits == 1 && report.Blocks > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the ledger has no credit: %+v, %v\n%s", report, err, r.log)
		}
	}
	if _, err := os.Stat(w.path("state/records.db")); err == nil {
		t.Error("there is a file of SQLite's beside PostgreSQL")
	}

	other := w.load(t, "state_dir: state", strings.Replace(there, "state\n", "other\n", 1))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	second, ready, done := new(logs), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- Run(ctx, other, Deps{Logger: slog.New(slog.NewTextHandler(second, nil)), Now: now, OnReady: func(Addresses) { close(ready) }})
	}()
	waiting := func() bool { return strings.Contains(second.String(), "another collector settles from these records") }
	for end := time.Now().Add(hang); !waiting(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ready:
			t.Fatal("two collectors settle from the same records")
		case err := <-done:
			t.Fatalf("the second collector ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the second collector does not say that it waits\n%s", second)
		}
	}
	r.end(t)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the second collector ended: %v\n%s", err, second)
	case <-time.After(hang):
		t.Fatalf("the second collector does not take over\n%s", second)
	}
	if _, err := pg.As(t, "postgres").Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_locks
		WHERE locktype = 'advisory' AND objid <> 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "the settler's lock is lost") {
			t.Errorf("who lost the lock ended with %v", err)
		}
	case <-time.After(hang):
		t.Fatal("who lost the lock goes on")
	}
}
