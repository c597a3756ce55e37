// Package trip turns samples of a few signals into the distance driven, into trips, and into the usage summary that a report is made
// of: minutes in use per hour of the day, minutes per speed band, trips per length band, charging minutes per state-of-charge band,
// minutes with driver assistance.
//
// It judges in frame time only and in integers only. A gap between samples is time that nobody saw: it is never counted as usage.
// Distance is package odometer's: what is doubtful is not counted.
//
// Both are durable in one record: a power loss at any instant costs at most what was seen since the last write (Config.SaveEvery),
// and no distance where the car has an odometer. A car whose samples tell nothing new writes nothing.
//
// Only the families that the driver has turned on are recorded, and from that moment on: what was kept of a family goes when it is turned
// off, and without consent no usage is kept at all. Usage lies encrypted in the store, because that keeps what was overwritten for a while: what is
// turned off takes its key along. The odometer's own state is kept whatever the consent, because it guards the
// distance that claims are about. Neither ever leaves the car: package seal takes the summary through clip and noise, and nothing
// takes the odometer's.
//
// The package proves nothing: claims come from the attestation ECU's counters, which the odometer is only compared with.
package trip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/odometer"
	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/wire"
)

// Config of a Recorder. DB, KeyFile, Logger and Now are required.
type Config struct {
	// DB is the flash store that keeps the record.
	DB DB
	// KeyFile is where the keys lie that usage is encrypted under, outside of the store's files. It is made when missing.
	KeyFile string
	Logger  *slog.Logger
	// Now is the host's clock; it only paces writes.
	Now func() time.Time
	// Signals are the reader's; samples refer to them by index. Of several with one role, usage takes the first that is not silent.
	Signals []vss.Signal
	// Families are what the driver has turned on when the recorder is opened, SetFamilies tells of later ones; 0 records no usage.
	Families wire.Family
	// SaveEvery is the least time between two writes while driving; 0 means 10 s.
	SaveEvery time.Duration
	// UTCOffset is added to frame time for the hour of the day, within ±24 h.
	UTCOffset time.Duration
	// MaxSpeed (mm/s) and Share (permille) are odometer.Config's.
	MaxSpeed, Share int64
	// AttestedShare (permille, up to 1000) and AttestedFloor (metres) are the difference between attested and counted growth that is
	// no finding. 0 means 50 permille and 3,000 m: coarse counters, and a drive before the agent runs.
	AttestedShare, AttestedFloor int64
	// Metrics takes the counters; nil means none.
	Metrics prometheus.Registerer
}

// A DB is the store: Badger's own, or one that keeps count of what it acknowledged.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
}

// A Recorder makes the summary and counts the distance. It is safe for concurrent use.
type Recorder struct {
	cfg Config

	mu        sync.Mutex
	shelf     shelf
	odometer  *odometer.Odometer
	recovered int64 // the odometer's when this run began
	began     int64 // frame time of this run's first sample, 0 for none
	newest    int64 // and of its last
	use       use
	mark      mark // the last snapshot
	base      mark // the one that the long comparison begins at
	answered  bool // mark was asked for in this run
	last      moment
	picks     [vss.NumRoles]pick

	dirty bool
	// The odometer's at the last write.
	revision  uint64
	baselines int
	looked    time.Time     // at the host's clock
	waited    time.Duration // since the last write
}

// pick is the source that a role is taken from.
type pick struct {
	set    bool
	source int   // signal and origin
	at     int64 // frame time of its last sample
}

// Open restores the record, without the families that were turned off since. Everything begins anew where the record is damaged or an older
// agent's, which is said.
func Open(cfg Config) (*Recorder, error) {
	if cfg.DB == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, errors.New("cannot record trips: store, logger and clock are required")
	}
	if off := cfg.UTCOffset; off < -24*time.Hour || off > 24*time.Hour {
		return nil, fmt.Errorf("cannot record trips: an offset of %v from UTC is beyond a day", off)
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = 10 * time.Second
	}
	if cfg.AttestedShare == 0 {
		cfg.AttestedShare = 50
	}
	if cfg.AttestedFloor == 0 {
		cfg.AttestedFloor = 3000
	}
	if cfg.AttestedShare < 0 || cfg.AttestedShare > 1000 || cfg.AttestedFloor < 0 {
		return nil, fmt.Errorf("cannot record trips: a share of %d permille or a floor of %d m is out of range", cfg.AttestedShare, cfg.AttestedFloor)
	}
	if cfg.KeyFile == "" {
		return nil, errors.New("cannot record trips: no key file given")
	}
	r := &Recorder{cfg: cfg, looked: cfg.Now()}
	shelf, err := openShelf(cfg.DB, cfg.KeyFile, cfg.Logger)
	if err != nil {
		return nil, fmt.Errorf("cannot restore usage and distance: %w", err)
	}
	r.shelf = shelf
	rec, _, found, err := r.shelf.load()
	if err != nil {
		return nil, fmt.Errorf("cannot restore usage and distance: %w", err)
	}
	r.odometer, err = odometer.New(odometer.Config{
		Signals: cfg.Signals, MaxSpeed: cfg.MaxSpeed, Share: cfg.Share, Logger: cfg.Logger, Metrics: cfg.Metrics,
	}, rec.Odometer)
	if err != nil {
		return nil, fmt.Errorf("cannot record trips: %w", err)
	}
	r.use, r.mark, r.base = rec.Use, rec.Mark, rec.Base
	r.recovered, r.revision, r.baselines = r.odometer.Recovered(), r.odometer.Revision(), r.odometer.Baselines()
	if !found {
		r.use, r.dirty = use{Families: cfg.Families}, true
	}
	if err := r.allow(cfg.Families); err != nil {
		return nil, fmt.Errorf("cannot begin usage summary: %w", err)
	}
	return r, nil
}

// SetFamilies tells what the driver has turned on from now on. What was kept of the others is gone when it returns, and what the store's files
// still have of it cannot be read any more, unless there is an error: then it goes with the next write, or when the recorder is opened again.
func (r *Recorder) SetFamilies(f wire.Family) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.allow(f); err != nil {
		return fmt.Errorf("cannot keep the change of consent: %w", err)
	}
	return nil
}

// allow drops what may no longer be kept and saves that. Nothing that was seen before counts for a family that comes on. The lock is held.
func (r *Recorder) allow(f wire.Family) error {
	r.shelf.forget = r.shelf.forget || r.use.Families&^f != 0
	if r.use.follow(f) != 0 {
		r.last, r.dirty = moment{}, true
	}
	if !r.dirty && !r.shelf.forget {
		return nil
	}
	r.dirty = true
	return r.save(true)
}

// Observe takes a sample. One of an unknown signal is ignored.
func (r *Recorder) Observe(s vss.Sample) {
	if s.Signal < 0 || s.Signal >= len(r.cfg.Signals) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.newest = s.Time; r.began == 0 {
		r.began = s.Time
	}
	role := r.cfg.Signals[s.Signal].Role
	grown := r.odometer.Observe(s)
	if r.use.Families != 0 {
		if role <= vss.Speed {
			r.endTrip(s.Time)
		}
		if r.use.OnTrip && r.on(wire.FamilyTrips) {
			r.use.Length += grown
		}
		if s.Available && s.Value >= 0 && r.picked(role, &s) {
			r.observe(role, s.Time, s.Value)
		}
	}
	r.keep()
}

func (r *Recorder) observe(role vss.Role, t, v int64) {
	switch role {
	case vss.Speed:
		if v <= r.odometer.MaxSpeed() {
			r.observeSpeed(t, v)
		}
	case vss.Charge:
		r.observeCharge(t, v)
	case vss.Charging:
		if on := v != 0; on != r.last.charging {
			r.last.charging, r.last.chargeAt = on, 0 // the time before the switch was not seen charging
		}
	case vss.Assist:
		r.last.assist = v != 0
	}
}

// picked reports whether a sample is of the source that its role is taken from: the first in the configuration that is not silent.
func (r *Recorder) picked(role vss.Role, s *vss.Sample) bool {
	silence := maxChargeGap
	if role == vss.Speed {
		silence = maxGap / 2
	}
	p, source := &r.picks[role], s.Signal<<8|int(s.Origin)
	if p.set && source > p.source && s.Time >= p.at && s.Time-p.at <= silence {
		return false
	}
	*p = pick{true, source, s.Time}
	return true
}

// keep saves what is due. A failed write is said and tried again later: the car goes on. The lock is held.
func (r *Recorder) keep() {
	if err := r.save(false); err != nil {
		r.cfg.Logger.Error("cannot save usage and distance", "error", err)
	}
}

// Usage returns the summary so far, without a trip that is under way.
func (r *Recorder) Usage() Usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.use.Usage
}

// Status is what the driver is shown of the distance.
type Status struct {
	// Metres is the distance counted since the agent was installed; Source what it is counted from now, empty for nothing.
	Metres int64
	Source string
	// Events are what kept distance from being trusted, each kind once.
	Events []event.Report
}

// Odometer returns the state of the distance for the driver.
func (r *Recorder) Odometer() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{r.odometer.Total() / 1000, r.odometer.Source(), r.odometer.Reports()}
}

// Take returns the summary so far and a function that takes just that out of it, durably; what was seen since stays, as do the parts of
// minutes that the totals do not tell.
func (r *Recorder) Take(context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error) {
	u := r.Usage()
	return u.vector(), func(context.Context) error { return r.consume(u) }, nil
}

func (r *Recorder) consume(u Usage) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.use.Usage.subtract(u)
	r.dirty = true
	if err := r.save(true); err != nil {
		return fmt.Errorf("cannot save usage summary: %w", err)
	}
	return nil
}

// Close writes what is not written yet.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.save(true); err != nil {
		return fmt.Errorf("cannot save usage and distance: %w", err)
	}
	return nil
}
