package settle

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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

	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/validator"
	"rawstone/pkg/audit"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Days of four drops; genesis in the middle of day 2.
var timing = terms.Timing{GenesisS: 100, DayS: 40, DropS: 10}

// A world is a collector's settling side, in a directory, that can be stopped anywhere and started anew.
type world struct {
	t          testing.TB
	dir        string
	now        time.Time
	elapsed    time.Duration
	patience   time.Duration
	root       wire.PublicKey
	rootKey    *ecdsa.PrivateKey
	program    *terms.Program
	id         wire.Hash
	policy     *ecdsa.PrivateKey
	board      []crypto.Signer
	secret     string
	keys       []*ledger.ValidatorKey
	documents  []Document
	said       strings.Builder
	validators []*flaky

	db      *store.DB
	log     *tlog.Log
	settler *Settler
	cancel  context.CancelFunc
	seq     uint64
}

// flaky is a validator that can be cut off.
type flaky struct {
	Validator
	noProof, noSign bool
	signing         func() // before each cosignature
}

var errCut = errors.New("cut off")

func (f *flaky) Prove(ctx context.Context, due audit.Due) (ledger.Proof, error) {
	if f.noProof {
		return ledger.Proof{}, errCut
	}
	return f.Validator.Prove(ctx, due)
}

func (f *flaky) Cosign(ctx context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error) {
	if f.noSign {
		return ledger.Cosignature{}, errCut
	}
	if f.signing != nil {
		f.signing()
	}
	return f.Validator.Cosign(ctx, t, payload)
}

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
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

func newWorld(t testing.TB, validators int, quorum uint8) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Unix(90, 0), patience: 10 * time.Minute}
	root, rootPub := newKey(t)
	policy, policyPub := newKey(t)
	board, boardPub := newKey(t)
	second, secondPub := newKey(t)
	_, receiptPub := newKey(t)
	secret, verifier, err := tlog.GenerateKey("log.example")
	w.must(err)
	w.root, w.rootKey, w.secret = rootPub, root, secret
	w.program = &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: timing,
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub, secondPub}, BoardQuorum: 1, Quorum: quorum, LogKey: verifier}
	for i := range validators {
		k, err := ledger.GenerateValidatorKey(fmt.Sprintf("validator%d.example", i))
		w.must(err)
		w.keys = append(w.keys, k)
		w.program.Validators = append(w.program.Validators, k.Public())
	}
	signed, err := terms.SealProgram(root, w.program)
	w.must(err)
	w.policy, w.board, w.id = policy, []crypto.Signer{board, second}, wire.ID(signed)
	w.documents = []Document{{Type: ledger.TypeProgram, Body: signed}, w.charter(1, board), w.mileage(1, 500)}
	w.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(w.dir, "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin | store.Account | store.Person})
	w.must(err)
	t.Cleanup(func() { w.db.Close() })
	return w
}

// charter is signed by the keys given; the program asks for one.
func (w *world) charter(serial uint16, board ...crypto.Signer) Document {
	w.t.Helper()
	b, err := terms.SealCharter(board, &terms.Charter{Version: wire.Version, Program: w.id, Serial: serial, Kinds: []string{terms.KindMileage},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	w.must(err)
	return Document{Type: ledger.TypeCharter, Body: b}
}

// mileage signs a policy anew with each call.
func (w *world) mileage(serial uint16, km uint32) Document { return w.distance(serial, km, false) }

// stopped is a stop of mileage.
func (w *world) stopped(serial uint16) Document { return w.distance(serial, 500, true) }

func (w *world) distance(serial uint16, km uint32, stop bool) Document {
	w.t.Helper()
	row := wire.Row{B: int64(km) * 1000}
	row.A[wire.OdometerM] = 1
	b, err := terms.SealPolicy(w.policy, &terms.Policy{Version: wire.Version, Program: w.id, Serial: serial, Kind: terms.KindMileage, ToDay: 1000, Stop: stop,
		Circuit: wire.Hash{1}, ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, CapKm: 1000, Tiers: []terms.Tier{{Km: km, Rows: []wire.Row{row}}}})
	w.must(err)
	return Document{Type: ledger.TypePolicy, Body: b}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) logDir() string { return filepath.Join(w.dir, "log") }

// start makes everything but the records anew, as a process does.
func (w *world) start() error {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	w.cancel = cancel
	signer, err := note.NewSigner(w.secret)
	w.must(err)
	logger := slog.New(slog.NewTextHandler(&w.said, nil))
	w.log, err = tlog.Open(ctx, tlog.Config{Dir: w.logDir(), Signer: signer, Verifier: w.program.LogKey, Logger: logger})
	if err != nil {
		return err
	}
	w.validators = nil
	list := make(map[string]Validator)
	for i, k := range w.keys {
		v, err := validator.Open(validator.Config{Key: k, Root: w.root, State: filepath.Join(w.dir, fmt.Sprintf("validator%d.json", i)), Openings: remembering{stones.Opener{DB: w.db}, make(map[string][32]byte)}, Now: func() time.Time { return w.now }, Logger: logger})
		w.must(err)
		f := &flaky{Validator: v}
		w.validators = append(w.validators, f)
		list[k.Public().Name] = f
	}
	w.settler, err = New(ctx, Config{Store: w.db, Log: w.log, LogDir: w.logDir(), Root: w.root, Documents: w.documents, Validators: list,
		Now: func() time.Time { return w.now }, Elapsed: func() time.Duration { return w.elapsed }, Patience: w.patience, Logger: logger, Registerer: prometheus.NewRegistry()})
	return err
}

// stop ends what start made. What the log was given stays; the rest of memory is gone.
func (w *world) stop() {
	w.t.Helper()
	w.must(w.log.Close())
	w.cancel()
}

func (w *world) step() {
	w.t.Helper()
	w.must(w.settler.Step(w.t.Context()))
}

// at moves the clock to the instant of a drop and settles.
func (w *world) at(drop uint64) {
	w.t.Helper()
	w.now = timing.DropTime(drop)
	w.step()
}

// owner adds an account with a car.
func (w *world) owner(account string) wire.KeyID {
	w.t.Helper()
	_, pub := newKey(w.t)
	w.must(w.db.Update(w.t.Context(), func(tx *store.Tx) error {
		return errors.Join(
			tx.AddAccount(w.t.Context(), account),
			tx.AddVehicle(w.t.Context(), store.Vehicle{ID: strings.ToUpper(account), Account: account, Device: pub}),
			tx.AddECU(w.t.Context(), pub, nil),
			tx.AddBinding(w.t.Context(), ledger.BindingOpening{Vehicle: strings.ToUpper(account), Account: account, ECU: pub}))
	}))
	return pub.ID()
}

// credit adds a credit as a claim accepted now would.
func (w *world) credit(account string, ecu wire.KeyID, km uint32) {
	w.t.Helper()
	w.creditOf(account, ecu, terms.KindMileage, km)
}

func (w *world) creditOf(account string, ecu wire.KeyID, kind string, km uint32) {
	w.t.Helper()
	w.must(w.db.Update(w.t.Context(), func(tx *store.Tx) error {
		key, err := tx.OpenBinding(w.t.Context(), strings.ToUpper(account))
		if err != nil {
			return err
		}
		w.seq++
		span := store.Span{ECU: ecu, From: key.Head, To: wire.Head{Seq: key.Head.Seq + 1, Day: key.Head.Day + 1}, Vehicle: strings.ToUpper(account), Submission: wire.Hash{byte(w.seq), byte(w.seq >> 8)}}
		return tx.AddSpan(w.t.Context(), span, key.Entry, key.Head.Seq, []store.Credit{{Account: account, Vehicle: span.Vehicle, ECU: ecu, ToSeq: span.To.Seq,
			Policy: 1, Kind: kind, Km: km, Effective: timing.Day(w.now) + 1, Submission: span.Submission}})
	}))
}

// audit replays the log as a stranger and with the openings, and compares its balances with the settler's.
func (w *world) audit() audit.Report {
	w.t.Helper()
	openings, err := stones.Openings(w.t.Context(), w.db)
	w.must(err)
	_, err = audit.Audit(w.t.Context(), audit.Config{Dir: w.logDir(), Root: w.root})
	w.must(err)
	r, err := audit.Audit(w.t.Context(), audit.Config{Dir: w.logDir(), Root: w.root, Openings: openings})
	w.must(err)
	var today map[string]uint64 // what the settler has not settled
	if w.settler.today != nil {
		_, today = w.settler.today.Gains()
	}
	sum := uint64(0)
	for _, account := range []string{"anna", "ben", "chen"} {
		p := w.profile(account)
		milli := p.Milli
		if p.Account != "" { // what is drawn for an erased account is nobody's
			milli += today[account]
		}
		if milli != r.Balances[account] {
			w.t.Errorf("balance of %s is %d, the audit finds %d", account, milli, r.Balances[account])
		}
		sum += milli
		if p.Crystals != r.Crystals[account] {
			w.t.Errorf("%s has %d crystals, the audit finds %d", account, p.Crystals, r.Crystals[account])
		}
	}
	if want := r.Supply + r.Cultivated - r.Redeemed; sum+r.ErasedMilli != want {
		w.t.Errorf("balances add up to %d beside %d of erased accounts, want %d", sum, r.ErasedMilli, want)
	}
	return r
}

// move takes the ECU out of an account's car, puts it into another's in place of that one's own, and revokes what was taken out there.
func (w *world) move(from, to string, ecu, own wire.KeyID) {
	w.t.Helper()
	w.must(w.db.Update(w.t.Context(), func(tx *store.Tx) error {
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
	}))
}

// script is what a world lives through: settle is called when the clock has moved.
func script(w *world, settle func()) {
	anna, ben := w.owner("anna"), w.owner("ben")
	chen := w.owner("chen")
	w.credit("anna", anna, 40)
	for drop := uint64(0); drop < 18; drop++ {
		w.now = timing.DropTime(drop)
		switch drop {
		case 3:
			w.credit("ben", ben, 12)
		case 4:
			w.credit("anna", anna, 100)
			w.credit("chen", chen, 7)
		case 6:
			w.move("anna", "chen", anna, chen)
			w.credit("chen", anna, 3)
		case 9:
			w.credit("ben", ben, 500)
		}
		settle()
	}
}

func TestSettle(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	script(w, w.step)
	r := w.audit()
	if r.Blocks != 18 || r.Credits != 6 || r.Supply == 0 || len(r.Balances) != 3 {
		t.Errorf("audit reports %s with %v", r, r.Balances)
	}
	drops, err := stones.Drops(t.Context(), w.db, 3)
	w.must(err)
	if len(drops) != 3 || drops[0].Drop != 17 || drops[2].Drop != 15 || drops[0].Cosigned != 1 {
		t.Errorf("last drops are %+v", drops)
	}
	s := stones.SupplyOf(drops[0].Block)
	if s.Issued != r.Supply || s.Issued > s.Scheduled || s.Scheduled-s.Issued != drops[0].Carry {
		t.Errorf("supply is %+v, the audit says %d", s, r.Supply)
	}
	for _, want := range []string{`msg="drop drawn" drop=17 units=1000 owners=3`, `msg="stones credited" milli_stones=500000 owners=3`} {
		if !strings.Contains(w.said.String(), want) {
			t.Errorf("log lacks %s", want)
		}
	}
	w.stop()

	// Away for more than a day: every missed drop is made up, in order, none twice.
	w.now = timing.DropTime(30)
	w.must(w.start())
	w.step()
	w.step()
	if r := w.audit(); r.Blocks != 31 {
		t.Errorf("%d blocks after catching up, want 31", r.Blocks)
	}
	w.stop()
}

// TestSettleEarlyRecords registers a vehicle before the collector ever ran: the program is the first entry all the same.
func TestSettleEarlyRecords(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.owner("anna")
	w.must(w.start())
	w.step()
	w.at(0)
	w.audit()
	w.stop()
}

// crash is a validator that fails as the process would die: at the n-th call of any kind, before or after the call has had its effect.
type crash struct {
	Validator
	calls *int
	at    int
	after bool
}

var errCrash = errors.New("the process dies")

func (c crash) around(call func() error) error {
	*c.calls++
	if *c.calls == c.at && !c.after {
		return errCrash
	}
	if err := call(); err != nil {
		return err
	}
	if *c.calls == c.at {
		return errCrash
	}
	return nil
}

func (c crash) Prove(ctx context.Context, due audit.Due) (p ledger.Proof, err error) {
	return p, c.around(func() error { p, err = c.Validator.Prove(ctx, due); return err })
}

func (c crash) Cosign(ctx context.Context, t ledger.Type, payload []byte) (s ledger.Cosignature, err error) {
	return s, c.around(func() error { s, err = c.Validator.Cosign(ctx, t, payload); return err })
}

// TestCrash stops the process at every call to a validator, before and after it, lets new credits come in, and starts anew; the log must
// be one that an audit accepts, with the same number of blocks.
func TestCrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		// Calls 1 to 7 are of a day without weight and its two drops, 8 to 12 of a day with.
		for _, at := range []int{1, 3, 8, 9, 10, 11, 12} {
			t.Run(fmt.Sprintf("call %d, after %t", at, after), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, 1)
				w.must(w.start())
				calls := 0
				first := w.keys[0].Public().Name
				w.settler.c.Validators[first] = crash{w.settler.c.Validators[first], &calls, at, after}
				anna := w.owner("anna")
				w.credit("anna", anna, 40)
				crashed := false
				for drop := uint64(0); drop < 8; drop++ {
					w.now = timing.DropTime(drop)
					if err := w.settler.Step(t.Context()); err != nil {
						if !errors.Is(err, errCrash) {
							t.Fatal(err)
						}
						crashed = true
						w.stop()
						// What changes the next block's view of the log, had it not been kept.
						w.credit("anna", anna, 12)
						w.must(w.start())
						w.step()
					}
				}
				if !crashed {
					t.Fatalf("only %d calls", calls)
				}
				if r := w.audit(); r.Blocks != 8 || r.Credits != 2 {
					t.Errorf("audit reports %s", r)
				}
				w.stop()
			})
		}
	}
}

// TestCrashBetweenRecordsAndLog stops after numbering, and after appending but before the records note it.
func TestCrashBetweenRecordsAndLog(t *testing.T) {
	for _, point := range []string{"numbered", "appended", "half appended"} {
		t.Run(point, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.must(w.start())
			anna := w.owner("anna")
			w.at(0)
			for range 5 {
				w.credit("anna", anna, 40)
			}
			w.must(w.settler.number(t.Context()))
			from := w.log.Size()
			entries, err := w.settler.entries(t.Context(), from)
			w.must(err)
			if len(entries) != 5 {
				t.Fatalf("%d entries are numbered, want 5", len(entries))
			}
			n := map[string]int{"numbered": 0, "half appended": 2, "appended": 5}[point]
			for _, e := range entries[:n] {
				b, err := e.Encode()
				w.must(err)
				w.must(w.log.Append(t.Context(), e.Number, b))
			}
			w.stop()
			w.must(w.start())
			w.step()
			w.at(6)
			if r := w.audit(); r.Credits != 5 || r.Blocks != 7 {
				t.Errorf("audit reports %s", r)
			}
			w.stop()
		})
	}
}

// TestLogAhead refuses records that are older than the log, or others.
func TestLogAhead(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	anna := w.owner("anna")
	w.at(0)
	w.must(w.db.Close())
	old := filepath.Join(t.TempDir(), "old.db")
	b, err := os.ReadFile(filepath.Join(w.dir, "records.db"))
	w.must(err)
	w.must(os.WriteFile(old, b, 0o600))
	reopen := func(path string) {
		var err error
		w.db, err = store.Open(t.Context(), store.Config{Path: path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
		w.must(err)
	}
	w.stop()
	reopen(filepath.Join(w.dir, "records.db"))
	w.must(w.start())
	w.credit("anna", anna, 40)
	w.at(1)
	w.stop()
	w.must(w.db.Close())

	reopen(old)
	if err := w.start(); err == nil || !strings.Contains(err.Error(), "restore newer records, or rebuild them") {
		t.Fatalf("older records: %v", err)
	}
	w.stop()
	// They go on by themselves: as many entries, but others.
	for range 5 {
		w.credit("anna", anna, 12)
	}
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.NumberEntries(t.Context(), 10) }))
	if err := w.start(); err == nil || !strings.Contains(err.Error(), "entry 7 of the log is not the records'") {
		t.Fatalf("other records: %v", err)
	}
	w.stop()
	w.must(w.db.Close())

	reopen(filepath.Join(w.dir, "records.db"))
	w.documents[0] = newWorld(t, 1, 1).documents[0]
	if err := w.start(); err == nil || !strings.Contains(err.Error(), "another program document") {
		t.Fatalf("another program: %v", err)
	}
	w.stop()
}

func TestFourValidators(t *testing.T) {
	w := newWorld(t, 4, 3)
	w.must(w.start())
	anna := w.owner("anna")
	w.credit("anna", anna, 40)
	w.at(3) // days 2 and 3
	if drops, err := stones.Drops(t.Context(), w.db, 1); err != nil || drops[0].Cosigned != 4 || len(drops[0].Proofs) != 4 {
		t.Fatalf("last drop is %+v, %v", drops, err)
	}
	// One validator falls silent: it is out for the day, its cosignature is missed, drops go on.
	w.validators[1].noProof, w.validators[1].noSign = true, true
	w.at(4)
	w.validators[1].noProof, w.validators[1].noSign = false, false
	w.at(5)
	drops, err := stones.Drops(t.Context(), w.db, 2)
	w.must(err)
	for _, d := range drops {
		if string(d.Withheld) != "\x01" || len(d.Proofs) != 3 {
			t.Errorf("drop %d has %d proofs, without %v", d.Drop, len(d.Proofs), d.Withheld)
		}
	}
	if drops[1].Cosigned != 3 || drops[0].Cosigned != 4 {
		t.Errorf("drops 4 and 5 have %d and %d cosignatures, want 3 and 4", drops[1].Cosigned, drops[0].Cosigned)
	}
	// Two refuse to sign: drops stop, and what was asked for is kept; afterwards no drop is skipped and no credit lost.
	w.validators[0].noSign, w.validators[2].noSign = true, true
	w.credit("anna", anna, 12)
	w.now = timing.DropTime(8)
	if err := w.settler.Step(t.Context()); !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "2 cosignatures of 3") {
		t.Fatalf("two validators of four: %v", err)
	}
	// What was final before is in the log all the same.
	w.must(w.db.View(t.Context(), func(tx *store.Tx) error {
		next, err := tx.NextNumber(t.Context())
		if next != w.log.Size() {
			t.Errorf("the log has %d entries of %d", w.log.Size(), next)
		}
		return err
	}))
	w.now = timing.DropTime(13)
	if err := w.settler.Step(t.Context()); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("two validators of four: %v", err)
	}
	w.validators[0].noSign, w.validators[2].noSign = false, false
	// Two give no proof: nobody is put out, since nothing goes on without them.
	w.validators[0].noProof, w.validators[2].noProof = true, true
	if err := w.settler.Step(t.Context()); !errors.Is(err, ErrNoQuorum) {
		t.Fatalf("two proofs of four: %v", err)
	}
	w.validators[0].noProof, w.validators[2].noProof = false, false
	w.step()
	if r := w.audit(); r.Blocks != 14 || r.Credits != 2 {
		t.Errorf("audit reports %s", r)
	}
	drops, err = stones.Drops(t.Context(), w.db, 1)
	w.must(err)
	if len(drops[0].Withheld) != 0 {
		t.Errorf("validators %v are still out days later", drops[0].Withheld)
	}
	w.stop()
}

// TestRecovery loses one of four validators for a drop and another for good: drops stop, for the day only, and none is skipped.
func TestRecovery(t *testing.T) {
	w := newWorld(t, 4, 3)
	w.must(w.start())
	anna := w.owner("anna")
	w.credit("anna", anna, 40)
	w.at(5)
	w.validators[1].noProof = true
	w.at(6) // day 4 is that of drops 6 to 9
	w.validators[1].noProof = false
	dead := w.validators[2]
	dead.noProof, dead.noSign = true, true
	stops := func(asked bool) {
		t.Helper()
		err := w.settler.Step(t.Context())
		if !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "drop 7 has 2 proofs of 3, and validators that are out are asked from 1970-01-01T00:03:20Z on") {
			t.Fatalf("two validators of four: %v", err)
		}
		if strings.Contains(err.Error(), "this validator is out of day 4, which ends in 1ns") != asked {
			t.Errorf("the one that is out was asked or not: %v", err)
		}
	}
	w.now = timing.DropTime(7)
	stops(false)
	w.now = timing.DayStart(5).Add(-time.Nanosecond)
	stops(false)
	// A settler whose clock alone is ahead gets none from the one that is out.
	w.settler.c.Now = func() time.Time { return timing.DayStart(5) }
	stops(true)
	w.settler.c.Now = func() time.Time { return w.now }
	if strings.Contains(w.said.String(), "is back before the next day") {
		t.Error("a validator is back before the end of its day")
	}
	w.now = timing.DayStart(5)
	w.step()
	if said := w.said.String(); strings.Count(said, "is back before the next day") != 1 || !strings.Contains(said, `when the day was over" validator=validator1.example drop=7`) {
		t.Errorf("it is not said, or not once: %s", said)
	}
	// The dead one is out of day 4, and of day 5 from its leaves on; another start finds the same.
	w.stop()
	w.must(w.start())
	w.validators[2].noProof, w.validators[2].noSign = true, true
	w.at(17)
	drops, err := stones.Drops(t.Context(), w.db, 100)
	w.must(err)
	if len(drops) != 18 {
		t.Fatalf("%d drops", len(drops))
	}
	for _, d := range drops {
		want := map[uint64]string{6: "\x01", 7: "\x02", 8: "\x02", 9: "\x02"}[d.Drop]
		if d.Drop >= 7 && len(d.Proofs) != 3 || d.Drop < 10 && string(d.Withheld) != want {
			t.Errorf("drop %d has %d proofs, without %v", d.Drop, len(d.Proofs), d.Withheld)
		}
	}
	if r := w.audit(); r.Blocks != 18 {
		t.Errorf("audit reports %s", r)
	}
	w.stop()
}

// TestOneAfterTheOther puts a later validator out before an earlier one.
func TestOneAfterTheOther(t *testing.T) {
	w := newWorld(t, 4, 2)
	w.must(w.start())
	w.at(1)
	w.at(2)
	w.validators[2].noProof = true
	w.at(3)
	w.validators[0].noProof = true
	w.at(4)
	drops, err := stones.Drops(t.Context(), w.db, 1)
	w.must(err)
	if string(drops[0].Withheld) != "\x00\x02" {
		t.Errorf("validators %v are out, want 0 and 2", drops[0].Withheld)
	}
	w.audit()
	w.stop()
}

// TestRun runs against the real clock of a program whose genesis is now.
func TestRun(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.now = timing.DropTime(2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.settler.Run(ctx) }()
	for {
		if drops, err := stones.Drops(t.Context(), w.db, 1); err == nil && len(drops) == 1 && drops[0].Drop == 2 {
			break
		}
		select {
		case err := <-done:
			t.Fatal("Run ended:", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	w.must(<-done)
	w.stop()
}

// TestSetAside puts rows into the outbox that no log takes, before and between good ones: they get no number, what belongs to them neither,
// and everything else goes on, also after a new start.
func TestSetAside(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	anna, ben := w.owner("anna"), w.owner("ben")
	bad := func(typ ledger.Type, body []byte) {
		w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { _, err := tx.AddEntry(t.Context(), typ, body); return err }))
	}
	blind, err := codec.Encode(ledger.Credit{Blind: wire.Hash{1}, Km: 40, Effective: timing.Day(w.now) + 1})
	w.must(err)
	bad(ledger.TypeCredit, []byte("nonsense"))
	bad(99, []byte("nonsense"))
	bad(ledger.TypeBlock, []byte("nonsense"))
	bad(ledger.TypeCredit, blind) // good for a stranger, and nobody's
	w.credit("anna", anna, 501)
	w.credit("anna", anna, 40)
	w.credit("ben", ben, 30)
	w.at(0)
	bad(ledger.TypeCredit, blind)
	w.at(3)
	if r := w.audit(); r.Credits != 2 || r.Blocks != 4 {
		t.Errorf("%d credits and %d blocks, want 2 and 4", r.Credits, r.Blocks)
	}
	w.stop()
	w.must(w.start())
	w.at(4)
	w.must(w.db.View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.Refused(t.Context(), 0, 100)
		reasons := ""
		for _, r := range list {
			reasons += r.Reason + "\n"
		}
		if len(list) != 6 || !strings.Contains(reasons, "credit is 501 km") || strings.Count(reasons, "credit has no opening") != 2 || !strings.Contains(reasons, "block is made by the settler alone") {
			t.Errorf("set aside: %s", reasons)
		}
		return err
	}))
	if r := w.audit(); r.Blocks != 5 {
		t.Errorf("%d blocks after a new start", r.Blocks)
	}
	w.stop()
}
