// Package driver is the driver's desk on the car: what may be recorded and told is decided here, and what it has cost is read here.
//
// Invariants: a decision is durable before anything follows from it, the rooms that run have followed it when the command returns, and the
// journal notes it. What was turned off is recorded no more then, what was recorded of it cannot be read any more, and what waited to tell of it is
// withdrawn: by a car whose agent does not run before it sends anything again.
//
// The package refuses what package consent refuses. Whether an agent runs makes no difference to it: Open is for the commands of a car
// whose agent does not, and holds the stores so that none starts meanwhile.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/trip"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Journal is the driver's.
type Journal interface {
	Note(at time.Time, contents string) error
	List(limit int) ([]journal.Entry, error)
}

// Config says what the desk works with. Fields without a note are required.
type Config struct {
	Consent *consent.Consent
	Journal Journal
	Clock   terms.Clock
	// Purse returns the privacy budget.
	Purse func() (*privacy.Purse, error)
	// Day returns the program day of the ECU's newest snapshot, 0 for none; nil where none are read.
	Day func() uint32
	// Apply has the rooms follow a decision; nil where there are none.
	Apply func(is consent.Choice) error
}

// A Desk takes the driver's decisions (control.Desk). It is safe for concurrent use.
type Desk struct {
	cfg Config
	mu  sync.Mutex // held while a decision is made and told
}

// New checks cfg.
func New(cfg Config) (*Desk, error) {
	if cfg.Consent == nil || cfg.Journal == nil || cfg.Clock.Now == nil || cfg.Purse == nil {
		return nil, errors.New("cannot open the driver's desk: no consent, journal, clock or privacy budget given")
	}
	return &Desk{cfg: cfg}, nil
}

// Consent implements control.Desk.
func (d *Desk) Consent(context.Context) (consent.View, error) { return d.cfg.Consent.View(), nil }

// Turn implements control.Desk.
func (d *Desk) Turn(_ context.Context, name string, on bool) (consent.View, error) {
	note := fmt.Sprintf("You turned off %s, so that this is told no more: %s.", name, consent.Tells(name))
	if on {
		note = fmt.Sprintf("You turned on %s: %s.", name, consent.Tells(name))
	}
	return d.decide(note, func() (bool, error) { return d.cfg.Consent.Turn(name, on) })
}

// SetCadence implements control.Desk.
func (d *Desk) SetCadence(_ context.Context, name string) (consent.View, error) {
	return d.decide(fmt.Sprintf("You set the cadence to %s.", name), func() (bool, error) { return d.cfg.Consent.SetCadence(consent.Cadence(name)) })
}

// decide makes a decision and has it followed, in both cases of a failed write too: what it turned off is off.
func (d *Desk) decide(note string, change func() (bool, error)) (consent.View, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.cfg.Consent.Choice()
	changed, err := change()
	is := d.cfg.Consent.Choice()
	if d.cfg.Apply != nil && (is.Families != was.Families || is.Cadence != was.Cadence || !slices.Equal(is.Kinds, was.Kinds)) {
		err = errors.Join(err, d.cfg.Apply(is))
	}
	if changed {
		err = errors.Join(err, d.cfg.Journal.Note(d.cfg.Clock.Now(), note))
	}
	return d.cfg.Consent.View(), err
}

// Privacy implements control.Desk.
func (d *Desk) Privacy(context.Context) (privacy.Statement, error) {
	p, err := d.cfg.Purse()
	if err != nil {
		return privacy.Statement{}, err
	}
	entries, err := d.cfg.Journal.List(0)
	if err != nil {
		return privacy.Statement{}, err
	}
	ecu := uint32(0)
	if d.cfg.Day != nil {
		ecu = d.cfg.Day()
	}
	return p.Statement(d.cfg.Clock.Timing, p.Day(ecu, d.cfg.Clock.Today()), func(day uint32) (told, outcome string) {
		for _, e := range entries {
			if e.Kind == string(wire.KindReport) && strings.Contains(e.Contents, d.cfg.Clock.Date(day)) {
				return e.Contents, e.Outcome
			}
		}
		return "", ""
	})
}

// Stopped says where an agent that does not run keeps its things. All fields are required.
type Stopped struct {
	// StateDir is the directory of its store, which is made when missing.
	StateDir string
	// UsageKey is its trip.Config.KeyFile.
	UsageKey string
	Charter  *terms.Charter
	Clock    terms.Clock
	// Budget opens its privacy budget.
	Budget privacy.Config
	Logger *slog.Logger
}

// Open opens the stores of an agent that does not run, and returns what closes them. The error is another process's hold on them, or
// damage of the place; a damaged store is set aside as it is when an agent starts, which the journal says.
func Open(s Stopped) (*Desk, io.Closer, error) {
	c := new(closers)
	d, err := open(s, c)
	if err != nil {
		return nil, nil, errors.Join(err, c.Close())
	}
	return d, c, nil
}

func open(s Stopped, c *closers) (*Desk, error) {
	db, found, err := flash.OpenStore(flash.StoreConfig{Dir: s.StateDir, Now: s.Clock.Now, Logger: s.Logger})
	if err != nil {
		return nil, fmt.Errorf("%w; where an agent is just starting, or another command runs, try again in a moment", err)
	}
	*c = append(*c, db)
	j, err := journal.Open(journal.Config{DB: db, Logger: s.Logger})
	if err != nil {
		return nil, err
	}
	if text := found.String(); text != "" {
		if err := j.Note(s.Clock.Now(), text); err != nil {
			return nil, err
		}
	}
	choice, err := consent.Open(consent.Config{DB: db, Charter: s.Charter, Logger: s.Logger})
	if err != nil {
		return nil, err
	}
	purse := sync.OnceValues(func() (*privacy.Purse, error) {
		p, err := privacy.Open(s.Budget)
		if err == nil {
			*c = append(*c, p)
		}
		return p, err
	})
	// What waits to be sent leaves no car whose agent does not run, and the agent withdraws it before it sends.
	forget := func(is consent.Choice) error { return trip.Forget(db, s.UsageKey, s.Logger, is.Families) }
	return New(Config{Consent: choice, Journal: j, Clock: s.Clock, Purse: purse, Apply: forget})
}

// closers close what was opened, in reverse order.
type closers []io.Closer

func (c *closers) Close() error {
	var errs []error
	for _, one := range slices.Backward(*c) {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}
