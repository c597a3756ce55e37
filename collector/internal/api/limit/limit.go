// Package limit bounds how often somebody may ask, for as many askers as memory is given for.
//
// It is the generic cell rate algorithm (ITU-T I.371): each asker has one instant, that at which all they asked for is paid. Who is
// further ahead than a burst, which only a clock that went back brings about, begins anew. Beyond the bound of askers the one who asked least recently is
// forgotten, which can only let somebody ask more.
package limit

import (
	"container/list"
	"errors"
	"sync"
	"time"
)

// Config says how often; all fields are required.
type Config struct {
	// Every is the time between two requests that can be kept up for ever, and Burst how many may come at once.
	Every time.Duration
	Burst int
	// Askers bounds those that are remembered.
	Askers int
	Now    func() time.Time
}

// A Limiter may be used from several goroutines.
type Limiter struct {
	cfg    Config
	mu     sync.Mutex
	askers map[string]*list.Element // of *asker
	recent list.List                // the most recent first
}

type asker struct {
	name string
	paid time.Time
}

// New returns a limiter that has seen nobody.
func New(cfg Config) (*Limiter, error) {
	if cfg.Every <= 0 || cfg.Burst < 1 || cfg.Askers < 1 || cfg.Now == nil {
		return nil, errors.New("cannot limit requests: interval, burst, bound of askers and clock are required")
	}
	return &Limiter{cfg: cfg, askers: make(map[string]*list.Element)}, nil
}

// Take returns 0 when the asker may have one more, and otherwise how long to wait.
func (l *Limiter) Take(name string) (wait time.Duration) {
	now, full := l.cfg.Now(), time.Duration(l.cfg.Burst)*l.cfg.Every
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.askers[name]
	if known {
		l.recent.MoveToFront(e)
	} else {
		if len(l.askers) == l.cfg.Askers {
			last := l.recent.Back()
			delete(l.askers, l.recent.Remove(last).(*asker).name)
		}
		e = l.recent.PushFront(&asker{name: name, paid: now})
		l.askers[name] = e
	}
	a := e.Value.(*asker)
	if ahead := a.paid.Sub(now); ahead < 0 || ahead > full {
		a.paid = now
	}
	next := a.paid.Add(l.cfg.Every)
	if wait := next.Sub(now) - full; wait > 0 {
		return wait
	}
	a.paid = next
	return 0
}
