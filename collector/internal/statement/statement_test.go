package statement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/cli/owner"
	"rawstone/collector/internal/history"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/statement"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

func (w *world) write(account string, since uint64) []byte {
	w.t.Helper()
	var b bytes.Buffer
	if err := w.desk.Write(w.t.Context(), &b, account, since); err != nil {
		w.t.Fatalf("statement of %s since %d: %v", account, since, err)
	}
	return b.Bytes()
}

func (w *world) verify(account string, b []byte, from *statement.State) (*statement.Report, *statement.State) {
	w.t.Helper()
	report, state, err := statement.Verify(bytes.NewReader(b), statement.Config{Root: w.root, Account: account, State: from})
	if err != nil {
		w.t.Fatalf("statement of %s: %v", account, err)
	}
	return report, state
}

// audited returns what the auditor's full replay finds.
func (w *world) audited() audit.Report {
	w.t.Helper()
	openings, err := stones.Openings(w.t.Context(), w.db)
	w.must(err)
	r, err := audit.Audit(w.t.Context(), audit.Config{Dir: w.logDir(), Root: w.root, Openings: openings})
	w.must(err)
	return r
}

// TestStatements: what each owner finds from their statement is what the auditor finds from everything, at each drop, whether they verify whole
// statements or go on from what they have.
func TestStatements(t *testing.T) {
	w := newWorld(t)
	accounts := []string{"anna", "ben", "chen"}
	states := make(map[string]*statement.State)
	old := filepath.Join(w.dir, "old")
	w.life(func(drop uint64) {
		if drop == 43 {
			w.must(os.CopyFS(old, os.DirFS(w.logDir())))
		}
		for i, a := range accounts {
			if drop%uint64(i+1) != 0 && drop != 47 { // at different strides
				continue
			}
			since := uint64(0)
			if states[a] != nil {
				since = states[a].Next()
			}
			report, state := w.verify(a, w.write(a, since), states[a])
			states[a] = state
			if drop == 41 { // in the middle of a day, nothing new is a statement too
				w.verify(a, w.write(a, state.Next()), state)
			}
			if report.To != drop {
				t.Errorf("drop %d: statement of %s ends with drop %d", drop, a, report.To)
			}
			if drop == 8 || drop == 47 {
				audited := w.audited()
				whole, _ := w.verify(a, w.write(a, 0), nil)
				if whole.Milli != audited.Balances[a] || report.Milli != whole.Milli || whole.Crystals != report.Crystals {
					t.Errorf("drop %d: %s has %d and %d milli-stones by statements, %d by the audit", drop, a, whole.Milli, report.Milli, audited.Balances[a])
				}
			}
		}
	})
	report, _ := w.verify("anna", w.write("anna", 0), nil)
	var b bytes.Buffer
	w.must(report.Write(&b))
	t.Log("\n" + b.String())
	if report.Milli == 0 || len(report.Cars) != 1 || !slices.ContainsFunc(report.Days, func(r statement.Row) bool { return r.Spent == 20 }) {
		t.Errorf("%+v", report)
	}
	for account, cars := range map[string]int{"ben": 0, "chen": 1} { // ben's key is chen's now
		if r, _ := w.verify(account, w.write(account, 0), nil); len(r.Cars) != cars {
			t.Errorf("%s has the cars %v, want %d", account, r.Cars, cars)
		}
	}
	// Who comes later begins later.
	late, _ := w.verify("dora", w.write("dora", 0), nil)
	if audited := w.audited(); late.From < 38 || late.Milli == 0 || late.Milli != audited.Balances["dora"] {
		t.Errorf("dora's statement begins with drop %d and ends with %d milli-stones", late.From, late.Milli)
	}
	w.files()
	w.together()

	// A log that is behind what is settled has no block to go with the balances.
	cfg := w.config()
	cfg.LogDir = old
	behind, err := Open(t.Context(), store.Config{Path: w.recordsPath()}, cfg)
	w.must(err)
	t.Cleanup(func() { behind.Close() })
	if err := behind.Write(t.Context(), new(bytes.Buffer), "anna", 0); !errors.Is(err, ErrNotYet) {
		t.Errorf("an old log: %v", err)
	}

	// Records that say something else than the log are found out.
	w.update(func(tx *store.Tx) error {
		settled, err := tx.Settled(t.Context())
		return errors.Join(err, tx.Settle(t.Context(), settled, settled, map[string]uint64{"anna": 1}))
	})
	_, _, err = statement.Verify(bytes.NewReader(w.write("anna", 0)), statement.Config{Root: w.root, Account: "anna"})
	if err == nil || !strings.Contains(err.Error(), "balance is") {
		t.Errorf("a balance of one milli-stone more: %v", err)
	}
}

// files goes with a statement through the commands: the operator writes, the owner checks, keeps a state, and goes on from it.
func (w *world) files() {
	t := w.t
	t.Helper()
	path := func(name string) string { return filepath.Join(w.dir, name) }
	run := func(cmd *cobra.Command, args ...string) (string, error) {
		t.Helper()
		var out bytes.Buffer
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	write := func(args ...string) error {
		_, err := run(owner.Command(func(cmd *cobra.Command, out io.Writer, account string, since uint64) error {
			d, err := Open(cmd.Context(), store.Config{Path: w.recordsPath()}, w.config())
			if err != nil {
				return err
			}
			return errors.Join(d.Write(cmd.Context(), out, account, since), d.Close())
		}, nil), append([]string{"statement", "--config", "c.yaml"}, args...)...)
		return err
	}
	check := func(args ...string) (string, error) {
		return run(owner.Audit(), append([]string{"--root", w.rootPath()}, args...)...)
	}
	refused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", what, err, want)
		}
	}
	w.must(write("--account", "anna", "--out", path("1")))
	refused("a file that exists", write("--account", "anna", "--out", path("1")), "exists")
	refused("nobody's", write("--account", "nobody", "--out", path("2")), "there is no such account")
	if _, err := os.Stat(path("2")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file is left behind")
	}
	refused("no state", write("--account", "anna", "--out", path("2"), "--since", path("state")), "there is no")
	server := httptest.NewServer(http.FileServer(http.Dir(w.logDir())))
	defer server.Close()
	for _, ledger := range []string{w.logDir(), server.URL} {
		out, err := check("--account", "anna", "--statement", path("1"), "--ledger", ledger)
		if err != nil || !strings.Contains(out, "statement is right: account anna") {
			t.Errorf("%s, %v", out, err)
		}
	}
	_, err := check("--account", "ben", "--statement", path("1"))
	refused("another's", err, `should be of "ben"`)

	// A log of the same key that differs in its first entry, as long as this one and longer.
	reader, err := tlog.OpenReader(w.logDir(), w.program.LogKey)
	w.must(err)
	var entries [][]byte
	for e, err := range reader.Entries(t.Context()) {
		w.must(err)
		entries = append(entries, bytes.Clone(e))
	}
	entries[1][9] ^= 1
	for name, list := range map[string][][]byte{"fork": entries, "longer": append(slices.Clone(entries), []byte("more"), []byte("and more")), "shorter": entries[:9]} {
		signer, err := note.NewSigner(w.secret)
		w.must(err)
		other, err := tlog.Open(t.Context(), tlog.Config{Dir: path(name), Signer: signer, Verifier: w.program.LogKey, Logger: slog.New(slog.DiscardHandler)})
		w.must(err)
		w.must(errors.Join(other.Append(t.Context(), 0, list...), other.Close()))
		_, err = check("--account", "anna", "--statement", path("1"), "--state", path("state"), "--ledger", path(name))
		refused(name, err, map[bool]string{true: "another log, or an old copy", false: "somebody is shown another log"}[name == "shorter"])
		if _, err := os.Stat(path("state")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a state is kept of what was refused", name)
		}
	}

	_, err = check("--account", "anna", "--statement", path("1"), "--state", path("state"))
	w.must(err)
	if info, err := os.Stat(path("state")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state %v, %v", info, err)
	}
	_, err = check("--account", "anna", "--statement", path("1"), "--state", path("state"))
	refused("the same again", err, "where the saved state ends: ask for one from there on (`collector owner statement --since STATE`")
	w.must(write("--account", "anna", "--out", path("none"), "--since", path("state")))
	said, err := check("--account", "anna", "--statement", path("none"), "--state", path("state"))
	if err != nil || !strings.HasPrefix(said, "statement is right: account anna, nothing new since drop 47; balance ") {
		t.Errorf("%s, %v", said, err)
	}
	refused("a state that is none", write("--account", "anna", "--out", path("4"), "--since", path("1")),
		"cannot accept state: it is damaged, or something else than a state; give the file that `collector audit owner --state` wrote, not "+path("1"))
	w.at(49)
	w.must(write("--account", "anna", "--out", path("3"), "--since", path("state")))
	refused("another's state", write("--account", "ben", "--out", path("4"), "--since", path("state")), "it is of account")
	out, err := check("--account", "anna", "--statement", path("3"), "--state", path("state"), "--ledger", w.logDir(), "--json")
	var report statement.Report
	if err := errors.Join(err, json.Unmarshal([]byte(out), &report)); err != nil || report.From != 48 || report.To != 49 {
		t.Errorf("%s, %v", out, err)
	}
	first, _ := os.Stat(path("1"))
	third, _ := os.Stat(path("3"))
	if third.Size()*4 > first.Size() {
		t.Errorf("what is newer takes %d bytes, the whole %d", third.Size(), first.Size())
	}
	w.must(os.WriteFile(path("state"), []byte("x"), 0o600))
	_, err = check("--account", "anna", "--statement", path("3"), "--state", path("state"))
	refused("a state that is none", err, "check a whole statement")
}

// days returns what is in the directory of the days' trees.
func (w *world) days() (names []string) {
	w.t.Helper()
	list, err := os.ReadDir(w.daysDir())
	w.must(err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// together asks for the same statement several times at once, and for another's: the days' trees are shared, and made anew when they are
// damaged or gone.
func (w *world) together() {
	w.t.Helper()
	want, kept := w.write("anna", 0), w.days()
	if len(kept) < 5 {
		w.t.Fatalf("%v are kept", kept)
	}
	damaged := filepath.Join(w.daysDir(), kept[0])
	good, err := os.ReadFile(damaged)
	w.must(err)
	w.must(os.WriteFile(damaged, append([]byte("x"), good[1:]...), 0o600))
	w.must(os.Remove(filepath.Join(w.daysDir(), kept[1])))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			var b bytes.Buffer
			if err := w.desk.Write(w.t.Context(), &b, "anna", 0); err != nil || !bytes.Equal(b.Bytes(), want) {
				w.t.Errorf("together: %d bytes, want %d, %v", b.Len(), len(want), err)
			}
		})
	}
	group.Wait()
	w.write("ben", 0)
	if now := w.days(); !slices.Equal(now, kept) {
		w.t.Errorf("%v are kept, then %v", kept, now)
	}
	if now, err := os.ReadFile(damaged); err != nil || !bytes.Equal(now, good) {
		w.t.Errorf("the damaged tree is %d bytes, %v", len(now), err)
	}
}

// TestPrepare: the newest day's tree is there before anybody asks, and a desk can do no more than read.
func TestPrepare(t *testing.T) {
	w := newWorld(t)
	w.must(w.desk.Prepare(t.Context())) // of nothing
	w.credit("anna", w.join("anna"), 40)
	w.at(0)
	w.at(7)
	w.at(8)
	w.must(w.desk.Prepare(t.Context()))
	if kept, newest := w.days(), fmt.Sprint(timing.Day(w.now), ".tree"); !slices.Equal(kept, []string{newest}) {
		t.Errorf("%v are kept, %v is the newest", kept, newest)
	}
	for name, do := range map[string]func(*store.Tx) error{
		"claims": func(tx *store.Tx) error {
			_, err := tx.Submission(t.Context(), wire.Hash{}, "ANNA", wire.KindClaim)
			return err
		},
		"openings of all": func(tx *store.Tx) error { _, err := tx.Openings(t.Context()); return err },
		"vehicles":        func(tx *store.Tx) error { _, err := tx.Vehicle(t.Context(), "ANNA"); return err },
	} {
		if err := w.desk.cfg.Records.View(t.Context(), do); !errors.Is(err, store.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.desk.cfg.Records.Update(t.Context(), func(tx *store.Tx) error { return tx.AddAccount(t.Context(), "x") }); !errors.Is(err, store.ErrRefused) {
		t.Errorf("a desk writes: %v", err)
	}
}

func TestCount(t *testing.T) {
	s := &draft{tip: &ledger.Block{Drop: 9, Size: 100}, milli: 7000}
	for _, e := range []history.Event{
		{Kind: history.KindCredit, Km: 3}, {Kind: history.KindGrant, Crystals: 30}, {Kind: history.KindRedemption, Milli: 2500},
		{Kind: history.KindBox, Cost: 10, Opened: true, Drop: 9, Milli: 1500}, {Kind: history.KindBox, Cost: 10, Opened: true, Drop: 8, Crystals: 7},
		{Kind: history.KindBox, Cost: 10, Opened: true, Drop: 10, Milli: 1, Crystals: 1},
	} {
		s.count(e)
	}
	if s.milli != 6000 || s.crystals != 7 {
		t.Errorf("%d milli-stones, %d crystals", s.milli, s.crystals)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	write := func(account string, since uint64) error {
		return w.desk.Write(t.Context(), new(bytes.Buffer), account, since)
	}
	w.join("anna")
	if err := write("anna", 0); !errors.Is(err, ErrNotYet) {
		t.Errorf("before the program: %v", err)
	}
	w.at(2)
	if err := write("ben", 0); !errors.Is(err, ErrNoAccount) {
		t.Errorf("no account: %v", err)
	}
	if err := write("anna", 4); !errors.Is(err, ErrAhead) {
		t.Errorf("ahead: %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("empty configuration taken")
	}
	// An account without any entry has a statement too.
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.AddAccount(t.Context(), "dora") }))
	if report, _ := w.verify("dora", w.write("dora", 0), nil); report.Milli != 0 || report.Blocks == 0 {
		t.Errorf("%+v", report)
	}
}
