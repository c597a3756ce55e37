package resend

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/attest"
)

const wait = 5 * time.Second

// talk is an asker with its clock and what it asked for.
type talk struct {
	*Asker
	now   time.Time
	asked []uint8
}

func newTalk(t *testing.T) *talk {
	k := &talk{now: time.Unix(1_000_000, 0)}
	var err error
	k.Asker, err = New(Config{
		Request: func(_ context.Context, n uint8) { k.asked = append(k.asked, n) }, Wait: wait, Now: func() time.Time { return k.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *talk) attend(t *testing.T, want time.Duration, missing ...uint64) {
	t.Helper()
	if got := k.Attend(t.Context(), missing, 9); got != want {
		t.Errorf("waits %v, want %v", got, want)
	}
}

func TestWaitsForTheAnswer(t *testing.T) {
	k := newTalk(t)
	k.Ask(t.Context(), attest.MaxLast)
	k.attend(t, wait)
	k.now = k.now.Add(time.Second)
	k.Heard()
	k.attend(t, wait/5) // a moment's silence ends the answer
	k.now = k.now.Add(wait / 5)
	k.attend(t, 0)
	k.Ask(t.Context(), 1)
	k.now = k.now.Add(wait - time.Millisecond)
	k.Heard()
	k.attend(t, time.Millisecond) // an answer that does not end is not waited for
	k.now = k.now.Add(time.Millisecond)
	k.attend(t, 0)
	if d := cmp.Diff([]uint8{attest.MaxLast, 1}, k.asked); d != "" {
		t.Error(d)
	}
}

func TestAsksForTheOldestMissing(t *testing.T) {
	k := newTalk(t)
	for range MaxTries {
		k.attend(t, wait, 5, 7)
		k.now = k.now.Add(wait)
	}
	k.attend(t, 0, 5, 7) // an ECU that cannot repeat holds nothing up for ever
	k.attend(t, wait, 7, 8)
	if d := cmp.Diff([]uint8{5, 5, 5, 2}, k.asked); d != "" {
		t.Error(d)
	}
}

func TestASleepingECUIsAskedAgain(t *testing.T) {
	k := newTalk(t)
	k.Ask(t.Context(), attest.MaxLast)
	k.now = k.now.Add(wait + time.Second)
	k.attend(t, 0)
	k.Heard() // it speaks only now
	k.attend(t, wait)
	k.Heard()
	k.now = k.now.Add(wait + time.Second)
	k.Heard() // later ones are its daily snapshots
	k.attend(t, 0)
	if d := cmp.Diff([]uint8{attest.MaxLast, attest.MaxLast}, k.asked); d != "" {
		t.Error(d)
	}
}

func TestClockSetBackDoesNotHoldSealing(t *testing.T) {
	k := newTalk(t)
	k.Ask(t.Context(), 1)
	k.now = k.now.Add(-time.Hour)
	k.attend(t, 0)
}

func TestNewRefuses(t *testing.T) {
	good := Config{Request: func(context.Context, uint8) {}, Wait: wait, Now: time.Now}
	for name, change := range map[string]func(*Config){
		"request": func(c *Config) { c.Request = nil }, "wait": func(c *Config) { c.Wait = 0 }, "clock": func(c *Config) { c.Now = nil },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("without %s: accepted", name)
		}
	}
}
