package player

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestPace: claims leave evenly however many wait, and an idle time is not made up for by a burst.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, began := newPace(100), time.Now()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				for range 4 {
					if err := p.wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if got := time.Since(began); got != 1990*time.Millisecond {
			t.Errorf("200 claims at 100 a second took %v", got)
		}
		time.Sleep(time.Hour)
		began = time.Now()
		for range 3 {
			if err := p.wait(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if got := time.Since(began); got != 20*time.Millisecond {
			t.Errorf("3 claims after an hour took %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.wait(ctx) == nil {
			t.Error("a pace goes on after the end")
		}
	})
	if p := newPace(0); p != nil || p.wait(t.Context()) != nil {
		t.Error("no rate is a rate")
	}
}
