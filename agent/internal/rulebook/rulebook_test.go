package rulebook

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/codec"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func take(t *testing.T, b *Book, n []byte) {
	t.Helper()
	if err := b.Take(n); err != nil {
		t.Fatal(err)
	}
}

func wantSerials(t *testing.T, b *Book, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, serials(b)); d != "" {
		t.Errorf("policies (-want +got):\n%s", d)
	}
}

func counted(b *Book, outcome string) float64 {
	return testutil.ToFloat64(b.metrics.notices.WithLabelValues(outcome))
}

// TestFromNothing hears of policies, fetches, proves, and does so again after a restart without a network.
func TestFromNothing(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	blobs := newBlobs(s)
	b := w.open(t, blobs)
	changed := 0
	b.cfg.Changed = func() { changed++ }
	if r := b.Rules(); r.Policies != nil || r.Program != w.id || r.AgentVersion != "1.0.0" || b.Waiting() != "waiting for policies" || !b.Heard().IsZero() {
		t.Errorf("%+v, %q, heard %v", r, b.Waiting(), b.Heard())
	}
	if err := b.fetch(t.Context()); err != nil || blobs.requests() != 0 || blobs.kept != 0 {
		t.Errorf("without a notice %d files were asked for, and files removed %d times: %v", blobs.requests(), blobs.kept, err)
	}
	take(t, b, w.notice(5, 0, w.policy(1, s.lock, nil)))
	wantSerials(t, b, "1 false")
	p := b.Rules().Policies[0]
	if err := b.Rules().Unusable(p); err != nil || b.Waiting() != "fetching keys" || changed != 1 || time.Since(b.Heard()) > time.Hour {
		t.Errorf("%v, %q, changed %d times", err, b.Waiting(), changed)
	}
	if blobs.requests() != 0 {
		t.Error("taking a notice asked the network")
	}
	if err := b.fetch(t.Context()); err != nil || blobs.requests() != 3 || changed != 2 || b.Waiting() != "" {
		t.Errorf("%v, %d requests, changed %d times, %q", err, blobs.requests(), changed, b.Waiting())
	}
	wantSerials(t, b, "1 true")
	if len(b.provers) != 0 {
		t.Error("a prover was loaded that nobody needed")
	}
	proves(t, b, p, s.dir)

	// A restart, the network gone.
	blobs.fail = errors.New("no network")
	again := w.again(b, blobs)
	if again.Waiting() != "" || again.Heard().Unix() != b.Heard().Unix() {
		t.Errorf("%q, heard %v", again.Waiting(), again.Heard())
	}
	wantSerials(t, again, "1 true")
	proves(t, again, again.Rules().Policies[0], s.dir)
	if blobs.requests() != 3 {
		t.Error("the network was asked again")
	}
}

// TestOlderNoticeIsRefused has a broker that repeats what was true before a stop, also after a restart.
func TestOlderNoticeIsRefused(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	b := w.open(t, newBlobs(s))
	one := w.policy(1, s.lock, nil)
	stop := w.policy(2, s.lock, func(p *terms.Policy) { p.Stop = true })
	before, after := w.notice(5, 0, one), w.notice(6, 0, one, stop)
	if !b.Since().IsZero() {
		t.Errorf("without a notice it is after %v", b.Since())
	}
	take(t, b, before)
	take(t, b, after)
	heard := b.Heard()
	for i, b := range []*Book{b, w.again(b, newBlobs(s))} {
		if want := b.cfg.Program.Timing.DropTime(6); !b.Since().Equal(want) {
			t.Errorf("%d: the present is not before %v, want %v", i, b.Since(), want)
		}
		err := b.Take(before)
		if err == nil || !strings.Contains(err.Error(), "it is of drop 5, and the car has heard that of drop 6") {
			t.Errorf("%d: %v", i, err)
		}
		wantSerials(t, b, "1 false", "2 false")
		if terms.InForce(b.Rules().Policies, terms.KindMileage, 10) != nil {
			t.Errorf("%d: the stop is forgotten", i)
		}
		if counted(b, outcomeOlder) != 1 || b.Heard().Unix() != heard.Unix() {
			t.Errorf("%d: not counted, or heard", i)
		}
	}
}

// TestSameDrop holds that of two notices of one block the longer is gone by.
func TestSameDrop(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	b := w.open(t, newBlobs(s))
	now := time.Unix(1_700_000_000, 0)
	b.cfg.Now = func() time.Time { return now }
	list := [][]byte{w.policy(1, s.lock, nil), w.policy(2, s.lock, nil), w.policy(3, s.lock, nil)}
	take(t, b, w.notice(5, 1, list...))
	wantSerials(t, b, "2 false", "3 false")
	take(t, b, w.notice(5, 2, list...))
	wantSerials(t, b, "2 false", "3 false")
	take(t, b, w.notice(5, 0, list...))
	wantSerials(t, b, "1 false", "2 false", "3 false")
	if counted(b, outcomeTaken) != 2 || counted(b, outcomeKnown) != 1 {
		t.Error("not counted")
	}
	// Hearing it again is remembered, and written once an hour.
	written := func() time.Time { return time.Unix(must(readRecord(b.cfg.Dir)).Heard, 0) }
	for _, c := range []struct{ now, written time.Duration }{{0, 0}, {59 * time.Minute, 0}, {61 * time.Minute, 61 * time.Minute}, {-time.Hour, -time.Hour}} {
		start := time.Unix(1_700_000_000, 0)
		now = start.Add(c.now)
		take(t, b, w.notice(5, 0, list...))
		if !b.Heard().Equal(now) || !written().Equal(start.Add(c.written)) {
			t.Errorf("%v: heard %v, written %v", c.now, b.Heard(), written())
		}
	}
	wantSerials(t, w.again(b, newBlobs(s)), "1 false", "2 false", "3 false")
}

func TestNewsDue(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	b := w.open(t, newBlobs(s))
	now := time.Unix(1_700_000_000, 0)
	b.cfg.Now = func() time.Time { return now }
	due := func(want bool) {
		t.Helper()
		if got := !b.NewsDue().After(now); got != want || b.NewsDue().IsZero() {
			t.Errorf("due at %v, which is %v", b.NewsDue(), now)
		}
	}
	one := w.notice(5, 0, w.policy(1, s.lock, nil))
	due(true)
	take(t, b, one)
	due(false)
	now = now.Add(DefaultNewsEvery - 1)
	due(false)
	now = now.Add(1)
	due(true)
	take(t, b, one)
	due(false)
	b.Outdate()
	due(true)
	if b.Take(w.notice(4, 0)) == nil {
		t.Error("an older one is taken")
	}
	due(true)
	take(t, b, one)
	due(false)
	now = now.Add(-time.Hour)
	due(true)
}

func TestRefusedNotices(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	other := newWorld(wire.Development)
	b := w.open(t, newBlobs(s))
	good := w.notice(5, 0, w.policy(1, s.lock, nil))
	take(t, b, good)
	for name, n := range map[string][]byte{
		"another program":  other.notice(9, 0, other.policy(1, s.lock, nil)),
		"empty":            {},
		"long":             make([]byte, notice.MaxLen+1),
		"trailing":         append(bytes.Clone(good), 0),
		"another's policy": w.notice(9, 0, other.policy(1, s.lock, nil)),
	} {
		before := counted(b, outcomeRefused)
		if err := b.Take(n); err == nil || !strings.HasPrefix(err.Error(), "cannot take notice of policies: ") || counted(b, outcomeRefused) != before+1 {
			t.Errorf("%s: %v", name, err)
		}
		wantSerials(t, b, "1 false")
	}
	wantSerials(t, w.again(b, newBlobs(s)), "1 false")
}

// TestNothingFollowsFromWhatIsNotKept holds that rules which the flash does not take are not used: after the next start they would be
// forgotten, and an older notice be believed.
func TestNothingFollowsFromWhatIsNotKept(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	b := w.open(t, newBlobs(s))
	b.cfg.Changed = func() { t.Error("changed") }
	// A directory where the temporary file would be: nothing can be written, whoever runs this.
	if err := os.MkdirAll(filepath.Join(b.cfg.Dir, recordFile+".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Take(w.notice(5, 0, w.policy(1, s.lock, nil))); err == nil || !strings.Contains(err.Error(), "cannot be kept") || counted(b, outcomeUnkept) != 1 {
		t.Errorf("%v", err)
	}
	if b.Rules().Policies != nil || b.Waiting() != "waiting for policies" || !b.Heard().IsZero() {
		t.Errorf("gone by: %q", b.Waiting())
	}
	os.Remove(filepath.Join(b.cfg.Dir, recordFile+".tmp"))
	b.cfg.Changed = func() { // whoever is told finds it on flash
		wantSerials(t, w.again(b, newBlobs()), "1 false")
	}
	take(t, b, w.notice(5, 0, w.policy(1, s.lock, nil)))
}

// TestDamagedRecord holds that what is on flash is verified as if it had just come.
func TestDamagedRecord(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	b := w.open(t, newBlobs(s))
	n := w.notice(5, 0, w.policy(1, s.lock, nil))
	take(t, b, n)
	path := filepath.Join(b.cfg.Dir, recordFile)
	good := must(os.ReadFile(path))
	flipped := bytes.Clone(good)
	flipped[len(good)/2] ^= 1
	other := newWorld(wire.Development)
	for name, text := range map[string][]byte{
		"bit": flipped, "cut": good[:len(good)-1], "empty": {}, "long": make([]byte, maxRecordLen+1), "trailing": append(bytes.Clone(good), 0),
		"version":         must(codec.Encode(record{Version: 2, Notice: n})),
		"another program": must(codec.Encode(record{Version: 1, Notice: other.notice(6, 0, other.policy(1, s.lock, nil))})),
	} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		again := w.again(b, newBlobs(s))
		if again.Rules().Policies != nil || testutil.ToFloat64(again.metrics.damaged) != 1 || !again.Heard().IsZero() {
			t.Errorf("%s: gone by", name)
		}
		take(t, again, n)
		wantSerials(t, again, "1 false")
	}
}

// TestAtOnce has everybody at the book together; the race detector judges.
func TestAtOnce(t *testing.T) {
	w, s := newWorld(wire.Development), setups()
	b := w.open(t, newBlobs(s...))
	one, two := w.policy(1, s[0].lock, nil), w.policy(2, s[1].lock, nil)
	notices := [][]byte{w.notice(1, 0, one), w.notice(2, 0, one, two), w.notice(3, 1, one, two)}
	ctx, cancel := testContext(t)
	var running, group sync.WaitGroup
	running.Go(func() { b.Run(ctx) })
	for range 4 {
		group.Go(func() {
			for _, n := range notices {
				b.Take(n)
				for _, p := range b.Rules().Policies {
					b.Rules().Unusable(p)
					if prover, ok := b.Prover(p); ok {
						var zero wire.Opening
						prover.Prove(claimOf(p), zero, zero)
					}
				}
				b.Waiting()
				b.Heard()
			}
		})
	}
	group.Wait()
	cancel()
	running.Wait()
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSerials(t, b, "2 true")
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(wire.Development)
	good := w.config(filepath.Join(t.TempDir(), "x"), newBlobs())
	for name, spoil := range map[string]func(*Config){
		"directory":   func(c *Config) { c.Dir = "" },
		"blobs":       func(c *Config) { c.Blobs = nil },
		"logger":      func(c *Config) { c.Logger = nil },
		"listener":    func(c *Config) { c.Changed = nil },
		"clock":       func(c *Config) { c.Now = nil },
		"environment": func(c *Config) { c.Environment = "" },
		"root":        func(c *Config) { c.Root = wire.PublicKey{} },
		"program":     func(c *Config) { c.Program = nil },
		"charter":     func(c *Config) { c.Charter = nil },
		"foreign":     func(c *Config) { c.ProgramID[0] ^= 1 },
		"never":       func(c *Config) { c.NewsEvery = -1 },
		"negative":    func(c *Config) { c.BackoffMin = -1 },
		"upside down": func(c *Config) { c.BackoffMin, c.BackoffMax = 2, 1 },
	} {
		c := good
		spoil(&c)
		if _, err := Open(c); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	good.Registerer = prometheus.NewRegistry()
	if _, err := Open(good); err != nil {
		t.Error(err)
	}
	if _, err := Open(good); err == nil {
		t.Error("registered twice")
	}
}

// FuzzDecodeRecord holds that what is accepted has one spelling.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(must(codec.Encode(record{Version: 1, Heard: 1_700_000_000, Notice: []byte{1}})))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			return
		}
		if again := must(codec.Encode(r)); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}
