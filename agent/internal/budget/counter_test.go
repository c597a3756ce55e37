package budget

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/counter"
	"rawstone/agent/internal/device"
)

// memoryCounter is a counter of a TPM that had others before: its first count is not 1.
type memoryCounter struct {
	n        uint64
	counting bool
	// fail is what Increment returns; added says whether it adds all the same.
	fail  error
	added bool
	deaf  error
}

func newCounter() *memoryCounter { return &memoryCounter{n: 40} }

func (c *memoryCounter) Value() (uint64, bool, error) {
	if c.deaf != nil {
		return 0, false, c.deaf
	}
	if !c.counting {
		return 0, true, nil
	}
	return c.n, false, nil
}

func (c *memoryCounter) Increment() error {
	if c.fail == nil || c.added {
		c.n++
		c.counting = true
	}
	return c.fail
}

// TestCounterIsAnother: a counter that is behind, or new, is not the ledger's.
func TestCounterIsAnother(t *testing.T) {
	for name, c := range map[string]struct {
		counter *memoryCounter
		want    string
	}{
		"new":        {newCounter(), "tied to another counter"},
		"two behind": {&memoryCounter{n: 42, counting: true}, "2 charges fewer than it holds"},
		"below all":  {&memoryCounter{n: 1, counting: true}, "43 charges fewer than it holds"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l, err := p.open(t, newCounter())
			if err != nil {
				t.Fatal(err)
			}
			for epoch := range uint64(3) {
				report(t, l, epoch)
			}
			l.Close()
			_, err = p.open(t, c.counter)
			wantError(t, err, ErrCorrupt, c.want)
		})
	}
	t.Run("damaged record", func(t *testing.T) {
		p, c := newPlace(t), newCounter()
		l, err := p.open(t, c)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		good, _, err := chain.Get(p.db, []byte(counter.Key))
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 2
			rewrite(t, p.db, []byte(counter.Key), bad)
			_, err := p.open(t, c)
			wantError(t, err, ErrCorrupt, "what ties it to its counter does not match its hash")
		}
		rewrite(t, p.db, []byte(counter.Key), good[:10])
		_, err = p.open(t, c)
		wantError(t, err, ErrCorrupt, "does not match its hash")
	})
}

// TestCounterFails: a charge whose count fails is lost, never drawn and never refunded, and the counter catches up.
func TestCounterFails(t *testing.T) {
	failed := errors.New("TPM does not answer")
	for name, added := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			p, c := newPlace(t), newCounter()
			l, err := p.open(t, c)
			if err != nil {
				t.Fatal(err)
			}
			report(t, l, 1)
			for range 2 {
				c.fail, c.added = failed, added
				lost := l.Summary(0).LastEpoch + 1
				permit, err := l.Charge(t.Context(), lost, week)
				wantError(t, err, failed, "the epoch is lost")
				if permit != nil {
					t.Fatal("permitted a draw that was not counted")
				}
				if !added {
					_, err = l.Charge(t.Context(), lost+1, week)
					wantError(t, err, failed, "cannot increment counter")
				}
				c.fail = nil
				c.deaf = failed
				_, err = l.Charge(t.Context(), lost+1, week)
				wantError(t, err, failed, "cannot read counter")
				c.deaf = nil
				_, err = l.Charge(t.Context(), lost, week)
				wantError(t, err, ErrCharged, "")
				report(t, l, lost+1)
				// Caught up, the ledger does not ask the counter at every charge.
				c.deaf = failed
				report(t, l, lost+2)
				c.deaf = nil
			}
			if c.n != 41+7 {
				t.Errorf("the counter is at %d after 7 charges", c.n)
			}
			c.deaf = failed
			l.Close()
			_, err = p.open(t, c)
			wantError(t, err, failed, "cannot read counter")
			c.deaf = nil
			if l, err = p.open(t, c); err != nil || l.Err() != nil {
				t.Fatalf("%v, %v", err, l.Err())
			}
		})
	}
}

// TestCounterComesLater: a ledger with charges can be given a counter, and the first opening survives a crash at each step.
func TestCounterComesLater(t *testing.T) {
	for name, died := range map[string]memoryCounter{
		"whole": {}, "before the increment": {fail: errors.New("power cut")}, "after the increment": {fail: errors.New("power cut"), added: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			report(t, l, 1)
			report(t, l, 2)
			l.Close()
			c := newCounter()
			c.fail, c.added = died.fail, died.added
			l, err := p.open(t, c)
			if c.fail != nil {
				wantError(t, err, c.fail, "cannot increment counter")
				c.fail = nil
				l, err = p.open(t, c)
			}
			if err != nil {
				t.Fatal(err)
			}
			report(t, l, 3)
			for range 2 {
				l.Close()
				if l, err = p.open(t, c); err != nil || l.Err() != nil {
					t.Fatalf("%v, %v", err, l.Err())
				}
			}
			if c.n != 42 {
				t.Errorf("the counter is at %d after its first and one charge", c.n)
			}
		})
	}
}

// TestTPMCounter does it with the counter of a TPM: an older copy of the flash is refused, also after a power cycle.
func TestTPMCounter(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("skipped: a budget ledger's counter in a TPM 2.0; install swtpm")
	}
	// The path of a Unix socket has at most 107 characters, which those of t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	stop := startTPM(t, dir, socket)
	defer func() { stop() }()
	c, err := device.OpenCounter("tpm://" + socket + "?index=0x01810010")
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	l, err := p.open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	report(t, l, 1)
	older := p.killed(t)
	report(t, l, 8)
	l.Close()
	stop()
	stop = startTPM(t, dir, socket)
	if l, err = p.open(t, c); err != nil || l.Err() != nil {
		t.Fatalf("after a power cycle: %v, %v", err, l.Err())
	}
	report(t, l, 15)
	q := older.restore(t)
	if l, err = q.open(t, c); err != nil {
		t.Fatal(err)
	}
	refuses(t, q, l, c, "its counter has seen 2 charges beyond its last")
}

// startTPM starts an emulator and returns what ends it.
func startTPM(t *testing.T, dir, socket string) (stop func()) {
	t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	for {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		select {
		case <-exited:
			t.Fatal("swtpm does not start")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return func() {
		cmd.Process.Kill()
		<-exited
	}
}
