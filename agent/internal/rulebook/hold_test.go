package rulebook

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"rawstone/agent/internal/hold"
	"rawstone/pkg/wire"
)

// TestNoKeysAtPowerOn: a car that is switched on with keys missing fetches them at no start, however often it is cut short, but after a
// random time of driving; and while it is connected for a notice at once.
func TestNoKeysAtPowerOn(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	synctest.Test(t, func(t *testing.T) {
		blobs := newBlobs(s)
		b := w.open(t, blobs)
		take(t, b, w.notice(1, 0, w.policy(1, s.lock, nil)))
		start := func() *Book {
			c := w.config(b.cfg.Dir, blobs)
			c.Hold = must(hold.New(hold.Config{Mean: time.Hour, Now: time.Now, Uniform: func() float64 { return 0.5 }}))
			return must(Open(c))
		}
		drive := func(b *Book, d time.Duration, f func()) {
			ctx, cancel := testContext(t)
			done := make(chan error)
			go func() { done <- b.Run(ctx) }()
			f()
			time.Sleep(d)
			synctest.Wait()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for range 100 {
			drive(start(), 50*time.Minute, func() {})
			time.Sleep(8 * time.Hour)
		}
		if n := blobs.requests(); n != 0 {
			t.Fatalf("%d requests in 100 starts", n)
		}
		heard := start()
		drive(heard, time.Second, func() { time.Sleep(time.Minute); take(t, heard, w.notice(2, 0, w.policy(1, s.lock, nil))) })
		wantSerials(t, heard, "1 true")
		clear(blobs.flash)
		late := start()
		drive(late, 62*time.Minute, func() {})
		wantSerials(t, late, "1 true")
	})
}

// TestSleepBeginsTheHoldOfKeysAnew: also between two attempts, and shortly after a notice.
func TestSleepBeginsTheHoldOfKeysAnew(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	synctest.Test(t, func(t *testing.T) {
		blobs, slept := newBlobs(s), time.Duration(0)
		blobs.fail = errors.New("no network")
		c := w.config(t.TempDir(), blobs)
		c.Now = func() time.Time { return time.Now().Add(slept) }
		c.Hold = must(hold.New(hold.Config{Mean: time.Hour, Now: c.Now, Uniform: func() float64 { return 0.5 }}))
		b := must(Open(c))
		if b.wait() > 0 {
			t.Error("waits for nothing")
		}
		take(t, b, w.notice(1, 0, w.policy(1, s.lock, nil)))
		if b.wait() > 0 {
			t.Error("waits although it is connected")
		}
		slept += 8 * time.Hour
		if d := b.wait(); d < 59*time.Minute {
			t.Errorf("waits %v after a sleep", d)
		}
		time.Sleep(time.Hour)
		if d := b.wait(); d > 0 {
			t.Errorf("waits %v after its hold", d)
		}
		slept += 8 * time.Hour
		if d := b.wait(); d < 59*time.Minute {
			t.Errorf("waits %v after another sleep", d)
		}
	})
}
