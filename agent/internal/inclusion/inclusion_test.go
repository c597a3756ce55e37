package inclusion

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/flash"
	"rawstone/pkg/attest"
	"rawstone/pkg/codec"
	"rawstone/pkg/inclusion"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A world is a car's archive, and a collector that answers as it is told.
type world struct {
	t         *testing.T
	checker   *Checker
	archive   *archive.Archive
	program   *terms.Program
	id        wire.Hash
	receipts  *ecdsa.PrivateKey
	validator *ledger.ValidatorKey
	changes   []*ledger.Witness // that the car has heard of, in a block of the day heard
	heard     uint32
	day       uint32 // of the collector's block
	now       time.Time
	told      []string
	asked     []string                        // identifiers
	answers   map[string]func() (int, []byte) // by identifier
	after     string                          // Retry-After of refusals
	ready     bool
}

var ecu = wire.KeyID{7}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, receipts: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), validator: must(ledger.GenerateValidatorKey("v")),
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), answers: make(map[string]func() (int, []byte)), ready: true, id: wire.ID([]byte("program")),
	}
	w.program = &terms.Program{
		Receipt: wire.KeySet{must(wire.NewPublicKey(w.receipts.Public()))}, Validators: []terms.Validator{w.validator.Public()}, Quorum: 1,
		Timing: terms.Timing{DayS: 86400, DropS: 600},
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		id := strings.TrimPrefix(r.URL.Path, inclusion.Path)
		w.asked = append(w.asked, id)
		status, body := http.StatusNotFound, refusal(inclusion.ReasonNotYet)
		if f := w.answers[id]; f != nil {
			status, body = f()
		}
		kind := inclusion.ContentType
		if status != http.StatusOK {
			kind = inclusion.ProblemType
			rw.Header().Set("Retry-After", w.after)
		}
		if status == http.StatusTeapot {
			status, kind = http.StatusOK, "text/html"
		}
		rw.Header().Set("Content-Type", kind)
		rw.WriteHeader(status)
		rw.Write(body)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)
	db := must(flash.Open(flash.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}))
	t.Cleanup(func() { db.Close() })
	w.archive = must(archive.Open(archive.Config{DB: db, ECU: ecu, Damaged: func(err error) { t.Error(err) }}))
	w.checker = must(New(Config{
		Archive: w.archive, URL: server.URL, TLS: server.Client().Transport.(*http.Transport).TLSClientConfig, Ready: func() bool { return w.ready },
		Program: w.program, ProgramID: w.id, Validators: func() ([]*ledger.Witness, uint32) { return w.changes, w.heard }, Now: func() time.Time { return w.now }, Tell: func(s string) { w.told = append(w.told, s) },
		BackoffMin: time.Nanosecond, BackoffMax: time.Nanosecond, Logger: slog.New(slog.DiscardHandler),
	}))
	return w
}

func refusal(r inclusion.Reason) []byte {
	return must(json.Marshal(inclusion.Problem{Status: 404, Detail: "not here", Reason: r}))
}

// claim has the car hold a receipt of 40 km for a claim that ends with a snapshot, and both openings.
func (w *world) claim(seq uint64, change func(*wire.Receipt)) *wire.Receipt {
	w.t.Helper()
	for _, s := range []uint64{seq - 1, seq} {
		m := &attest.Message{Snapshot: wire.Snapshot{Seq: s, Day: uint32(s)}}
		m.Opening.Salt[0] = byte(s)
		must(w.archive.Put(m))
	}
	r := &wire.Receipt{
		Version: wire.Version, Submission: wire.ID(fmt.Append(nil, "claim ", seq)), Vehicle: "CAR1", Accepted: true,
		Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 5}},
	}
	if change != nil {
		change(r)
	}
	err := w.archive.CommitReceipt(archive.Receipt{
		ECU: ecu, Seq: seq, Claim: r.Submission, Signed: must(wire.SealReceipt(w.receipts, r)), Came: w.now, Kinds: []string{terms.KindMileage},
	}, func(st *archive.State) { st.Head = &wire.Head{Seq: seq} })
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// proof is the answer of a log whose first entry is anything and whose second is a credit.
func (w *world) proof(o ledger.CreditOpening, km uint32) []byte {
	body := must(codec.Encode(&ledger.Credit{Blind: must(o.Blind()), Km: km, Effective: 5}))
	first, second := rfc6962.DefaultHasher.HashLeaf([]byte("first")), rfc6962.DefaultHasher.HashLeaf(must((&ledger.Entry{Number: 1, Type: ledger.TypeCredit, Body: body}).Encode()))
	block := must(ledger.EncodePayload(&ledger.Block{
		Drop: 3, Day: w.day, Program: w.id, Proofs: []ledger.Proof{{}}, Size: 2, LogRoot: wire.Hash(rfc6962.DefaultHasher.HashChildren(first, second)),
	}))
	sealed := ledger.Sealed{Payload: block, Cosignatures: []ledger.Cosignature{w.validator.Cosign(0, w.id, ledger.TypeBlock, block)}}
	a := inclusion.Answer{Version: inclusion.Version, Block: must(sealed.Encode()), Credits: []inclusion.Credit{
		{Policy: 1, Number: 1, Salt: o.Salt, Account: o.Account, Kind: o.Kind, Path: []wire.Hash{wire.Hash(first)}},
	}}
	return must(a.Encode())
}

func opening(seq uint64) ledger.CreditOpening {
	return ledger.CreditOpening{Salt: [32]byte{byte(seq)}, Account: "a", ECU: ecu, ToSeq: seq, Kind: terms.KindMileage}
}

// proves has the collector prove a claim.
func (w *world) proves(id wire.Hash, seq uint64) {
	w.answers[id.String()] = func() (int, []byte) { return http.StatusOK, w.proof(opening(seq), 40) }
}

// turn lets one round pass and checks what is left.
func (w *world) turn(receipts, snapshots int) time.Duration {
	w.t.Helper()
	w.checker.next = time.Time{}
	wait := must(w.checker.turn(w.t.Context()))
	if n := len(must(w.archive.Receipts())); n != receipts || w.archive.Len() != snapshots {
		w.t.Errorf("%d receipts and %d snapshots are kept, want %d and %d", n, w.archive.Len(), receipts, snapshots)
	}
	return wait
}

func (w *world) count(outcome string, want float64) {
	w.t.Helper()
	if n := testutil.ToFloat64(w.checker.metrics.requests.WithLabelValues(outcome)); n != want {
		w.t.Errorf("%v counted as %s, want %v", n, outcome, want)
	}
}

func TestProofFrees(t *testing.T) {
	w := newWorld(t)
	r := w.claim(2, nil)
	w.proves(r.Submission, 2)
	if wait := w.turn(1, 2); len(w.asked) != 0 || wait != 20*time.Minute {
		t.Errorf("a young receipt is asked about %v, wait %v", w.asked, wait)
	}
	w.now = w.now.Add(20 * time.Minute)
	w.ready = false
	if w.turn(1, 2); len(w.asked) != 0 {
		t.Error("asked without a certificate")
	}
	w.ready = true
	w.turn(0, 1)
	w.count(outcomeProven, 1)
	if w.turn(0, 1) != never || len(w.asked) != 1 || len(w.told) != 0 {
		t.Errorf("asked %v, told %q", w.asked, w.told)
	}
}

// TestNothingElseFrees answers in every other way.
func TestNothingElseFrees(t *testing.T) {
	fewer, foreign, kind, earlier := opening(2), opening(2), opening(2), opening(1)
	foreign.ECU[0]++
	kind.Kind = terms.KindSafe
	for name, c := range map[string]struct {
		answer  func(w *world) (int, []byte)
		outcome string
	}{
		"not yet":              {func(*world) (int, []byte) { return 404, refusal(inclusion.ReasonNotYet) }, "not_yet"},
		"unknown":              {func(*world) (int, []byte) { return 404, refusal(inclusion.ReasonUnknown) }, "unknown"},
		"no certificate":       {func(*world) (int, []byte) { return 403, refusal(inclusion.ReasonCertificate) }, "certificate"},
		"busy":                 {func(*world) (int, []byte) { return 503, refusal(inclusion.ReasonBusy) }, outcomeFailed},
		"broken":               {func(*world) (int, []byte) { return 500, []byte("sorry") }, outcomeFailed},
		"login page":           {func(*world) (int, []byte) { return http.StatusTeapot, []byte("<html>") }, outcomeFailed},
		"too long":             {func(*world) (int, []byte) { return 200, make([]byte, inclusion.MaxLen+1) }, outcomeFailed},
		"garbage":              {func(*world) (int, []byte) { return 200, []byte("x") }, outcomeFalse},
		"fewer km":             {func(w *world) (int, []byte) { return 200, w.proof(fewer, 39) }, outcomeFalse},
		"another car's credit": {func(w *world) (int, []byte) { return 200, w.proof(foreign, 40) }, outcomeFalse},
		"another kind":         {func(w *world) (int, []byte) { return 200, w.proof(kind, 40) }, outcomeFalse},
		"an earlier credit":    {func(w *world) (int, []byte) { return 200, w.proof(earlier, 40) }, outcomeFalse},
		"not cosigned": {func(w *world) (int, []byte) {
			w.validator = must(ledger.GenerateValidatorKey("other"))
			return 200, w.proof(opening(2), 40)
		}, outcomeFalse},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := w.claim(2, nil)
			var given []byte
			w.answers[r.Submission.String()] = func() (status int, b []byte) { status, given = c.answer(w); return status, given }
			w.now = w.now.Add(time.Hour)
			for range 2 {
				w.turn(1, 2)
			}
			w.count(c.outcome, 2)
			list := must(w.archive.Receipts())
			s := must(w.checker.Summary())
			if c.outcome == outcomeFalse {
				if len(w.told) != 1 || !strings.Contains(w.told[0], "the 40 km of the receipt of 2026-03-01 are in the public ledger is false") {
					t.Errorf("told %q", w.told)
				}
				if list[0].False == nil || s.False != 1 || s.Remedy == "" {
					t.Errorf("no evidence is kept: %+v", s)
				}
			} else if len(w.told) != 0 || list[0].False != nil || s.False != 0 || s.Remedy != "" {
				t.Errorf("told %q, %+v", w.told, s)
			}
			w.validator = must(ledger.GenerateValidatorKey("new"))
			w.program.Validators[0] = w.validator.Public()
			w.proves(r.Submission, 2) // at last
			w.turn(0, 1)
		})
	}
}

// TestOverdueIsTold: the driver hears of it once, also over a restart, and only when the collector was asked.
func TestOverdueIsTold(t *testing.T) {
	w := newWorld(t)
	one := w.claim(2, nil)
	w.now = w.now.Add(23 * time.Hour)
	w.turn(1, 2)
	if s := must(w.checker.Summary()); len(w.told) != 0 || s.Overdue != 0 || s.Count != 1 || s.AgeS != 23*3600 {
		t.Errorf("told %q, %+v", w.told, s)
	}
	w.now = w.now.Add(10 * 24 * time.Hour) // parked
	w.checker.tries = make(map[wire.Hash]int)
	if s := must(w.checker.Summary()); s.Overdue != 0 {
		t.Errorf("%+v before the collector could be asked", s)
	}
	two := w.claim(3, nil)
	w.turn(2, 3)
	w.turn(2, 3)
	s := must(w.checker.Summary())
	if len(w.told) != 1 || !strings.Contains(w.told[0], "of 1 receipts") || !strings.Contains(w.told[0], "agent receipts export") || s.Overdue != 1 || s.Remedy != w.told[0] {
		t.Errorf("told %q, %+v", w.told, s)
	}
	w.checker = must(New(w.checker.cfg)) // a restart
	w.turn(2, 3)
	if len(w.told) != 1 {
		t.Errorf("told %q", w.told)
	}
	w.proves(one.Submission, 2)
	w.turn(1, 2)
	if s := must(w.checker.Summary()); s.Overdue != 0 || s.Remedy != "" || w.archive.State().UnprovenTold {
		t.Errorf("%+v", s)
	}
	w.now = w.now.Add(25 * time.Hour)
	w.turn(1, 2)
	if len(w.told) != 2 {
		t.Errorf("another one that is overdue: told %q", w.told)
	}
	w.proves(two.Submission, 3)
	w.turn(0, 1)
}

// TestNetworkDoesNotAlarm: a few requests that fail on the way say nothing about the collector; many do.
func TestNetworkDoesNotAlarm(t *testing.T) {
	w := newWorld(t)
	w.claim(2, nil)
	w.claim(3, nil)
	w.checker.cfg.URL = "https://127.0.0.1:1"
	w.now = w.now.Add(25 * time.Hour)
	for i := range patience {
		if len(w.told) != 0 {
			t.Errorf("told %q after %d failures", w.told, i)
		}
		w.turn(2, 3)
	}
	if len(w.told) != 1 {
		t.Errorf("told %q", w.told)
	}
	w.count(outcomeFailed, patience) // the second receipt is not tried over the same way
}

// TestRepeatedClaim asks about the claim that earned the credits.
func TestRepeatedClaim(t *testing.T) {
	w := newWorld(t)
	original := wire.ID([]byte("original"))
	w.claim(2, func(r *wire.Receipt) { r.Original = &original })
	w.proves(original, 2)
	w.now = w.now.Add(time.Hour)
	w.turn(0, 1)
	if d := cmp.Diff([]string{original.String()}, w.asked); d != "" {
		t.Error(d)
	}
}

func TestBackoff(t *testing.T) {
	w := newWorld(t)
	w.checker.cfg.BackoffMin, w.checker.cfg.BackoffMax = time.Minute, time.Hour
	w.claim(2, nil)
	w.now = w.now.Add(time.Hour)
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		if wait := w.turn(1, 2); wait < want/2 || wait > want {
			t.Errorf("wait %d: %v, want %v to %v", i, wait, want/2, want)
		}
	}
	asked := len(w.asked)
	if wait := must(w.checker.turn(t.Context())); wait <= 0 || len(w.asked) != asked {
		t.Errorf("asked again at once, wait %v", wait)
	}
	w.after = "7200"
	if wait := w.turn(1, 2); wait != 2*time.Hour {
		t.Errorf("waits %v although the collector asks for two hours", wait)
	}
	w.checker.fails = 1 << 20
	if d := w.checker.backoff(1); d != time.Hour {
		t.Errorf("the longest wait is %v", d)
	}
}

// TestRun: nothing is looked at before the car is connected, and then at once.
func TestRun(t *testing.T) {
	w := newWorld(t)
	w.claim(2, nil)
	w.now = w.now.Add(time.Hour)
	looked := 0
	w.checker.cfg.Ready = func() bool { looked++; return false }
	synctest.Test(t, func(t *testing.T) {
		w.checker.wake = make(chan struct{}, 1) // of this bubble
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.checker.Run(ctx) }()
		time.Sleep(30 * 24 * time.Hour)
		synctest.Wait()
		if looked != 0 {
			t.Error("asked before the car was connected")
		}
		w.checker.Wake()
		synctest.Wait()
		if looked != 1 {
			t.Errorf("looked %d times once it is", looked)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSleepEndsConnected: the network fails while the car is connected, and the car sleeps. Nothing is asked when it wakes, until it is
// connected again.
func TestSleepEndsConnected(t *testing.T) {
	w := newWorld(t)
	w.claim(2, nil)
	var slept atomic.Int64
	w.checker.cfg.Window = 20 * time.Hour
	w.checker.cfg.Now = func() time.Time { return w.now.Add(time.Hour + time.Duration(slept.Load())) }
	requests := make(chan struct{})
	w.checker.client = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		select {
		case requests <- struct{}{}:
			slept.Add(int64(8 * time.Hour))
		case <-r.Context().Done():
		}
		return nil, errors.New("no network")
	})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.checker.Run(ctx) }()
	for range 3 {
		w.checker.Wake()
		<-requests
		select {
		case <-requests:
			t.Error("asked after a sleep")
		case <-time.After(50 * time.Millisecond): // an agent that asks does so within nanoseconds
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// roundTripper is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestExport(t *testing.T) {
	w := newWorld(t)
	r := w.claim(2, nil)
	w.answers[r.Submission.String()] = func() (int, []byte) { return 200, []byte("false") }
	w.now = w.now.Add(time.Hour)
	w.turn(1, 2)
	var list, export strings.Builder
	if err := w.checker.List(&list); err != nil {
		t.Fatal(err)
	}
	if err := w.checker.Export(&export); err != nil {
		t.Fatal(err)
	}
	signed := fmt.Sprintf("%x", must(w.archive.Receipts())[0].Signed)
	for _, want := range []string{r.Submission.String(), `"age_s": 3600`, `"kind": "mileage"`, `"km": 40`, `"false_proof": true`} {
		if !strings.Contains(list.String(), want) || !strings.Contains(export.String(), want) {
			t.Errorf("no %s in %s\nor %s", want, list.String(), export.String())
		}
	}
	for _, secret := range []string{signed, "CAR1", fmt.Sprintf("%x", "CAR1"), fmt.Sprintf("%x", "false")} {
		if strings.Contains(list.String(), secret) {
			t.Errorf("the list tells %s", secret)
		}
	}
	for _, want := range []string{signed, fmt.Sprintf("%x", "false"), w.id.String()} {
		if !strings.Contains(export.String(), want) {
			t.Errorf("no %s in %s", want, export.String())
		}
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Config){
		"zero":      func(c *Config) { *c = Config{} },
		"alone":     func(c *Config) { c.Validators = nil },
		"plain":     func(c *Config) { c.URL = "http://127.0.0.1:1" },
		"negative":  func(c *Config) { c.Window = -1 },
		"backwards": func(c *Config) { c.BackoffMin, c.BackoffMax = 2, 1 },
	} {
		cfg := w.checker.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
