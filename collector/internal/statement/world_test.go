package statement

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/settle"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/validator"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Days of three drops; genesis in the middle of day 1, and day d begins with drop 3d - 5.
var timing = terms.Timing{GenesisS: 100, DayS: 60, DropS: 20}

// A world is a collector's settling side over real records and a real log.
type world struct {
	t       *testing.T
	dir     string
	now     time.Time
	root    wire.PublicKey
	secret  string // of the log
	program *terms.Program
	id      wire.Hash
	owner   *ecdsa.PrivateKey
	db      *store.DB
	log     *tlog.Log
	settler *settle.Settler
	desk    *Desk
	seq     uint64
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Unix(90, 0)}
	root, rootPub := newKey(t)
	policy, policyPub := newKey(t)
	board, boardPub := newKey(t)
	_, receiptPub := newKey(t)
	w.owner, _ = newKey(t)
	secret, verifier, err := tlog.GenerateKey("log.example")
	w.must(err)
	w.root, w.secret = rootPub, secret
	w.must(os.WriteFile(w.rootPath(), []byte(hex.EncodeToString(rootPub[:])), 0o600))
	w.program = &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: timing,
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub}, BoardQuorum: 1, Quorum: 1, LogKey: verifier}
	var keys []*ledger.ValidatorKey
	for i := range 1 {
		k, err := ledger.GenerateValidatorKey(fmt.Sprintf("validator%d.example", i))
		w.must(err)
		keys = append(keys, k)
		w.program.Validators = append(w.program.Validators, k.Public())
	}
	signed, err := terms.SealProgram(root, w.program)
	w.must(err)
	w.id = wire.ID(signed)
	charter, err := terms.SealCharter([]crypto.Signer{board}, &terms.Charter{Version: wire.Version, Program: w.id, Serial: 1, Kinds: []string{terms.KindMileage},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	w.must(err)
	row := wire.Row{B: 500_000}
	row.A[wire.OdometerM] = 1
	mileage, err := terms.SealPolicy(policy, &terms.Policy{Version: wire.Version, Program: w.id, Serial: 1, Kind: terms.KindMileage, ToDay: 1000,
		Circuit: wire.Hash{1}, ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, CapKm: 1000, Tiers: []terms.Tier{{Km: 500, Rows: []wire.Row{row}}}})
	w.must(err)
	offers, err := cultivation.SealOffers(policy, &cultivation.Offers{Version: wire.Version, Program: w.id, Serial: 1, FromDay: 15,
		Tasks: []cultivation.Task{{ID: "survey", Title: "Survey", Crystals: 30, Daily: 300, Total: 3000}},
		Boxes: []cultivation.OfferedBox{{ID: "small", Title: "Small box", Cost: 10,
			Owners: []cultivation.Odds{{Parts: 400_000, Prize: cultivation.Prize{Milli: 1500}}, {Parts: 300_000, Prize: cultivation.Prize{Crystals: 7}}, {Parts: 300_000, Prize: cultivation.Prize{Goods: "mug"}}},
			Others: []cultivation.Odds{{Parts: 1_000_000, Prize: cultivation.Prize{Crystals: 1}}}}},
		Catalogue: []cultivation.Item{{ID: "mug", Title: "Mug", Milli: 2500, Fen: 100}}})
	w.must(err)
	w.db, err = store.Open(t.Context(), store.Config{Path: w.recordsPath(), Role: store.Ingest | store.Settle | store.Audit | store.Admin | store.Account | store.Person})
	w.must(err)
	t.Cleanup(func() { w.db.Close() })
	signer, err := note.NewSigner(secret)
	w.must(err)
	logger := slog.New(slog.DiscardHandler)
	w.log, err = tlog.Open(t.Context(), tlog.Config{Dir: w.logDir(), Signer: signer, Verifier: verifier, Logger: logger})
	w.must(err)
	t.Cleanup(func() { w.log.Close() })
	validators := make(map[string]settle.Validator)
	for i, k := range keys {
		v, err := validator.Open(validator.Config{Key: k, Root: w.root, State: filepath.Join(w.dir, fmt.Sprintf("validator%d.json", i)), Openings: remembering{stones.Opener{DB: w.db}, make(map[string][32]byte)}, Now: func() time.Time { return w.now }, Logger: logger})
		w.must(err)
		validators[k.Public().Name] = v
	}
	elapsed := time.Duration(0)
	w.settler, err = settle.New(t.Context(), settle.Config{Store: w.db, Log: w.log, LogDir: w.logDir(), Root: w.root, Validators: validators,
		Documents: []settle.Document{{Type: ledger.TypeProgram, Body: signed}, {Type: ledger.TypeCharter, Body: charter}, {Type: ledger.TypePolicy, Body: mileage}, {Type: ledger.TypeOffers, Body: offers}},
		Now:       func() time.Time { return w.now }, Elapsed: func() time.Duration { elapsed += time.Hour; return elapsed }, Patience: 10 * time.Minute, Logger: logger, Registerer: prometheus.NewRegistry()})
	w.must(err)
	w.desk, err = w.open()
	w.must(err)
	return w
}

// open opens a desk with nothing but what its role may do.
func (w *world) open() (*Desk, error) {
	d, err := Open(w.t.Context(), store.Config{Path: w.recordsPath()}, w.config())
	if err == nil {
		w.t.Cleanup(func() { d.Close() })
	}
	return d, err
}

func (w *world) config() Config {
	return Config{LogDir: w.logDir(), Root: w.root, Days: w.daysDir(), Logger: slog.New(slog.DiscardHandler)}
}

func (w *world) daysDir() string     { return filepath.Join(w.dir, "days") }
func (w *world) logDir() string      { return filepath.Join(w.dir, "log") }
func (w *world) rootPath() string    { return filepath.Join(w.dir, "root.pub") }
func (w *world) recordsPath() string { return filepath.Join(w.dir, "records.db") }

// at moves the clock to the instant of a drop and settles.
func (w *world) at(drop uint64) {
	w.t.Helper()
	w.now = timing.DropTime(drop)
	w.must(w.settler.Step(w.t.Context()))
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	w.must(w.db.Update(w.t.Context(), fn))
}

// join adds an account with a car.
func (w *world) join(name string) wire.KeyID {
	w.t.Helper()
	_, pub := newKey(w.t)
	w.update(func(tx *store.Tx) error {
		return errors.Join(
			tx.AddAccount(w.t.Context(), name),
			tx.AddVehicle(w.t.Context(), store.Vehicle{ID: strings.ToUpper(name), Account: name, Device: pub}),
			tx.AddECU(w.t.Context(), pub, nil),
			tx.AddBinding(w.t.Context(), ledger.BindingOpening{Vehicle: strings.ToUpper(name), Account: name, ECU: pub}))
	})
	return pub.ID()
}

// credit adds a credit as a claim accepted now would.
func (w *world) credit(name string, ecu wire.KeyID, km uint32) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		key, err := tx.OpenBinding(w.t.Context(), strings.ToUpper(name))
		if err != nil {
			return err
		}
		w.seq++
		span := store.Span{ECU: ecu, From: key.Head, To: wire.Head{Seq: key.Head.Seq + 1, Day: key.Head.Day + 1}, Vehicle: strings.ToUpper(name), Submission: wire.Hash{byte(w.seq), byte(w.seq >> 8)}}
		return tx.AddSpan(w.t.Context(), span, key.Entry, key.Head.Seq, []store.Credit{{Account: name, Vehicle: span.Vehicle, ECU: ecu, ToSeq: span.To.Seq,
			Policy: 1, Kind: terms.KindMileage, Km: km, Effective: timing.Day(w.now) + 1, Submission: span.Submission}})
	})
}

// move takes the ECU out of an account's car, puts it into another's in place of that one's own, and revokes what was taken out there.
func (w *world) move(from, to string, ecu, own wire.KeyID) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error {
		b, err := tx.OpenBinding(w.t.Context(), strings.ToUpper(from))
		if err != nil {
			return err
		}
		old, err := tx.OpenBinding(w.t.Context(), strings.ToUpper(to))
		if err != nil {
			return err
		}
		return errors.Join(
			tx.CloseBinding(w.t.Context(), ledger.HandoverOpening{ECU: own, Cut: old.Head.Seq, Revoked: true}),
			tx.CloseBinding(w.t.Context(), ledger.HandoverOpening{ECU: ecu, Cut: b.Head.Seq + 3}),
			tx.AddBinding(w.t.Context(), ledger.BindingOpening{Vehicle: strings.ToUpper(to), Account: to, ECU: b.ECU, Head: wire.Head{Seq: b.Head.Seq + 4}}))
	})
}

func (w *world) estate(fn func(store.Estate) error) {
	w.t.Helper()
	w.update(func(tx *store.Tx) error { return fn(tx.Estate(estate.Rules{Program: w.program, ID: w.id})) })
}

// box has anna, who has crystals, ask for a box.
func (w *world) box(nonce byte) {
	w.t.Helper()
	r, err := account.SealBoxRequest(w.owner, &account.BoxRequest{Program: w.id, Account: "anna", Nonce: [16]byte{nonce}, Offers: 1, Box: "small", Until: timing.Day(w.now) + 1})
	w.must(err)
	w.estate(func(e store.Estate) error { _, err := e.OpenBox(w.t.Context(), "anna", r); return err })
}

// life is what anna, ben and chen live through in some days; each is called whenever the clock has moved, which it does by many drops at once
// where nothing else happens.
func (w *world) life(each func(drop uint64)) {
	w.t.Helper()
	anna, ben := w.join("anna"), w.join("ben")
	chen := w.join("chen")
	w.credit("anna", anna, 40)
	for _, drop := range []uint64{0, 1, 2, 3, 4, 6, 7, 8, 11, 20, 21, 22, 39, 40, 41, 42, 43, 44, 47} {
		if drop > 0 {
			w.at(drop - 1)
		}
		w.now = timing.DropTime(drop)
		switch drop {
		case 3:
			w.credit("ben", ben, 12)
		case 4:
			w.credit("anna", anna, 100)
			w.credit("chen", chen, 7)
		case 6:
			key, err := wire.NewPublicKey(w.owner.Public())
			w.must(err)
			w.estate(func(e store.Estate) error { _, err := e.Change(w.t.Context(), "anna", &key, true); return err })
		case 7:
			w.credit("anna", anna, 33)
		case 20:
			w.move("ben", "chen", ben, chen)
			w.credit("chen", ben, 3)
		case 39:
			w.credit("dora", w.join("dora"), 9)
		case 40:
			w.estate(func(e store.Estate) error {
				_, err := e.Grant(w.t.Context(), estate.GrantRequest{Account: "anna", Task: "survey", Reference: wire.Hash{1}})
				return err
			})
		case 41:
			w.box(1)
			w.box(2)
		case 42:
			w.credit("anna", anna, 11)
		}
		w.at(drop)
		if each != nil {
			each(drop)
		}
	}
}
