package odometer

import "rawstone/agent/internal/odometer/event"

import "rawstone/agent/internal/vss"

// A tracker follows one source. Times named µs are of the odometer's clock.
type tracker struct {
	signal     int
	origin     uint8
	speed      bool
	resets     bool
	resolution int64
	modulus    int64

	known   bool // level and at hold
	stale   bool // frame time went back since
	fresh   bool // the last sample was good and is not fused yet
	moved   bool // and told of growth
	frozen  bool
	flipped bool  // the values are kilometres read as miles
	at      int64 // frame time of the last good sample, ns
	seen    int64 // µs of it
	stepped int64 // µs of the last growth
	since   int64 // µs from which on it is unbroken
	period  int64 // µs, a bound of the recent times between samples
	level   int64 // mm; of a speed mm/s
	rest    int64 // of a speed integral, mm/s·µs
	burst   int64 // mm that a step may exceed the reach, up to the resolution
	claim   int64 // mm: the distance driven is at least this
	sum     int64 // mm of growth since the beginning
	upper   int64 // of a speed: the same, rounded up
	breaks  uint32

	candidate candidate
	still     witness // the speed when the counter last moved
	upperAt   witness // and when it was last seen
	window    window
	episodes  uint16 // by Event
	trouble   int64  // µs of the last event
}

// A candidate is a level that may be the new one.
type candidate struct {
	samples   int
	level     int64
	first, at int64 // frame time, ns
	flipped   bool
}

// A witness is what a speed said at some moment.
type witness struct {
	tracker int8 // +1, 0 for none
	breaks  uint32
	mm      int64
}

// A candidate level is adopted after so many samples over so much time.
const (
	adoptSamples = 5
	adoptTime    = 10 * second
)

const (
	speedGap = 4 * second  // a longer silence of a speed is not bridged; a stop within a shorter one goes unseen
	walking  = 278         // mm/s: below, a satellite receiver's noise
	calm     = 60 * second // an episode ends after such a time without an event
	patience = 3 * second  // a source may be late by that and twice its period
)

// find returns the tracker of a source, nil where there are too many.
func (o *Odometer) find(signal int, origin uint8) *tracker {
	for i := range o.n {
		if k := &o.trackers[i]; k.signal == signal && k.origin == origin {
			return k
		}
	}
	k := o.add(signal, origin)
	if k == nil {
		o.events.Note(event.TooManySources, o.now, o.cfg.Signals[signal].Name, !o.crowded)
		o.crowded = true
	}
	return k
}

// add makes a tracker and puts it in order.
func (o *Odometer) add(signal int, origin uint8) *tracker {
	if o.n == maxSources {
		return nil
	}
	s := &o.cfg.Signals[signal]
	k := &o.trackers[o.n]
	*k = tracker{signal: signal, origin: origin, speed: s.Role == vss.Speed, resets: s.Resets, resolution: max(s.Resolution, 1), modulus: s.Modulus, burst: max(s.Resolution, 1)}
	at := o.n
	for ; at > 0 && k.finer(&o.trackers[o.order[at-1]]); at-- {
		o.order[at] = o.order[at-1]
	}
	o.order[at] = uint8(o.n)
	o.n++
	return k
}

func (k *tracker) finer(other *tracker) bool {
	switch {
	case k.speed != other.speed:
		return other.speed
	case !k.speed && k.resolution != other.resolution:
		return k.resolution < other.resolution
	case k.resets != other.resets:
		return other.resets
	}
	return k.signal < other.signal
}

func (o *Odometer) healthy(k *tracker) bool {
	return k.known && !k.stale && !k.frozen && k.candidate.samples == 0 && o.elapsed-k.seen <= patience+2*k.period
}

// begins reports whether an event begins an episode on a source, and notes it there.
func (o *Odometer) begins(k *tracker, e event.Kind) bool {
	begins := k.episodes&(1<<e) == 0
	k.episodes |= 1 << e
	k.trouble = o.elapsed
	if begins {
		o.revision++
	}
	return begins
}

func (o *Odometer) note(k *tracker, e event.Kind) {
	o.events.Note(e, o.now, o.cfg.Signals[k.signal].Name, o.begins(k, e))
}

// accept notes a good sample.
func (o *Odometer) accept(k *tracker, t int64) {
	if k.seen > never {
		k.period = min(max(o.elapsed-k.seen, k.period-k.period/8), 100*second)
	}
	k.at, k.seen, k.fresh = max(k.at, t), o.elapsed, true
	if k.episodes != 0 && o.elapsed-k.trouble > calm {
		k.episodes = 0
	}
}

// rebase begins anew at a level. Where a counter stands between two of its steps is not known: its first step tells nothing.
func (o *Odometer) rebase(k *tracker, t, level int64) {
	if !k.speed && k.modulus == 0 {
		o.revision++
		if !k.known {
			o.baselines++
		} else if !k.resets {
			o.losses++
		}
	}
	k.at, k.level, k.claim, k.since, k.stepped, k.seen = t, level, o.total, o.elapsed, o.elapsed, o.elapsed
	if !k.speed {
		k.claim -= k.resolution
	}
	k.known, k.stale, k.frozen, k.moved, k.rest, k.burst = true, false, false, false, 0, k.resolution
	k.candidate = candidate{}
	k.breaks++
	k.still, k.upperAt = o.testify(0), o.testify(1)
	o.accept(k, t)
}

// distance takes a sample of a counter.
func (o *Odometer) distance(k *tracker, s *vss.Sample) {
	t, v := s.Time, s.Value
	switch {
	case !s.Available || v < 0 || v > maxLevel || k.modulus > 0 && v >= k.modulus:
		o.note(k, event.NotAvailable)
		return
	case k.stale && v == k.level: // it has not grown, whenever that was
		k.stale, k.at, k.since = false, t, o.elapsed
	case !k.known || k.stale:
		o.rebase(k, t, v)
		return
	}
	dt := between(k.at, t)
	reach, delta := o.reach(dt), v-k.level
	if k.modulus > 0 {
		if delta < 0 {
			delta += k.modulus
		}
		if reach+k.resolution >= k.modulus {
			reach = o.driven(k, reach)
		}
		if reach+k.resolution >= k.modulus {
			if delta != 0 {
				o.note(k, event.UnseenWrap)
			}
			o.rebase(k, t, v)
			return
		}
	}
	c := &k.candidate
	if c.samples > 0 { // waiting in doubt must not make a jump believed
		reach = o.driven(k, min(reach, o.reach(2*adoptTime)))
	}
	held := c.samples > 0 && o.holds(k, v, t)
	switch {
	case held && k.modulus == 0 && c.level > k.level: // it goes on from the doubtful level, not from the old one
	case delta >= 0 && delta <= reach+k.burst:
		o.grow(k, t, v, delta, reach)
		return
	}
	if held {
		c.samples, c.level, c.at = c.samples+1, v, max(c.at, t)
		if c.samples >= adoptSamples && between(c.first, c.at) >= adoptTime {
			flipped := c.flipped
			o.rebase(k, t, v)
			k.flipped = flipped
		}
		return
	}
	e, flipped := o.classify(k, v, dt)
	o.note(k, e)
	if e == event.Restart {
		o.rebase(k, t, v)
		return
	}
	*c = candidate{samples: 1, level: v, first: t, at: t, flipped: flipped}
}

// holds reports whether a sample goes on from the candidate level.
func (o *Odometer) holds(k *tracker, v, t int64) bool {
	delta := v - k.candidate.level
	if k.modulus > 0 && delta < 0 {
		delta += k.modulus
	}
	return delta >= 0 && delta <= o.reach(between(k.candidate.at, t))+k.resolution
}

// classify names what keeps a level from being believed, and says whether growth from there is of kilometres read as miles.
func (o *Odometer) classify(k *tracker, v, dt int64) (event.Kind, bool) {
	allowed := 2*k.resolution + o.reach(dt)
	near := func(a, b int64) bool { return max(a, b)-min(a, b) <= allowed && min(a, b) > 10*allowed }
	switch {
	case k.modulus > 0:
		return event.Jump, false
	case near(toMiles(v), k.level):
		return event.UnitFlip, true
	case near(v, toMiles(k.level)):
		return event.UnitFlip, false
	case v > k.level:
		return event.Jump, k.flipped
	case k.resets:
		return event.Restart, false
	}
	return event.Rollback, k.flipped
}

// toMiles divides by 1.609344, the kilometres of an international mile.
func toMiles(mm int64) int64 { return mm/1_609_344*1_000_000 + mm%1_609_344*1_000_000/1_609_344 }

// grow takes a plausible step.
func (o *Odometer) grow(k *tracker, t, v, delta, reach int64) {
	k.candidate = candidate{}
	k.burst = min(k.resolution, k.burst+reach-delta)
	k.moved = delta > 0
	if k.seen == never && k.moved {
		o.note(k, event.Restart)
	}
	if o.elapsed-k.seen > patience+2*k.period {
		k.breaks++ // what grew meanwhile is compared with nothing
	}
	k.level = v
	if k.moved {
		growth := delta
		if k.flipped {
			growth = toMiles(delta)
		}
		k.claim += growth
		k.sum += growth
		k.stepped = o.elapsed
		k.still = o.testify(0)
		k.frozen = false
		o.revision++
	} else {
		o.checkFrozen(k)
	}
	k.upperAt = o.testify(1)
	o.accept(k, t)
}

// speed takes a sample of a speed and integrates the smaller of it and the one before.
func (o *Odometer) speed(k *tracker, s *vss.Sample) {
	t, v := s.Time, s.Value
	switch {
	case !s.Available || v < 0:
		o.note(k, event.NotAvailable)
		return
	case v > o.cfg.MaxSpeed:
		o.note(k, event.ImplausibleSpeed)
		return
	}
	dt := between(k.at, t)
	if !k.known || k.stale || dt > speedGap {
		o.rebase(k, t, v)
		return
	}
	if t < k.at {
		return
	}
	if low := min(v, k.level); low >= walking {
		k.rest += low * dt
	}
	mm := k.rest / second
	k.rest -= mm * second
	k.claim += mm
	k.sum += mm
	k.upper += max(v, k.level)*dt/second + 1
	if k.moved = mm > 0; k.moved {
		k.stepped = o.elapsed
	}
	k.level = v
	o.accept(k, t)
}
