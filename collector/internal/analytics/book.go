package analytics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"rawstone/collector/internal/analytics/clipping"
	"rawstone/collector/internal/analytics/cost"
	"rawstone/collector/internal/analytics/tally"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Report is a stored usage report.
type Report struct {
	// Serial rises in the order in which reports became readable, and ID is the submission's.
	Serial int64
	ID     wire.Hash
	// Day is the program day of the dispatch.
	Day      uint32
	Families wire.Family
	// Model is the vehicle's when the report came; empty for unknown. It never changes.
	Model string
	// Values are wire.VectorLen noised values.
	Values []int64
}

// Source reads stored usage reports.
type Source interface {
	// Reports calls fn with at most limit reports under charter whose serial is above after, by ascending serial, and stops at fn's first
	// error. A report must never appear under a serial below one that was already read. fn does not keep Values.
	Reports(ctx context.Context, charter wire.Hash, after int64, limit int, fn func(Report) error) error
	// Erasures returns how many times persons' data were erased, with their reports.
	Erasures(ctx context.Context) (uint64, error)
}

const (
	// batch is how many reports are read at once.
	batch = 20_000
	// saveEvery is after how many reports they are put on disk, and saveAfter how long after the last time: so many are read again after
	// a crash.
	saveEvery = 50_000
	saveAfter = time.Minute
)

// A book is what is pooled of one charter.
type book struct {
	charter Charter
	// One of these made the reports; answers is for categorical ones.
	noise   *dp.Gaussian
	answers *dp.Categorical
	// layouts are the charter's families and parts where their values stand in a report.
	layouts  []wire.Layout
	parts    []tally.Part
	privacy  cost.Privacy
	clipping clipping.Clipping // zero for categorical reports, which nothing clips
	path     string            // empty for none

	mu    sync.RWMutex // guards tally
	tally *tally.Tally

	// Held by who refreshes.
	at      tally.Position
	opened  bool // path was looked at
	unsaved int
	saved   time.Time // zero for never
}

func newBook(c Charter, p clipping.Population, dir string) (b *book, err error) {
	b = &book{charter: c}
	if dir != "" {
		b.path = filepath.Join(dir, "usage-"+c.ID.String()+".moments")
	}
	for _, l := range wire.Layouts() {
		if c.Usage.Families&l.Family != 0 {
			b.layouts = append(b.layouts, l)
			b.parts = append(b.parts, tally.Part{Family: l.Family, From: l.Offset, To: l.Offset + l.Len})
		}
	}
	var mechanism cost.Mechanism
	switch m := c.Usage.Mechanism; m {
	case terms.GaussianVector:
		if b.noise, err = clipping.Mechanism(c.Usage); err != nil {
			return nil, err
		}
		if b.clipping, err = clipping.Bias(b.noise, p); err != nil {
			return nil, err
		}
		mechanism = b.noise
	case terms.SubsetSelection, terms.RandomizedResponse:
		if bits.OnesCount16(uint16(c.Usage.Families)) != 1 || len(b.layouts) != 1 {
			return nil, errors.New("a categorical mechanism is of one family")
		}
		scheme := dp.SubsetSelection
		if m == terms.RandomizedResponse {
			scheme = dp.RandomizedResponse
		}
		if b.answers, err = dp.NewCategorical(scheme, b.layouts[0].Len, float64(c.Usage.EpsilonMicro)/1e6); err != nil {
			return nil, err
		}
		b.parts = []tally.Part{{Family: b.layouts[0].Family, To: b.answers.Categories()}}
		mechanism = b.answers
	default:
		return nil, fmt.Errorf("mechanism %d is unknown: this program is older than the charter", m)
	}
	if b.privacy, err = cost.Of(mechanism, int(c.Usage.YearlyDispatches)); err != nil {
		return nil, err
	}
	return b, b.reset()
}

// reset forgets everything, so that all reports are read again.
func (b *book) reset() error {
	empty, err := tally.New(b.parts)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tally, b.at, b.unsaved = empty, tally.Position{Charter: b.charter.ID}, 0
	return nil
}

// Refresh reads the reports that came since the last one and merges them in, some at a time: what was merged before the source fails stays,
// and the next call goes on behind it.
func (e *Estimator) Refresh(ctx context.Context) error {
	e.refresh.Lock()
	defer e.refresh.Unlock()
	for _, b := range e.books {
		if err := e.update(ctx, b); err != nil {
			return fmt.Errorf("cannot read usage reports of charter %d: %w", b.charter.Serial, err)
		}
	}
	return nil
}

func (e *Estimator) update(ctx context.Context, b *book) error {
	if err := e.open(ctx, b); err != nil {
		return err
	}
	today := e.cfg.Today()
	erasures, err := e.cfg.Source.Erasures(ctx)
	if err != nil {
		return err
	}
	switch {
	case b.at.Cursor == 0:
		b.at.Erasures = erasures
	case today+1 < b.at.Today || b.at.Ahead && today > b.at.Today:
		// Reports were passed over or forgotten while the clock was wrong.
		err = e.renew(ctx, b, today, erasures, "the clock was corrected")
	case erasures != b.at.Erasures && today != b.at.Today:
		// Once a day at most: it takes its time, and what was erased is noise but for many together.
		err = e.renew(ctx, b, today, erasures, "persons' reports were erased")
	}
	if err != nil {
		return err
	}
	b.at.Today = today
	var unsaved error // is said at the end: estimates go on without
	for more := true; more; {
		n, err := e.merge(ctx, b, today)
		if err != nil {
			return errors.Join(err, unsaved)
		}
		more = n == batch
		if unsaved == nil && (b.unsaved >= saveEvery || b.unsaved > 0 && e.cfg.Now().Sub(b.saved) >= saveAfter) {
			unsaved = e.save(b)
		}
	}
	return unsaved
}

// merge takes the next batch in and returns how many reports it had.
func (e *Estimator) merge(ctx context.Context, b *book, today uint32) (n int, err error) {
	fresh, at, counts := b.tally.Empty(), b.at, counts{}
	err = e.cfg.Source.Reports(ctx, b.charter.ID, at.Cursor, batch, func(r Report) error {
		if r.Serial <= at.Cursor {
			return fmt.Errorf("the source gave serial %d after %d", r.Serial, at.Cursor)
		}
		n++
		at.Cursor, at.Mark = r.Serial, r.ID
		why := b.reject(r, today, e.cfg.Retain)
		counts[why]++
		at.Ahead = at.Ahead || why == badDay
		if why != accepted {
			return nil
		}
		return fresh.Add(r.Day, r.Model, r.Families, r.Values)
	})
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.tally.Merge(fresh); err != nil {
		return 0, fmt.Errorf("cannot merge usage reports: %w", err)
	}
	if today >= e.cfg.Retain {
		b.tally.Forget(today - e.cfg.Retain + 1)
	}
	b.at = at
	b.unsaved += n
	e.metrics.count(counts)
	return n, nil
}

// reject says why a report is not counted. Intake should have refused most of these; a bad one must not spoil the good.
func (b *book) reject(r Report, today, retain uint32) outcome {
	switch {
	case r.Families == 0 || r.Families&^b.charter.Usage.Families != 0:
		return badFamilies
	case len(r.Values) != wire.VectorLen:
		return badLength
	case r.Day > today && r.Day-today > 1:
		return badDay
	case r.Day < today && today-r.Day >= retain:
		return oldDay
	}
	if b.answers != nil {
		k := b.answers.Categories()
		if b.answers.Check(r.Values[:k]) != nil || slices.ContainsFunc(r.Values[k:], func(v int64) bool { return v != 0 }) {
			return badRange
		}
		return accepted
	}
	bound := b.noise.Bound()
	for _, v := range r.Values {
		if v > bound || v < -bound {
			return badRange
		}
	}
	return accepted
}

// again says that what was pooled of a charter is of no use any more.
func (e *Estimator) again(b *book, why string) {
	e.cfg.Logger.Warn("usage reports are read again", "charter", b.charter.Serial, "reason", why)
	e.metrics.rebuilds.Inc()
}

// renew reads all reports of a charter again and then puts them in the place of what was pooled, also on disk.
func (e *Estimator) renew(ctx context.Context, b *book, today uint32, erasures uint64, why string) error {
	e.again(b, why)
	fresh := &book{charter: b.charter, noise: b.noise, answers: b.answers, parts: b.parts}
	if err := fresh.reset(); err != nil {
		return err
	}
	fresh.at.Today, fresh.at.Erasures = today, erasures
	for n := batch; n == batch; {
		var err error
		if n, err = e.merge(ctx, fresh, today); err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.tally, b.at = fresh.tally, fresh.at
	b.mu.Unlock()
	return e.save(b)
}

// open reads what was pooled before, once, and makes sure that the records are still those that it was pooled from.
func (e *Estimator) open(ctx context.Context, b *book) error {
	if b.opened || b.path == "" {
		return nil
	}
	pooled, at, err := tally.Load(b.path, b.parts)
	if errors.Is(err, fs.ErrNotExist) {
		b.opened = true
		return nil
	}
	if err == nil && at.Charter != b.charter.ID {
		err = errors.New("what was saved is of another charter")
	}
	if err == nil && at.Cursor > 0 {
		same := false
		unread := e.cfg.Source.Reports(ctx, b.charter.ID, at.Cursor-1, 1, func(r Report) error {
			same = r.Serial == at.Cursor && r.ID == at.Mark
			return nil
		})
		if unread != nil {
			return unread
		}
		if !same {
			err = errors.New("the records are not those that were read before")
		}
	}
	b.opened = true
	if err != nil {
		e.again(b, err.Error())
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tally, b.at = pooled, at
	return nil
}

// save puts what was pooled on disk.
func (e *Estimator) save(b *book) error {
	if b.path != "" && !e.cfg.Frozen {
		if err := b.tally.Save(b.path, b.at); err != nil {
			return err
		}
	}
	b.unsaved, b.saved = 0, e.cfg.Now()
	return nil
}

// Save puts what was pooled since the last time on disk, so that it need not be read again.
func (e *Estimator) Save() (err error) {
	e.refresh.Lock()
	defer e.refresh.Unlock()
	for _, b := range e.books {
		if b.unsaved > 0 {
			err = errors.Join(err, e.save(b))
		}
	}
	return err
}
