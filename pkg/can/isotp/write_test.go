package isotp

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

func TestWriteWaits(t *testing.T) {
	const n = 30 // a first frame and four consecutive ones
	type reply struct {
		after time.Duration
		frame string
	}
	for _, c := range []struct {
		name    string
		replies []reply // each counted from the one before, after the first frame
		want    error
		says    string
		took    time.Duration
		frames  int
		stats   Stats
	}{
		{"at once", []reply{{0, "30 00 00"}}, nil, "", 0, 5, Stats{Sent: 1}},
		{"silence", nil, ErrTimeout, "", time.Second, 1, Stats{}},
		{"just in time", []reply{{999 * time.Millisecond, "30 00 00"}}, nil, "", 999 * time.Millisecond, 5, Stats{Sent: 1}},
		{"separation", []reply{{0, "30 00 14"}}, nil, "", 60 * time.Millisecond, 5, Stats{Sent: 1}},
		{"microseconds", []reply{{0, "30 00 f3"}}, nil, "", 900 * time.Microsecond, 5, Stats{Sent: 1}},
		{"reserved separation", []reply{{0, "30 00 80"}}, nil, "", 381 * time.Millisecond, 5, Stats{Sent: 1}},
		{"blocks", []reply{{0, "30 02 0a"}, {500 * time.Millisecond, "30 01 00"}, {500 * time.Millisecond, "30 00 00"}}, nil, "", time.Second, 5, Stats{Sent: 1}},
		{"second block missing", []reply{{0, "30 03 00"}}, ErrTimeout, "", time.Second, 4, Stats{}},
		{"wait", []reply{{900 * time.Millisecond, "31 00 00"}, {900 * time.Millisecond, "31 00 00"}, {900 * time.Millisecond, "30 00 00"}}, nil, "", 2700 * time.Millisecond, 5, Stats{Sent: 1}},
		{"wait and go together", []reply{{0, "31 00 00"}, {0, "30 00 00"}}, nil, "", 0, 5, Stats{Sent: 1}},
		{"wait and silence", []reply{{900 * time.Millisecond, "31 00 00"}}, ErrTimeout, "", 1900 * time.Millisecond, 1, Stats{}},
		{"wait for ever", []reply{{1, "31 00 00"}, {1, "31 00 00"}, {1, "31 00 00"}, {1, "31 00 00"}}, nil, "more than 3 times", 4, 1, Stats{}},
		{"waits in a row", []reply{{0, "31 00 00"}, {0, "31 00 00"}, {0, "31 00 00"}, {0, "30 01 00"}, {1, "31 00 00"}, {0, "30 00 00"}}, nil, "", 1, 5, Stats{Sent: 1}},
		{"overflow", []reply{{time.Millisecond, "32 00 00"}}, ErrOverflow, "", time.Millisecond, 1, Stats{}},
		{"overflow later", []reply{{0, "30 01 00"}, {time.Millisecond, "32 00 00"}}, ErrOverflow, "", time.Millisecond, 2, Stats{}},
		{"reserved status", []reply{{time.Millisecond, "33 00 00"}}, nil, "status 3 is reserved", time.Millisecond, 1, Stats{}},
		{"second control ignored", []reply{{0, "30 00 00"}, {0, "32 00 00"}}, nil, "", 0, 5, Stats{Sent: 1, Unexpected: 1}},
		{"malformed control", []reply{{0, "30 00"}, {0, "30 00 00"}}, nil, "", 0, 5, Stats{Sent: 1, Malformed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Config{MaxWait: 3})
				sent := make(chan struct{}, 1)
				b.answer = func(f *can.Frame) {
					if f.Data[0]>>4 == firstFrame {
						sent <- struct{}{}
					}
				}
				var peer sync.WaitGroup
				peer.Go(func() {
					<-sent
					for _, r := range c.replies {
						time.Sleep(r.after)
						b.feed(t, r.frame)
					}
				})
				start := time.Now()
				err := b.Write(t.Context(), message(n))
				if took := time.Since(start); took != c.took {
					t.Errorf("took %v, want %v", took, c.took)
				}
				peer.Wait()
				switch {
				case c.says != "":
					if err == nil || !strings.Contains(err.Error(), c.says) {
						t.Errorf("Write: %v, want %q", err, c.says)
					}
				case !errors.Is(err, c.want) || c.want == nil && err != nil:
					t.Errorf("Write: %v, want %v", err, c.want)
				}
				if len(b.wire) != c.frames {
					t.Errorf("sent %d frames, want %d: %v", len(b.wire), c.frames, b.wire)
				}
				// Afterwards nobody waits any more.
				b.feed(t, "30 00 00")
				c.stats.Unexpected++
				if d := cmp.Diff(c.stats, b.Stats()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestWriteCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		// The second waits for the first and is cancelled by the same context.
		second := make(chan error)
		go func() {
			time.Sleep(time.Millisecond)
			second <- b.Write(ctx, message(1))
		}()
		if err := b.Write(ctx, message(100)); err != context.DeadlineExceeded {
			t.Errorf("Write: %v", err)
		}
		if err := <-second; err != nil && err != context.DeadlineExceeded {
			t.Errorf("second Write: %v", err)
		}
		// During the separation time.
		b.answer = func(f *can.Frame) {
			if f.Data[0]>>4 == firstFrame {
				b.feed(t, "30 00 7f")
			}
		}
		ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := b.Write(ctx, message(100)); err != context.DeadlineExceeded {
			t.Errorf("Write: %v", err)
		}
		// The Conn is usable again.
		b.answer = nil
		if err := b.Write(t.Context(), message(7)); err != nil {
			t.Error(err)
		}
	})
	b := newBench(t, Config{})
	if err := b.Write(t.Context(), nil); err == nil {
		t.Error("an empty message was sent")
	}
}
