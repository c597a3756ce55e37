package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// The pause before a link is opened again doubles from minPause to maxPause, each shortened at random by up to a half so that a
// car's buses do not try in step.
const minPause, maxPause = 100 * time.Millisecond, 30 * time.Second

// A live source is a link that is opened again whenever it fails. Only the goroutine in Receive changes the port.
type live struct {
	name  string
	index uint8
	log   *slog.Logger
	now   func() time.Time
	dial  func() (Port, error)

	pause time.Duration
	since time.Time // when the port was opened

	closed chan struct{}
	mu     sync.Mutex
	port   Port  // nil while down
	total  state // of the ports before
}

func openLive(cfg Config, b Bus, index uint8) (*live, error) {
	l := &live{name: b.Name, index: index, log: cfg.Logger.With("bus", b.Name), now: cfg.Now, pause: minPause, closed: make(chan struct{})}
	l.dial = func() (Port, error) {
		return cfg.Dial(link.Config{URL: b.URL, Filters: b.Filters, Now: cfg.Now, Logger: cfg.Logger})
	}
	port, err := l.dial()
	switch {
	case err == nil:
		l.port, l.since = port, l.now()
	case errors.Is(err, link.ErrDown):
		l.log.Warn("bus is down, it will be opened when it is up", "error", err)
	default:
		return nil, err
	}
	return l, nil
}

func (l *live) Receive(ctx context.Context, f *can.Frame) error {
	for {
		if l.port == nil {
			if err := l.reopen(ctx); err != nil {
				return err
			}
		}
		err := l.port.Receive(ctx, f)
		if err == nil {
			f.Bus = l.index
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.isClosed() {
			return l.errClosed()
		}
		l.lose(err)
	}
}

// lose gives up a port that failed.
func (l *live) lose(err error) {
	l.mu.Lock()
	port := l.port
	l.port = nil
	_ = port.Close() // it has failed already
	stats := port.Stats()
	l.total.Stats = plus(l.total.Stats, stats)
	l.mu.Unlock()
	if stats.Received > 0 || l.now().Sub(l.since) >= maxPause {
		l.pause = minPause // it was of use: this is no continuation of the failure before
	}
	l.log.Warn("bus failed, it will be opened again", "error", err)
}

// reopen tries until the link is open.
func (l *live) reopen(ctx context.Context) error {
	timer := time.NewTimer(l.jitter())
	defer timer.Stop()
	for said := false; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.closed:
			return l.errClosed()
		case <-timer.C:
		}
		l.pause = min(2*l.pause, maxPause)
		port, err := l.dial()
		if err == nil {
			return l.install(port)
		}
		if !errors.Is(err, link.ErrDown) && !said {
			said = true
			l.log.Error("bus cannot be opened again, trying on", "error", err)
		}
		timer.Reset(l.jitter())
	}
}

func (l *live) jitter() time.Duration { return l.pause - rand.N(l.pause/2) }

// install puts a new port into use, unless the Set was closed meanwhile.
func (l *live) install(port Port) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return errors.Join(l.errClosed(), port.Close())
	}
	l.port, l.since = port, l.now()
	l.total.reopened++
	l.log.Info("bus is up")
	return nil
}

func (l *live) send(ctx context.Context, _ uint8, f *can.Frame) error {
	l.mu.Lock()
	port := l.port
	l.mu.Unlock()
	if l.isClosed() {
		return l.errClosed()
	}
	if port == nil {
		return fmt.Errorf("cannot send on bus %s: %w", l.name, link.ErrDown)
	}
	err := port.Send(ctx, f)
	if errors.Is(err, net.ErrClosed) && !l.isClosed() {
		return fmt.Errorf("cannot send on bus %s: %w", l.name, link.ErrDown) // the port was given up meanwhile
	}
	return err
}

func (l *live) state(uint8) state {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.total
	if s.up = l.port != nil && !l.isClosed(); l.port != nil {
		s.Stats = plus(s.Stats, l.port.Stats())
	}
	return s
}

func (l *live) carried(uint8) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.port == nil {
		return 0
	}
	return l.port.Carried()
}

func (l *live) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return l.errClosed()
	}
	close(l.closed)
	if l.port == nil {
		return nil
	}
	return l.port.Close()
}

func (l *live) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

func (l *live) errClosed() error { return fmt.Errorf("cannot use bus %s: %w", l.name, net.ErrClosed) }
