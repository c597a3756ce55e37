package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"rawstone/agent/internal/budget/internal/anchor"
)

// The campaign makes reports as an agent does, ends it at every step that a power cut can come at, and starts it again on what is left.
// What was drawn and sent is kept outside, where no crash reaches it.

// crash is what a step panics with.
type crash struct{}

// A world is one vehicle.
type world struct {
	p       *place
	random  *rand.Rand
	counter *memoryCounter // nil for a vehicle without
	// left is the number of steps until the power goes.
	left int

	limit, price int64
	epoch        uint64
	drawn        map[uint64]int
	sent         map[uint64]map[string]bool
	permitted    uint64 // the highest index that a permit was given for
	wrong        []string
	steps        map[string]int // crashes at each step
}

const (
	campaignWindow   = 10
	campaignReleases = 4
)

// step is a moment at which the power can go.
func (w *world) step(name string) {
	if w.left--; w.left == 0 {
		w.steps[name]++
		panic(crash{})
	}
}

func (w *world) blame(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// memoryFile is the anchor's file on flash that keeps what was not synced in memory: when the power goes, each such write is lost,
// whole or torn, whatever the order.
type memoryFile struct {
	*os.File
	w        *world
	unsynced []write
	lazy     bool // a mutant whose Sync does nothing
}

type write struct {
	at int64
	b  []byte
}

func (f *memoryFile) WriteAt(b []byte, at int64) (int, error) {
	f.w.step("before a write of the anchor")
	f.unsynced = append(f.unsynced, write{at, bytes.Clone(b)})
	f.w.step("after a write of the anchor")
	return len(b), nil
}

func (f *memoryFile) Sync() error {
	f.w.step("before the anchor's sync")
	if f.lazy {
		return nil
	}
	if err := f.flush(func(b []byte) []byte { return b }); err != nil {
		return err
	}
	f.w.step("after the anchor's sync")
	return nil
}

func (f *memoryFile) flush(kept func([]byte) []byte) error {
	for _, u := range f.unsynced {
		if _, err := f.File.WriteAt(kept(u.b), u.at); err != nil {
			return err
		}
	}
	f.unsynced = nil
	return nil
}

// steppedCounter is a counter at whose increments the power can go.
type steppedCounter struct {
	*memoryCounter
	w *world
}

func (c steppedCounter) Increment() error {
	c.w.step("before the counter")
	err := c.memoryCounter.Increment()
	c.w.step("after the counter")
	return err
}

// steppedMechanism notes every draw.
type steppedMechanism struct {
	Mechanism
	w     *world
	epoch uint64
}

func (m steppedMechanism) Release(x []int64) ([]int64, error) {
	m.w.step("before the draw")
	y, err := m.Mechanism.Release(x)
	if m.w.drawn[m.epoch]++; m.w.drawn[m.epoch] > 1 {
		m.w.blame("epoch %d was drawn %d times", m.epoch, m.w.drawn[m.epoch])
	}
	inWindow := 0
	for e := range m.w.drawn {
		if e <= m.epoch && m.epoch-e < campaignWindow {
			inWindow++
		}
	}
	if inWindow > campaignReleases {
		m.w.blame("%d draws within %d epochs, want at most %d", inWindow, campaignWindow, campaignReleases)
	}
	m.w.step("after the draw")
	return y, err
}

// life is one start of the agent, until the power goes or its work is done. It returns whether it ended by a crash.
func (w *world) life(t *testing.T, m mutant) (crashed bool) {
	t.Helper()
	var file *memoryFile
	var l *Ledger
	defer func() {
		r := recover()
		if _, crashed = r.(crash); r != nil && !crashed {
			panic(r)
		}
		if file != nil {
			// Some of what was not synced is on flash all the same.
			err := file.flush(func(b []byte) []byte {
				return b[:w.random.IntN(3)*len(b)/2]
			})
			if err := errors.Join(err, file.Close()); err != nil {
				t.Error(err)
			}
		}
	}()
	if m.start != nil {
		m.start(t, w)
	}
	cfg := Config{DB: w.p.db, Anchor: w.p.anchor(), Limit: w.limit, Window: campaignWindow}
	if w.counter != nil {
		cfg.Counter = steppedCounter{w.counter, w}
	}
	var err error
	if l, err = New(cfg); err != nil {
		w.blame("it does not open: %v", err)
		return false
	}
	if err := l.anchor.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(w.p.anchor(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	file = &memoryFile{File: f, w: w, lazy: m.lazy}
	l.anchor = anchor.On(file)
	w.check(l)
	for range 1 + w.random.IntN(3) {
		w.dispatch(t, l, m, w.epoch) // the last one again, and the next
		w.epoch += 1 + uint64(w.random.IntN(4))
		w.dispatch(t, l, m, w.epoch)
	}
	w.check(l)
	return false
}

// check holds the ledger against what was seen outside.
func (w *world) check(l *Ledger) {
	s := l.Summary(w.epoch)
	if s.Releases < w.permitted {
		w.blame("budget was refunded: %d releases and a permit was given for number %d", s.Releases, w.permitted)
	}
	if s.Spent > w.limit {
		w.blame("%d of %d is spent", s.Spent, w.limit)
	}
	if err := l.Err(); err != nil {
		w.blame("it charges nothing: %v", err)
	}
	for e := range w.drawn {
		if e > s.LastEpoch || s.Releases == 0 {
			w.blame("epoch %d was drawn and the ledger ends at %d", e, s.LastEpoch)
		}
	}
}

// dispatch does what an agent does for one epoch.
func (w *world) dispatch(t *testing.T, l *Ledger, m mutant, epoch uint64) {
	t.Helper()
	ctx := context.Background()
	sealed, found, err := l.Stored(ctx, epoch)
	if err != nil {
		w.blame("epoch %d cannot be read: %v", epoch, err)
		return
	}
	if !found {
		noise := steppedMechanism{mechanism(t, 1), w, epoch}
		var early []int64
		if m.early {
			early, _ = noise.Release([]int64{1, 2})
		}
		w.step("before the charge")
		permit, err := l.Charge(ctx, epoch, week)
		switch {
		case errors.Is(err, ErrCharged) && m.retry != nil && len(w.sent[epoch]) == 0:
			m.retry(t, w, l, noise)
			return
		case errors.Is(err, ErrCharged), errors.Is(err, ErrPast), errors.Is(err, ErrExhausted):
			return
		case err != nil:
			w.blame("epoch %d is not charged: %v", epoch, err)
			return
		}
		w.permitted = max(w.permitted, permit.Index())
		var drawn Mechanism = noise
		if m.early {
			drawn = given{noise, early}
		}
		values, err := permit.Release(drawn, []int64{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		sealed = fmt.Append(nil, values)
		w.step("before the store")
		if err := l.Store(ctx, permit, sealed); err != nil {
			w.blame("epoch %d is not stored: %v", epoch, err)
			return
		}
		w.step("after the store")
	}
	w.send(epoch, sealed)
	w.step("after sending")
	if w.random.IntN(2) == 0 {
		if err := l.Drop(ctx, epoch); err != nil {
			t.Fatal(err)
		}
		w.step("after the drop")
	}
}

// given is a mechanism that returns what was drawn before.
type given struct {
	Mechanism
	values []int64
}

func (g given) Release([]int64) ([]int64, error) { return g.values, nil }

func (w *world) send(epoch uint64, sealed []byte) {
	if w.sent[epoch] == nil {
		w.sent[epoch] = map[string]bool{}
	}
	w.sent[epoch][string(sealed)] = true
	if len(w.sent[epoch]) > 1 {
		w.blame("epoch %d was sent in %d versions", epoch, len(w.sent[epoch]))
	}
}

// crashes runs worlds until the power went n times, or, for a mutant, something was wrong. It returns what was.
func crashes(t *testing.T, n int, seed uint64, m mutant, steps map[string]int) []string {
	t.Helper()
	price, err := week.NanoMu2()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for round := 0; n > 0; round++ {
		w := &world{
			p: &place{dir: filepath.Join(dir, fmt.Sprint(round))}, random: rand.New(rand.NewPCG(seed, uint64(round))), limit: campaignReleases * price, price: price,
			drawn: map[uint64]int{}, sent: map[uint64]map[string]bool{}, steps: steps, epoch: 1,
		}
		if round%2 == 0 && m.start == nil {
			w.counter = newCounter()
		}
		if err := os.Mkdir(w.p.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		w.p.db = openStore(t, filepath.Join(w.p.dir, "store"))
		for life := 0; life < 100 && n > 0 && len(w.wrong) == 0; life++ {
			w.left = 1 + w.random.IntN(30)
			if w.life(t, m) {
				n--
			}
			if life%20 == 19 {
				w.p.reopenStore(t) // what a kill leaves of a store is TestKilled's
			}
		}
		if err := w.p.db.Close(); err != nil {
			t.Fatal(err)
		}
		if len(w.wrong) > 0 {
			return w.wrong
		}
	}
	return nil
}

// TestCrashes injects 500 crashes between any two steps, and 10,000 with RAWSTONE_PRIVACY=long.
func TestCrashes(t *testing.T) {
	n := 500
	if os.Getenv("RAWSTONE_PRIVACY") == "long" {
		n = 10_000
	}
	steps := map[string]int{}
	for _, wrong := range crashes(t, n, 1, mutant{}, steps) {
		t.Error(wrong)
	}
	for _, step := range []string{
		"before the charge", "before a write of the anchor", "after a write of the anchor", "before the anchor's sync", "after the anchor's sync", "before the counter",
		"after the counter", "before the draw", "after the draw", "before the store", "after the store", "after sending", "after the drop",
	} {
		if steps[step] < n/200 {
			t.Errorf("only %d crashes %s", steps[step], step)
		}
	}
	t.Logf("%d crashes: %v", n, steps)
}
