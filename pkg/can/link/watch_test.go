package link

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A registration ends with the next context or with the port: a bus that is opened again and again under one long-lived
// context must not pile them up.
func TestWatchLetsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		w := watch{set: func(time.Time) error { calls++; return nil }}
		ended := func(cancel context.CancelFunc, want int) {
			t.Helper()
			cancel()
			synctest.Wait()
			if calls != want {
				t.Errorf("%d deadlines set, want %d", calls, want)
			}
		}
		first, cancelFirst := context.WithCancel(t.Context())
		second, cancelSecond := context.WithCancel(t.Context())
		third, cancelThird := context.WithCancel(t.Context())
		w.arm(first)
		w.arm(first)
		w.arm(second)
		ended(cancelFirst, 0)
		ended(cancelSecond, 1)
		w.arm(third)
		w.arm(context.Background())
		ended(cancelThird, 1)
	})
}
