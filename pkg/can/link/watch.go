package link

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// A watch ends the blocking calls of one direction of a port when a context is done, by a deadline in the past. It stays
// registered with the context of the last call, so that a loop which always passes the same one pays for it once.
type watch struct {
	set func(time.Time) error

	mu   sync.Mutex // Close arms it too
	done <-chan struct{}
	stop func() bool
}

// arm makes the end of ctx end the calls that follow, instead of that of the context before. Arming it with a context that has
// no end lets go of the last, which would otherwise keep the port alive.
func (w *watch) arm(ctx context.Context) {
	done := ctx.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	if done == w.done {
		return
	}
	if w.stop != nil {
		w.stop()
	}
	if w.done, w.stop = done, nil; done != nil {
		// An error means that the port is closed, which ends the calls as well.
		w.stop = context.AfterFunc(ctx, func() { _ = w.set(time.Unix(1, 0)) })
	}
}

// retry judges the error of a call: nil means to try again. The deadline may be a leftover of an earlier context that ended
// between two calls. It is lifted before ctx is looked at: if ctx ends in between, either the look sees it or the deadline
// is set anew.
func (w *watch) retry(ctx context.Context, err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if err := w.set(time.Time{}); err != nil {
		return err
	}
	return ctx.Err()
}
