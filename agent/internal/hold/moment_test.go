package hold

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMomentEndsWithTimeAndWithSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if (Moment{}).Within(time.Hour, time.Now()) {
			t.Error("never is now")
		}
		m := At(time.Now())
		time.Sleep(59 * time.Second)
		if !m.Within(time.Minute, time.Now()) || !m.Within(time.Minute, time.Now().Add(-time.Hour)) {
			t.Error("over within the minute")
		}
		if m.Within(time.Minute, time.Now().Add(asleep+time.Second)) {
			t.Error("still on after a sleep")
		}
		time.Sleep(time.Second)
		if m.Within(time.Minute, time.Now()) {
			t.Error("still on after a minute")
		}
	})
}
