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

	"rawstone/agent/internal/flash"
)

// The child works in the directory that the first names, and does what the second names.
const (
	childVariable = "RAWSTONE_BUDGET_CHILD"
	workVariable  = "RAWSTONE_BUDGET_WORK"
)

// TestMain turns the test binary into the process that gets killed or traced.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		work := child
		if os.Getenv(workVariable) == syncsWork {
			work = syncs
		}
		if err := work(dir, os.Stdout); err != nil {
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
// no epoch was drawn twice and that what was stored is what a retry sends. RAWSTONE_PRIVACY=long makes it 320 lives.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	drawn, stored, tried := map[uint64]bool{}, map[uint64]string{}, map[uint64]string{}
	again := false
	lives := 16
	if os.Getenv("RAWSTONE_PRIVACY") == "long" {
		lives = 320
	}
	for life := range lives {
		steps := life%16 + 1
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
