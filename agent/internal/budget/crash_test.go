package budget

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"

	"rawstone/agent/internal/flash"
)

// TestWriteFailureStopsTheLedger breaks one of the two writes of a charge for real and opens the ledger again.
func TestWriteFailureStopsTheLedger(t *testing.T) {
	t.Run("store", func(t *testing.T) {
		p := newPlace(t)
		l := p.ledger(t)
		report(t, l, 1)
		if err := p.db.Close(); err != nil {
			t.Fatal(err)
		}
		if permit, err := l.Charge(t.Context(), 2, week); err == nil || permit != nil {
			t.Fatal("charged in a closed store")
		}
		_, err := l.Charge(t.Context(), 3, week)
		wantError(t, err, nil, "restart the agent")
		l.Close()
		p.db = openStore(t, filepath.Join(p.dir, "store"))
		l = p.ledger(t)
		if got := l.Summary(0).Releases; got != 1 {
			t.Errorf("%d releases, want 1", got)
		}
		report(t, l, 2)
	})
	t.Run("anchor", func(t *testing.T) {
		p := newPlace(t)
		l := p.ledger(t)
		report(t, l, 1)
		if err := l.anchor.close(); err != nil {
			t.Fatal(err)
		}
		if permit, err := l.Charge(t.Context(), 2, week); err == nil || permit != nil {
			t.Fatal("permitted a draw without the anchor")
		}
		_, err := l.Charge(t.Context(), 3, week)
		wantError(t, err, nil, "restart the agent")
		p.reopenStore(t)
		l = p.ledger(t)
		if got := l.Summary(0); got.Releases != 2 || got.LastEpoch != 2 {
			t.Errorf("the charge that reached the store was refunded: %+v", got)
		}
		_, err = l.Charge(t.Context(), 2, week)
		wantError(t, err, ErrCharged, "")
		report(t, l, 3)
		// The anchor caught up: it holds the chain without the store's help.
		l.Close()
		l = p.ledger(t)
		if got := l.Summary(0).Releases; got != 3 {
			t.Errorf("%d releases, want 3", got)
		}
	})
	t.Run("closed ledger", func(t *testing.T) {
		l := newPlace(t).ledger(t)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := l.Charge(t.Context(), 1, week)
		wantError(t, err, nil, "the ledger is closed")
	})
}

// TestLedgerLaw drives a ledger through random work, crashes between any two steps and restarts, beside a model: an epoch is
// drawn at most once, charges only grow, what is stored stays, and the window never holds more than the limit.
func TestLedgerLaw(t *testing.T) {
	dir := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		p := &place{dir: filepath.Join(dir, fmt.Sprint(round))}
		if err := os.Mkdir(p.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p.db = openStore(t, filepath.Join(p.dir, "store"))
		defer func() { p.db.Close() }()
		price, err := week.NanoMu2()
		if err != nil {
			t.Fatal(err)
		}
		const most, window = 4, 10
		cfg := Config{Anchor: p.anchor(), Limit: most * price, Window: window}
		var l *Ledger
		open := func() {
			cfg.DB = p.db
			if l, err = New(cfg); err != nil {
				rt.Fatal(err)
			}
		}
		open()
		defer func() { l.Close() }()
		restart := func(whole bool) {
			l.Close()
			if whole {
				p.reopenStore(t)
			}
			open()
		}

		g := mechanism(t, 1)
		charged, draws, sealed := map[uint64]bool{}, map[uint64]int{}, map[uint64][]byte{}
		last := uint64(0)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			crash := rapid.SampledFrom([]string{"", "", "anchor", "charged", "drawn", "stored"}).Draw(rt, "crash")
			epoch := last + rapid.Uint64Range(0, 5).Draw(rt, "ahead") - min(last, rapid.Uint64Range(0, 2).Draw(rt, "back"))
			if crash == "anchor" {
				l.anchor.close()
			}
			permit, err := l.Charge(context.Background(), epoch, week)
			inWindow := 0
			for e := range charged {
				if e <= epoch && epoch-e < window {
					inWindow++
				}
			}
			allowed := !charged[epoch] && (len(charged) == 0 || epoch > last) && inWindow < most
			if allowed {
				charged[epoch], last = true, epoch
			}
			if want := allowed && crash != "anchor"; (err == nil) != want {
				rt.Fatalf("charging epoch %d with %d in the window: %v, want success %v", epoch, inWindow, err, want)
			}
			if err == nil && crash != "charged" {
				noised, err := permit.Release(g, []int64{1, 2})
				if err != nil {
					rt.Fatal(err)
				}
				draws[epoch]++
				if crash != "drawn" {
					sealed[epoch] = fmt.Append(nil, noised)
					if err := l.Store(context.Background(), permit, sealed[epoch]); err != nil {
						rt.Fatal(err)
					}
				}
			}
			if crash != "" {
				restart(rapid.IntRange(0, 7).Draw(rt, "whole") == 0)
			}
			if s := l.Summary(0); s.Releases != uint64(len(charged)) || s.Spent > cfg.Limit {
				rt.Fatalf("%+v with %d charged", s, len(charged))
			}
			for e := range charged {
				got, found, err := l.Stored(context.Background(), e)
				if err != nil || found != (sealed[e] != nil) || !bytes.Equal(got, sealed[e]) {
					rt.Fatalf("epoch %d: stored %q, %v, %v; want %q", e, got, found, err, sealed[e])
				}
				if draws[e] > 1 {
					rt.Fatalf("epoch %d was drawn %d times", e, draws[e])
				}
			}
		}
	})
}

const childVariable = "RAWSTONE_BUDGET_CHILD"

// TestMain turns the test binary into the process that gets killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := child(dir, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child reports epoch after epoch and says each step on w before the next.
func child(dir string, w io.Writer) error {
	db, err := flash.Open(flash.Config{Dir: filepath.Join(dir, "store"), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	defer db.Close()
	limit, err := YearLimit(week, 100_000)
	if err != nil {
		return err
	}
	l, err := New(Config{DB: db, Anchor: filepath.Join(dir, "budget.anchor"), Limit: limit})
	if err != nil {
		return err
	}
	defer l.Close()
	ctx := context.Background()
	s := l.Summary(0)
	sealed, found, err := l.Stored(ctx, s.LastEpoch)
	if err != nil {
		return err
	}
	g, err := newMechanism(1)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "open %d %v %s\n", s.LastEpoch, found, fingerprint(sealed))
	// Its own last epoch again, and then new ones.
	for epoch := max(s.LastEpoch, 1); epoch < s.LastEpoch+100; epoch++ {
		permit, err := l.Charge(ctx, epoch, week)
		if err != nil {
			fmt.Fprintf(w, "refused %d -\n", epoch)
			continue
		}
		fmt.Fprintf(w, "draw %d -\n", epoch)
		noised, err := permit.Release(g, []int64{1, 2})
		if err != nil {
			return err
		}
		sealed := fmt.Append(nil, noised)
		fmt.Fprintf(w, "store %d %s\n", epoch, fingerprint(sealed))
		if err := l.Store(ctx, permit, sealed); err != nil {
			return err
		}
		fmt.Fprintf(w, "stored %d %s\n", epoch, fingerprint(sealed))
	}
	return nil
}

func fingerprint(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// TestKilled kills the process after each number of steps in turn, restarts it on the same files, and checks over all lives that
// no epoch was drawn twice and that what was stored is what a retry sends.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	drawn, stored, tried := map[uint64]bool{}, map[uint64]string{}, map[uint64]string{}
	again := false
	for steps := 1; steps <= 16; steps++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		n := 0
		for lines.Scan() {
			var word, sum string
			var epoch uint64
			var found bool
			if _, err := fmt.Sscanf(lines.Text(), "open %d %t %s", &epoch, &found, &sum); err == nil {
				if want, ok := stored[epoch]; ok && (!found || want != sum) {
					t.Errorf("epoch %d was stored as %s and is %v %s after the kill", epoch, want, found, sum)
				}
				if found && tried[epoch] != sum {
					t.Errorf("epoch %d holds %s, which was never drawn", epoch, sum)
				}
				for e := range drawn {
					if e > epoch {
						t.Errorf("epoch %d was drawn and is not in the ledger, which ends at %d", e, epoch)
					}
				}
			} else if _, err := fmt.Sscanf(lines.Text(), "%s %d %s", &word, &epoch, &sum); err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			switch word {
			case "draw":
				if drawn[epoch] {
					t.Errorf("epoch %d was drawn twice", epoch)
				}
				drawn[epoch] = true
			case "store":
				tried[epoch] = sum
			case "stored":
				stored[epoch] = sum
			}
			if n++; n == steps {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait() // killed: its error says so
		// A kill between Badger's truncating and unlinking a log that it has flushed leaves an empty file, at which the next
		// Open fails, once (dgraph-io/badger issue 2207). Nothing is lost by it.
		if n == 0 && !again && strings.Contains(stderr.String(), "Create a new file") {
			t.Logf("life %d: badger did not open, starting again: %s", steps, &stderr)
			again = true
			steps--
			continue
		}
		again = false
		if n < steps {
			t.Fatalf("life %d ended by itself after %d lines: %s", steps, n, &stderr)
		}
	}
	if len(drawn) < 16 || len(stored) < 8 {
		t.Errorf("only %d draws and %d stored: the kills came too early to test anything", len(drawn), len(stored))
	}
}

// TestDamagedLogIsSeen flips a byte in Badger's write-ahead log, which Badger answers by silently forgetting what follows.
func TestDamagedLogIsSeen(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for epoch := range uint64(5) {
		report(t, l, epoch)
	}
	// A kill: the files as they are while the store is open.
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "store"), os.DirFS(filepath.Join(p.dir, "store"))); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(copied, "store", "*.mem"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("write-ahead logs: %v, %v", logs, err)
	}
	b := readFile(t, logs[0])
	at := bytes.LastIndex(b, key(chargePrefix, 4))
	if at < 0 {
		t.Fatal("the last charge is not in the log")
	}
	b[at+len(chargePrefix)+8+20] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, filepath.Join(copied, "store"))
	defer db.Close()
	if _, found, err := readCharge(db, 4); found || err != nil {
		t.Fatalf("badger no longer forgets a damaged tail (%v, %v): this test is moot", found, err)
	}
	cfg := p.config(t)
	cfg.DB = db
	_, err = New(cfg)
	wantError(t, err, ErrCorrupt, "holds 4 charges and its anchor has seen 5")
}

// rewrite replaces or, where value is nil, deletes one key behind the ledger's back.
func rewrite(t testing.TB, db *badger.DB, k, value []byte) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error {
		if value == nil {
			return txn.Delete(k)
		}
		return txn.Set(k, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}
