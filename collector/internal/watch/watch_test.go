package watch

import (
	"testing"
	"time"
)

func TestWatch(t *testing.T) {
	var w Watch
	at := time.Unix(1000, 0)
	for i, c := range []struct {
		now, elapsed time.Duration
		want         bool
	}{
		{0, 0, true}, {time.Hour, 0, true}, {2*time.Hour + 1, 0, false}, {2 * time.Hour, 0, true}, {0, time.Minute, true},
		{3*time.Hour + time.Minute, time.Minute, true}, {100 * time.Hour, 2 * time.Minute, false}, {100 * time.Hour, 97 * time.Hour, true},
	} {
		if got := w.Believe(at.Add(c.now), c.elapsed, time.Hour); got != c.want {
			t.Errorf("look %d: %t, want %t", i, got, c.want)
		}
	}
	// A reading of the monotonic clock within the time would be compared in place of the clock that jumps.
	now := time.Now()
	w = Watch{}
	w.Believe(now, 0, time.Hour)
	if w.at != now.Round(0) {
		t.Error("the clock's monotonic reading is kept")
	}
}
