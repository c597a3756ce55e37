package seat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/audit/proof"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// TestStory holds that four validators cosign what is right, also after each was started anew in the middle.
func TestStory(t *testing.T) {
	c := begun(t)
	for i := range c.seats {
		c.step()
		c.close(i)
		c.open(i)
		if n, err := c.clients[i].Next(t.Context()); err != nil || n == 0 {
			t.Fatalf("validator %d starts with %d, %v", i, n, err)
		}
	}
	c.credit("anna")
	c.until(ledger.TypeBlock, 5)
	for i := range c.seats {
		c.must(c.bring(i, c.told))
		if st := c.seats[i].Status(); st.Refuses != "" || st.Checkpoint == 0 {
			t.Errorf("validator %d: %+v", i, st)
		}
	}
	if c.replay.Report().Supply == 0 {
		t.Error("nothing was drawn")
	}
}

// TestLostParts: a validator that lost its memory and not its copy does not start, one that lost its copy and not its memory follows anew.
func TestLostParts(t *testing.T) {
	t.Parallel()
	c := begun(t)
	typ, r := c.record()
	c.close(1)
	dir := c.path("validator1")
	state := filepath.Join(dir, stateFile)
	memory, err := os.ReadFile(state)
	c.must(err)
	c.must(os.Remove(state))
	_, err = Open(context.Background(), c.config(1, func() time.Time { return c.now }))
	if err == nil || !strings.Contains(err.Error(), stateFile+" is missing") {
		t.Fatalf("it starts: %v", err)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("and has an empty memory from now on")
	}
	c.must(os.WriteFile(state, memory, 0o600))
	for _, part := range []string{"ledger", "disclosures"} {
		c.must(os.RemoveAll(filepath.Join(dir, part)))
	}
	c.open(1)
	if n, err := c.clients[1].Next(t.Context()); err != nil || n != 0 {
		t.Errorf("it wants entry %d, %v", n, err)
	}
	s, refusals := c.cosign(typ, c.payload(r))
	if refusals[1] != nil || len(s.Cosignatures) != 4 {
		t.Errorf("it does not go on: %v", refusals)
	}
	if b, err := os.ReadFile(state); err != nil || bytes.Equal(b, memory) {
		t.Errorf("what it signed is not in its memory: %v", err)
	}
}

// config is validator i's with a clock of its own.
func (c *court) config(i int, now func() time.Time) Config {
	return Config{
		Key: c.keys[i], Root: c.rootPub, Dir: c.path(fmt.Sprint("validator", i)), Now: now, Logger: c.logger(), Registerer: prometheus.NewRegistry(),
		Verifier: func(*terms.Program, *terms.Policy) (proof.Verifier, error) { return c.verifier, nil },
	}
}

// TestClockBehind holds that a validator whose clock is a little behind the settler's gives what it is asked for, and that one which is far behind
// says so.
func TestClockBehind(t *testing.T) {
	t.Parallel()
	c := begun(t)
	typ, r := c.record()
	c.must(c.bring(3, c.told))
	c.close(3)
	due := c.replay.Due()
	looks, at, behind := 0, timing.DropTime(due.Drop), time.Millisecond
	s, err := Open(context.Background(), c.config(3, func() time.Time {
		if looks++; looks == 1 {
			return at.Add(-behind) // the next look is after the wait
		}
		return at
	}))
	c.must(err)
	defer func() { c.must(s.Close()) }()
	looks = 0
	_, err = s.Prove(t.Context(), due)
	c.must(err)
	looks = 0
	_, err = s.Cosign(t.Context(), typ, c.payload(r))
	c.must(err)
	at = at.Add(-time.Minute)
	if _, err := s.Prove(t.Context(), due); err == nil || !strings.Contains(err.Error(), "is due in 1m0s") {
		t.Error(err)
	}
}
