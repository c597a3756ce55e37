package daemon

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/role"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
)

// TestValidatorsGone: of four validators, three make a quorum. One goes and drops go on; a second one goes, drops stop and the collector says
// so; both come back, and every drop is made up.
func TestValidatorsGone(t *testing.T) {
	w := &world{dir: t.TempDir()}
	var err error
	if w.id, err = Init("../../configs/demo/program.yaml", w.path("program"), time.Now); err != nil {
		t.Fatal(err)
	}
	if err := ca.Init(w.path("ca"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(w.path("ca"), []string{"127.0.0.1"}, w.path("server.pem"), w.path("server.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.certify(t)
	names := []string{"operator", "auditor", "bank", "owners"}
	list, at, stop := "validators:\n", make(map[string]string), make(map[string]func())
	for _, n := range names {
		at[n], stop[n] = w.validatorIn(t, w.path("state-"+n), n, "127.0.0.1:0")
		list += "  - {name: demo/" + n + ", url: \"" + at[n] + "\"}\n"
	}
	cfg := w.load(t, validatorPart, list)
	about, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	// The clock stands in the middle between two drops until the test moves it: no drop comes because this machine is slow.
	var drop atomic.Uint64
	now := func() time.Time { return about.Timing.DropTime(drop.Load()).Add(time.Second) }
	r := startAt(t, cfg, now)
	ledger := func() audit.Report {
		report, err := Audit(t.Context(), w.path("state/ledger"), w.path("program/root.pub"), "")
		if err != nil && !strings.Contains(err.Error(), "no such file") && !strings.Contains(err.Error(), "no entry") {
			t.Log(err) // it grows meanwhile
			return audit.Report{}
		}
		return report
	}
	await := func(what string, cond func() bool) {
		t.Helper()
		for end := time.Now().Add(hang); !cond(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s never comes\n%s", what, r.log)
			}
		}
	}
	blocks := func(n uint64) func() bool { return func() bool { return ledger().Blocks >= n } }
	on := func(n uint64) uint64 { return drop.Add(n) + 1 }

	var cosigners []tlog.Cosigner
	for _, v := range about.Validators {
		cosigners = append(cosigners, tlog.Cosigner{Name: v.Name, Key: v.Key})
	}
	agent := w.agent(t, 0)
	cosigned := func(by int, above uint64) func() bool {
		return func() bool {
			status, text, err := fetch(t, agent, "https://"+r.HTTPS+"/log/checkpoint")
			if err != nil || status != http.StatusOK {
				t.Fatalf("checkpoint: %d, %v", status, err)
			}
			c, got, err := tlog.VerifyCosignatures(about.LogKey, cosigners, text)
			if err != nil {
				t.Fatal(err)
			}
			return len(got) >= by && c.Size >= above
		}
	}

	await("drops with four", blocks(on(4)))
	await("a checkpoint cosigned by four", cosigned(4, 1))
	// One that is gone when a day begins is not of its set, and nobody misses it.
	day := func(n uint64) uint32 { return about.Timing.Day(about.Timing.DropTime(n)) }
	for day(drop.Load()+1) != day(drop.Load()) {
		await("a day that begins", blocks(on(1)))
	}
	await("a checkpoint cosigned by four", cosigned(4, ledger().Entries))
	stop["bank"]()
	await("drops with three", blocks(on(2)))
	await("a checkpoint cosigned by three", cosigned(3, ledger().Entries))
	if !strings.Contains(r.log.String(), "validator is out until the next day") {
		t.Errorf("nobody says that a validator is gone:\n%s", r.log)
	}
	stop["owners"]()
	reached := ledger().Blocks
	due := on(5)
	await("that drops wait", func() bool { return strings.Contains(r.log.String(), "drops wait") })
	if !strings.Contains(r.log.String(), "no quorum of validators") || strings.Contains(r.log.String(), "drops go on") {
		t.Errorf("does not say why:\n%s", r.log)
	}
	if got := ledger().Blocks; got != reached {
		t.Errorf("two of four made %d blocks", got-reached)
	}
	// They come back with what they had.
	for _, n := range []string{"owners", "bank"} {
		if entries, err := os.ReadDir(w.path("state-" + n)); err != nil || len(entries) < 3 {
			t.Errorf("%s kept %v, %v", n, entries, err)
		}
		again, _ := w.validatorIn(t, w.path("state-"+n), n, strings.TrimPrefix(at[n], "https://"))
		if again != at[n] {
			t.Fatalf("%s is at %s now", n, again)
		}
	}
	await("what was missed", blocks(due))
	if !strings.Contains(r.log.String(), "drops go on") {
		t.Error("nobody says that drops go on")
	}
	await("drops of the next days", blocks(on(6)))
	await("a checkpoint cosigned by all again", cosigned(4, ledger().Entries))
	// A report counts what is there, and the replay refuses a drop that is left out.
	if got := ledger(); got.Blocks != drop.Load()+1 {
		t.Errorf("%d blocks of %d drops", got.Blocks, drop.Load()+1)
	}
	r.stop()
	<-r.done
	if r.err != nil {
		t.Error(r.err)
	}
}

// told is a source of entries that hide nothing.
type told struct{}

func (told) Batches(_ context.Context, list []ledger.Entry) ([][]byte, error) {
	var out []disclosure.Entry
	for _, e := range list {
		out = append(out, disclosure.Public(e))
	}
	return feed.Batches(out)
}

// TestValidatorsCompare: two validators are told different histories under the ledger's key, and find it out by themselves, since they
// exchange what they were shown.
func TestValidatorsCompare(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	secret := strings.TrimSpace(string(readFile(t, w.path("program/log.key"))))
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := tlog.Verifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	// Whose cosignatures theirs are does not matter here.
	w.write(t, "program/validator-first.key", readFile(t, w.path("program/validator-operator.key")))
	w.write(t, "program/validator-twin.key", readFile(t, other.path("program/validator-operator.key")))
	identity, err := peer.Open(peer.Config{CA: w.path("ca/internal-ca.pem"), Certificate: w.path("nodes/all.pem"), Key: w.path("nodes/all.key")}, role.Settle, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	documents := func(last string) (list []ledger.Entry) {
		for i, d := range []struct {
			typ  ledger.Type
			name string
		}{{ledger.TypeProgram, "program.cose"}, {ledger.TypeCharter, "charter.cose"}, {ledger.TypePolicy, "policies/" + last}} {
			list = append(list, ledger.Entry{Number: uint64(i), Type: d.typ, Body: readFile(t, w.path("program/"+d.name))})
		}
		return list
	}
	others, health := "", make(map[string]string)
	for name, last := range map[string]string{"first": "1.cose", "twin": "2.cose"} {
		url, web := w.comparing(t, name, others)
		others += "  - {name: " + name + "/x, url: \"" + url + "\"}\n"
		health[name] = web + "/healthz"
		log, err := tlog.Open(t.Context(), tlog.Config{Dir: w.path("ledger-" + name), Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		list := documents(last)
		for _, e := range list {
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if err := log.Append(t.Context(), e.Number, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := feed.Dial(feed.ClientConfig{URL: url, TLS: identity.Client(role.Validator), Source: told{}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Follow(t.Context(), list...); err != nil {
			t.Fatal(err)
		}
		if err := c.Seen(t.Context(), readFile(t, w.path("ledger-"+name+"/checkpoint"))); err != nil {
			t.Fatal(err)
		}
	}
	for name, url := range health {
		for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
			answer, err := http.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode == http.StatusServiceUnavailable {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s never finds out", name)
			}
		}
		if found, err := os.ReadDir(w.path("state-" + name + "/evidence")); err != nil || len(found) != 1 {
			t.Errorf("%s keeps %v, %v", name, found, err)
		}
	}
}

// comparing runs a validator that exchanges what it was shown with others.
func (w *world) comparing(t *testing.T, name, others string) (url, web string) {
	t.Helper()
	w.write(t, name+".yaml", []byte("environment: development\nstate_dir: state-"+name+"\nroot: program/root.pub\nkey: program/validator-"+name+".key\nclaim_keys: [program/claim]\n"+
		"listen: 127.0.0.1:0\nweb: 127.0.0.1:0\ninternal: {ca: ca/internal-ca.pem, certificate: nodes/validator.pem, key: nodes/validator.key}\nexchange_every: 20ms\n"))
	if others != "" {
		w.write(t, name+".yaml", append(readFile(t, w.path(name+".yaml")), "validators:\n"+others...))
	}
	cfg, err := LoadValidator(w.path(name + ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan [2]string, 1), make(chan error, 1)
	go func() {
		done <- RunValidator(ctx, cfg, ValidatorDeps{Logger: slog.New(slog.DiscardHandler), OnReady: func(at, web string) { ready <- [2]string{at, web} }})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case at := <-ready:
		return "https://" + at[0], "http://" + at[1]
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return "", ""
}
