// Package bar shows on a terminal how far something is. What a terminal does not take is nobody's concern.
package bar

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A Bar is how far one thing is. A nil one shows nothing. Its methods may be called from several goroutines.
type Bar struct {
	mu sync.Mutex
	p  *progressbar.ProgressBar
}

// New shows a bar for a total; nil without a writer or with nothing to do.
func New(w io.Writer, what string, total int) *Bar {
	if w == nil || total <= 0 {
		return nil
	}
	return &Bar{p: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
		progressbar.OptionSetWidth(30), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionSetPredictTime(true),
	)}
}

// Add moves the bar on.
func (b *Bar) Add(n int) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = b.p.Add(n)
	}
}

// Set moves the bar to n.
func (b *Bar) Set(n int) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = b.p.Set(n)
	}
}

// End leaves the bar as it is and goes to the next line.
func (b *Bar) End() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = b.p.Exit()
	}
}
