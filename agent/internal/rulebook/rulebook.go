// Package rulebook holds what this car claims under: the policies of the newest notice that it heard, the circuits and keys that they
// name, and who the program's validators are by the changes that the notice gives.
//
// Invariants: only what a quorum of the program's validators stands for is taken, those of the block's day as the program root has signed
// them; a notice never gives way to one of an older block, so that nobody takes a stop back by repeating what was said before, nor to one
// that keeps back a change of validators which has been heard of, so that nobody goes on under keys that were replaced; a notice is on
// flash, synced, before anything follows from it; and keys are used only where their hashes lead back to a policy. After a restart rules,
// validators and keys are usable at once, without a network.
//
// Whoever holds the keys of validators that were replaced can deceive a car that has not heard of it, with a block of a day to come at
// that. The first notice that shows the change ends this: what it refutes counts as never heard, however new it says to be.
//
// What is fetched follows from notices alone, which are the same for all cars, and when from them too: a notice's keys are fetched while the
// car is connected for it, and what is missing at a start after a random time of driving (package hold). Whoever serves the files learns
// nothing of tiers, of claims or of when the car is switched on. The package refuses keys of a development setup in production. Which policies a claim is made under
// is package cut's question.
package rulebook

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/hold"
	"rawstone/pkg/ledger"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Defaults of Config.
const (
	DefaultNewsEvery  = 7 * 24 * time.Hour
	DefaultBackoffMin = 5 * time.Second
	DefaultBackoffMax = time.Hour
	// heardEvery is how often hearing the same notice again is written: a broker that repeats it must not wear out the flash.
	heardEvery = time.Hour
)

// Blobs are the files that policies name by their SHA-256. Both readers hand out nothing of another hash; limit is in bytes.
type Blobs interface {
	// Get may fetch the file, Load looks on flash only.
	Get(ctx context.Context, hash wire.Hash, limit int64) ([]byte, error)
	Load(hash wire.Hash, limit int64) ([]byte, error)
	// Keep removes all others.
	Keep(hashes ...wire.Hash) error
}

// A Gate holds what is overdue (*hold.Gate).
type Gate interface {
	// Until returns the time until what has a name and was due at an instant may be done, not above 0 where it may now.
	Until(name string, due time.Time) time.Duration
}

// Config says whose rules these are. Fields without a default are required.
type Config struct {
	// Dir is the notice's directory on flash, for this package alone; it is made when missing.
	Dir   string
	Blobs Blobs
	// Environment says whether keys of a development setup may be used.
	Environment wire.Environment
	// Root is the program root's key that the car pins. Program and Charter are the documents verified under it, ProgramID the program's
	// identifier.
	Root      wire.PublicKey
	Program   *terms.Program
	ProgramID wire.Hash
	Charter   *terms.Charter
	// AgentVersion is this program's version, major.minor.patch.
	AgentVersion string
	// Kinds returns the kinds of policy beside mileage that the driver lets claims tell of at this moment; nil means none. They have no
	// influence on what is fetched. It may not block or call the Book.
	Kinds func() []string
	// NewsEvery is the longest time between two notices that are not asked for sooner; 0 means DefaultNewsEvery.
	NewsEvery time.Duration
	// Hold keeps keys that are missing at a start from making the car connect at that moment; nil means that nothing does.
	Hold Gate
	// Now is the source of time.
	Now func() time.Time
	// Changed is called, by Take and Run, after Rules or what can be proven has changed.
	Changed func()
	// BackoffMin is the wait after a first failed attempt at fetching keys; it doubles up to BackoffMax.
	BackoffMin, BackoffMax time.Duration
	Logger                 *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	switch {
	case c.Dir == "" || c.Blobs == nil || c.Logger == nil || c.Now == nil || c.Changed == nil:
		return errors.New("no directory, files, logger or clock given, or nobody to tell of changes")
	case c.Environment != wire.Development && c.Environment != wire.Production:
		return fmt.Errorf("environment %q is neither development nor production", c.Environment)
	case c.Root == wire.PublicKey{} || c.Program == nil || c.Charter == nil || c.Charter.Program != c.ProgramID:
		return errors.New("no program root, no program, or no charter of it given")
	case c.BackoffMin < 0 || c.BackoffMax < 0 || c.NewsEvery < 0:
		return errors.New("a time to wait is negative")
	}
	if c.NewsEvery == 0 {
		c.NewsEvery = DefaultNewsEvery
	}
	if c.BackoffMin == 0 {
		c.BackoffMin = DefaultBackoffMin
	}
	if c.BackoffMax == 0 {
		c.BackoffMax = max(DefaultBackoffMax, c.BackoffMin)
	}
	if c.BackoffMax < c.BackoffMin {
		return errors.New("the longest back-off is shorter than the first")
	}
	return nil
}

// A Book holds the rules. Its methods are safe for concurrent use.
type Book struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	work    chan struct{} // tells Run that keys are missing

	taking  sync.Mutex // held while a notice is taken
	written time.Time  // the Heard on flash; guarded by taking

	proving sync.Mutex // held while a prover is looked for or loaded
	provers []loaded   // the one used last first; guarded by proving

	mu       sync.Mutex // guards what follows
	opened   *notice.Opened
	body     []byte // the notice's bytes
	heard    time.Time
	noticed  hold.Moment        // when the last notice came, in this process
	outdated bool               // since heard, by the word of the collector
	keys     map[wire.Hash]keys // by lock, of the policies that this car can use
	failure  error              // of the last attempt at fetching keys
}

// Open reads the notice on flash and looks which keys are there. A notice that is damaged or of another program counts as none: the
// next one that comes replaces it.
func Open(cfg Config) (*Book, error) {
	b, err := newBook(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open rulebook: %w", err)
	}
	return b, nil
}

func newBook(cfg Config) (*Book, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	b := &Book{cfg: cfg, log: cfg.Logger, metrics: m, work: make(chan struct{}, 1)}
	r, err := readRecord(cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	var o *notice.Opened
	if err == nil {
		o, err = b.verify(r.Notice)
	}
	if err != nil {
		m.damaged.Inc()
		b.log.Warn("notice on flash cannot be used; the next one replaces it", "error", err)
		return b, nil
	}
	b.heard = time.Unix(r.Heard, 0)
	b.written = b.heard
	b.adopt(o, r.Notice)
	return b, nil
}

func (b *Book) verify(body []byte) (*notice.Opened, error) {
	n, err := notice.Decode(body)
	if err != nil {
		return nil, err
	}
	return n.Open(b.cfg.Root, b.cfg.Program, b.cfg.ProgramID)
}

// Take verifies a notice and, where it is newer than the one in force, keeps it and goes by it from then on. The error says why it does
// not; what was in force stays.
func (b *Book) Take(body []byte) error {
	outcome, err := b.take(body)
	b.metrics.notices.WithLabelValues(outcome).Inc()
	if err != nil {
		return fmt.Errorf("cannot take notice of policies: %w", err)
	}
	if outcome == outcomeTaken {
		b.cfg.Changed()
	}
	return nil
}

func (b *Book) take(body []byte) (outcome string, err error) {
	b.taking.Lock()
	defer b.taking.Unlock()
	o, err := b.verify(body)
	if err != nil {
		return outcomeRefused, err
	}
	have, kept := b.inForce()
	if have != nil && o.Refutes(have, b.cfg.Program.Timing) {
		b.log.Warn("the notice in force was made under keys of validators that had been replaced; it counts as never heard", "drop", have.Drop)
		have = nil
	}
	if have != nil && o.Drop < have.Drop {
		return outcomeOlder, fmt.Errorf("it is of drop %d, and the car has heard that of drop %d", o.Drop, have.Drop)
	}
	if have != nil {
		if err := o.After(have); err != nil {
			return outcomeRefused, err
		}
	}
	now := b.cfg.Now()
	// Two notices of one block differ in how many old policies they leave out.
	if have != nil && o.Drop == have.Drop && len(o.Policies) <= len(have.Policies) {
		if since := now.Sub(b.written); since < 0 || since >= heardEvery {
			if err := b.keep(now, kept); err != nil {
				return outcomeUnkept, err
			}
		}
		b.setHeard(now)
		return outcomeKnown, nil
	}
	if err := b.keep(now, body); err != nil {
		return outcomeUnkept, err
	}
	b.setHeard(now)
	b.adopt(o, body)
	return outcomeTaken, nil
}

// keep writes the notice; taking is held.
func (b *Book) keep(heard time.Time, body []byte) error {
	if err := writeRecord(b.cfg.Dir, heard, body); err != nil {
		return fmt.Errorf("it cannot be kept: %w", err)
	}
	b.written = heard
	return nil
}

func (b *Book) inForce() (*notice.Opened, []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened, b.body
}

func (b *Book) setHeard(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard, b.noticed, b.outdated = at, hold.At(b.cfg.Now()), false
}

// adopt goes by a notice that is on flash.
func (b *Book) adopt(o *notice.Opened, body []byte) {
	found := make(map[wire.Hash]keys)
	for _, p := range b.usable(o.Policies) {
		if _, ok := found[p.Lock]; !ok {
			found[p.Lock] = b.look(p.Lock)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened, b.body, b.keys, b.failure = o, slices.Clone(body), found, nil
	b.wake()
}

// usable returns the policies that this car could use if it had their keys.
func (b *Book) usable(policies []*terms.Policy) (list []*terms.Policy) {
	rules := b.rules(policies)
	for _, p := range policies {
		if rules.Unusable(p) == nil {
			list = append(list, p)
		}
	}
	return list
}

func (b *Book) rules(policies []*terms.Policy) cut.Rules {
	r := cut.Rules{Program: b.cfg.ProgramID, Charter: b.cfg.Charter, Policies: policies, AgentVersion: b.cfg.AgentVersion}
	if b.cfg.Kinds != nil {
		r.Kinds = b.cfg.Kinds()
	}
	return r
}

// Rules returns what claims are made under now. They stay as they are; later ones are told of by Changed.
func (b *Book) Rules() cut.Rules {
	b.mu.Lock()
	defer b.mu.Unlock()
	var policies []*terms.Policy
	if b.opened != nil {
		policies = b.opened.Policies
	}
	rules := b.rules(policies)
	rules.Provable = b.provable
	return rules
}

// Validators returns the changes of validators that decide about the day of the newest block that was heard of or about a later one, by
// rising serials, and that day; nothing where there is no notice.
func (b *Book) Validators() (changes []*ledger.Witness, day uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil {
		return nil, 0
	}
	return slices.Clone(b.opened.Changes), b.opened.Day
}

// Heard returns when the last valid notice came, or the zero time.
func (b *Book) Heard() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard
}

// Since returns the time of the block that the notice in force stands on, the zero time where there is none. A quorum of the program's
// validators says that the present is not before it.
func (b *Book) Since() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil {
		return time.Time{}
	}
	return b.cfg.Program.Timing.DropTime(b.opened.Drop)
}

// Outdate has the next notice be due now: the collector says that what this car goes by is out of date.
func (b *Book) Outdate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outdated = true
}

// NewsDue returns when the next notice is wanted. It does not depend on what the car does, but for a claim that was refused.
func (b *Book) NewsDue() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.heard.IsZero() || b.outdated || b.heard.After(b.cfg.Now()) { // heard by a clock that was set back
		return time.Unix(0, 0)
	}
	return b.heard.Add(b.cfg.NewsEvery)
}

// Waiting says in a few words what is missing for claims, or is empty when nothing is. Why a policy that is here is not used is what
// Rules tell.
func (b *Book) Waiting() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.opened == nil:
		return "waiting for policies"
	case len(b.missing()) == 0:
		return ""
	case b.failure != nil:
		return "fetching keys: " + b.failure.Error()
	}
	return "fetching keys"
}
