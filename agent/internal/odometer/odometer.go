// Package odometer fuses the distance counters and speeds of a car into one distance that can be trusted.
//
// It errs low: doubtful distance is never counted. Each source keeps a claim, a lower bound of the distance driven as far as that
// source tells. The finest healthy counter leads: the distance counted is its claim. The others follow, and take over from their own
// claims when it falls silent or into doubt, so that no metre is counted twice and none that a healthy source saw is lost; the
// speed integral is the last resort. A counter that outlives a gap which nothing watched (a power loss, a restart of the agent)
// recovers the distance.
//
// Invariants: the distance never decreases and never grows by more than MaxSpeed times the frame time that passed; everything is
// judged in frame time and integers, so that the same samples give the same distance at any pace; an Observe allocates nothing
// except where an episode begins and is logged; memory is bounded whatever the bus sends.
//
// The package stores nothing and sends nothing. It cannot tell a lie that all sources share, nor a speed that reads high where it is
// the only source.
package odometer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/odometer/motion"
	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
)

const (
	second  = motion.Second
	reorder = int64(time.Second) // ns by which frames of several buses may be out of order
	never   = -1 << 62           // µs
)

// Config of an Odometer. Logger is required.
type Config struct {
	// Signals are the reader's; samples refer to them by index. Only those of the roles Distance and Speed are used.
	Signals []vss.Signal
	// MaxSpeed is what the vehicle cannot exceed, millimetres a second, up to 1,000,000; 0 means 100,000 (360 km/h).
	MaxSpeed int64
	// Share is the difference between two counters that is no disagreement, permille up to 500; twice that between a counter and a
	// speed. 0 means 100.
	Share  int64
	Logger *slog.Logger
	// Metrics takes the counter of events; nil means none.
	Metrics prometheus.Registerer
}

// An Odometer counts distance. It is not safe for concurrent use.
type Odometer struct {
	cfg    Config
	events *event.Log

	now     int64 // frame time of the newest sample, ns
	elapsed int64 // frame time passed forwards, µs: the clock of everything below

	trackers [state.MaxSources]tracker
	order    [state.MaxSources]uint8 // the finest counter first, speeds last
	n        int

	total, recovered int64
	lead             int   // the tracker that the distance is counted from, -1 for none
	covered          int64 // since when some source has led without a hole
	hole             int64 // since when none leads
	disputes         int   // trackers that disagree with the lead
	disputed         int64 // total when the disputes began
	losses           uint64
	crowded          bool // too many sources, and said
	baselines        int  // counters that became known, restored ones included
	revision, doubts uint64
}

// New returns an odometer that goes on from a state, the zero value for a new one.
func New(cfg Config, saved state.Odometer) (*Odometer, error) {
	if cfg.Logger == nil {
		return nil, errors.New("cannot make odometer: no logger given")
	}
	if cfg.MaxSpeed == 0 {
		cfg.MaxSpeed = 100_000
	}
	if cfg.Share == 0 {
		cfg.Share = 100
	}
	if cfg.MaxSpeed < 0 || cfg.MaxSpeed > 1_000_000 || cfg.Share < 0 || cfg.Share > 500 {
		return nil, fmt.Errorf("cannot make odometer: a largest speed of %d mm/s or a share of %d permille is out of range", cfg.MaxSpeed, cfg.Share)
	}
	for _, s := range cfg.Signals {
		if s.Role == vss.Distance && (s.Resolution < 0 || s.Resolution > state.MaxLevel || s.Modulus < 0 || s.Modulus > state.MaxLevel) {
			return nil, fmt.Errorf("cannot make odometer: resolution %d mm or modulus %d mm of %s is out of range", s.Resolution, s.Modulus, s.Name)
		}
	}
	if !saved.Valid() {
		return nil, errors.New("cannot make odometer: the saved state is damaged")
	}
	log, err := event.NewLog(cfg.Logger, cfg.Metrics, saved.Events)
	if err != nil {
		return nil, fmt.Errorf("cannot make odometer: %w", err)
	}
	o := &Odometer{cfg: cfg, events: log, lead: -1}
	o.restore(&saved)
	return o, nil
}

// Total returns the distance counted, millimetres.
func (o *Odometer) Total() int64 { return o.total }

// MaxSpeed returns Config.MaxSpeed.
func (o *Odometer) MaxSpeed() int64 { return o.cfg.MaxSpeed }

// Recovered returns the part of Total that a counter told after nothing had watched, millimetres.
func (o *Odometer) Recovered() int64 { return o.recovered }

// Losses returns how often distance may have been driven that no counter can tell afterwards.
func (o *Odometer) Losses() uint64 { return o.losses }

// Baselines returns how many counters have a level that is worth keeping at once: what is driven before that is not recoverable.
func (o *Odometer) Baselines() int { return o.baselines }

// Pending reports whether a counter has not been heard since New, so that there may be distance to recover.
func (o *Odometer) Pending() bool {
	for i := range o.n {
		if k := &o.trackers[i]; k.known && k.seen == never {
			return true
		}
	}
	return false
}

// Note counts an event that is found elsewhere.
func (o *Odometer) Note(e event.Kind) { o.events.Note(e, o.now, "", true) }

// Revision changes whenever there is something new to keep; a parked car's does not.
func (o *Odometer) Revision() uint64 { return o.revision }

// Reports returns the events that happened, for the driver.
func (o *Odometer) Reports() []event.Report { return o.events.Reports() }

// Source returns the name of the source that is counted from, empty while none is healthy.
func (o *Odometer) Source() string {
	if o.lead < 0 {
		return ""
	}
	return o.cfg.Signals[o.trackers[o.lead].signal].Name
}

// Observe takes a sample and returns the millimetres by which the distance counted grew.
func (o *Odometer) Observe(s vss.Sample) (grown int64) {
	if s.Signal < 0 || s.Signal >= len(o.cfg.Signals) || o.cfg.Signals[s.Signal].Role > vss.Speed {
		return 0
	}
	o.tick(s.Time)
	k := o.find(s.Signal, s.Origin)
	if k == nil {
		return 0
	}
	o.elect()
	before, stepped := o.total, k.stepped
	if k.speed {
		o.speed(k, &s)
	} else {
		o.distance(k, &s)
	}
	o.fuse(k, stepped)
	o.elect()
	if o.total != before {
		o.revision++
		o.doubts = 0
	}
	return o.total - before
}

// tick advances the clock, and notes where it was set back.
func (o *Odometer) tick(t int64) {
	if o.now == 0 {
		o.now = t
	}
	if t > o.now {
		o.elapsed = min(o.elapsed+motion.Between(o.now, t), state.MaxElapsed)
		o.now = t
	} else if t < o.now && (o.now-t > reorder || o.now-t < 0) {
		o.now = t
		begins := false
		for i := range o.n {
			begins = o.begins(&o.trackers[i], event.TimeBackwards) || begins
		}
		o.events.Note(event.TimeBackwards, t, "", begins)
	}
}

// reach returns how far a car may get in µs, mm.
func (o *Odometer) reach(us int64) int64 { return o.cfg.MaxSpeed * us / second }

// elect makes the finest healthy source lead, and notes from when on there has been no hole.
func (o *Odometer) elect() {
	next := -1
	for _, i := range o.order[:o.n] {
		if o.healthy(&o.trackers[i]) {
			next = int(i)
			break
		}
	}
	if o.disputes > 0 {
		o.settle(next)
	}
	if next == o.lead {
		return
	}
	switch {
	case next < 0:
		o.hole = o.trackers[o.lead].seen
	case o.lead < 0:
		o.covered = o.elapsed
		o.lose()
	default:
		if since := o.trackers[next].since; since > o.trackers[o.lead].seen {
			o.covered = max(o.covered, since)
			o.hole = o.trackers[o.lead].seen
			o.lose()
		}
	}
	o.lead = next
}

// lose notes a hole that no counter outlived.
func (o *Odometer) lose() {
	for i := range o.n {
		if k := &o.trackers[i]; k.known && !k.speed && k.since <= o.hole {
			return
		}
	}
	o.losses++
}

// fuse carries what a source has just told into the distance; stepped is when it had told of growth before.
func (o *Odometer) fuse(k *tracker, stepped int64) {
	if !k.fresh {
		return
	}
	k.fresh = false
	var lead *tracker
	if o.lead >= 0 {
		lead = &o.trackers[o.lead]
	}
	if lead != nil && k != lead {
		o.compare(k, lead)
	}
	switch {
	case o.disputes > 0:
		o.raise(o.disputed + o.smallest())
	case k == lead:
		o.raise(k.claim)
	case k.speed && lead != nil: // its claim may run ahead of the leading counter's next step
	case lead != nil && o.covered <= stepped: // the lead saw the same metres, except what it has not told yet
		k.claim = min(k.claim, o.total+o.reach(o.elapsed-lead.seen))
	default:
		was := o.total
		o.raise(k.claim)
		o.recovered += o.total - was
	}
	if !k.speed { // more than the distance counted has been driven, wherever it stands between two steps
		k.claim = max(k.claim, o.total-k.resolution)
	}
}

// raise carries the distance up to a claim, within physics. The speeds' claims begin anew there, short of what they have not told yet:
// as far as a car gets that speeds up since their last samples.
func (o *Odometer) raise(to int64) {
	if to = min(to, o.elapsed/1000*o.cfg.MaxSpeed/1000); to <= o.total {
		return
	}
	o.total = to
	for i := range o.n {
		if k := &o.trackers[i]; k.speed {
			k.claim = to - motion.Most(k.level, min(o.elapsed-max(k.seen, 0), speedGap))
		}
	}
}
