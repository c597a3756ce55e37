package odometer

import (
	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/odometer/motion"
	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
)

// A tracker follows one source. Times named µs are of the odometer's clock.
type tracker struct {
	signal     int
	origin     uint8
	speed      bool
	resets     bool
	resolution int64
	modulus    int64

	known   bool // level and at hold
	fresh   bool // the last sample was good and is not fused yet
	frozen  bool
	waited  bool  // the last sample would be good after a second more
	flipped bool  // the values are kilometres read as miles
	at      int64 // frame time of the last good sample, ns
	seen    int64 // µs of it
	stepped int64 // µs of the last growth
	since   int64 // µs from which on it is unbroken
	period  int64 // µs, a bound of the recent times between samples
	level   int64 // mm; of a speed mm/s
	burst   int64 // mm that a step may exceed the reach, up to the resolution
	claim   int64 // mm: the distance driven is at least this
	sum     int64 // mm of growth since the beginning, of a speed at the mean of its samples
	upper   int64 // of a speed: the same at the larger of its samples
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

const (
	adoptSamples = 5           // a candidate level is adopted after so many samples
	adoptTime    = 10 * second // over so much time
	speedGap     = 4 * second  // a longer silence of a speed is not bridged
	walking      = 278         // mm/s: below, a satellite receiver's noise
	calm         = 60 * second // an episode ends after such a time without an event
	patience     = 3 * second  // a source may be late by that and twice its period
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
	if o.n == state.MaxSources {
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
	return k.known && !k.frozen && k.candidate.samples == 0 && o.elapsed-k.seen <= patience+2*k.period
}

// doubt makes a doubt worth keeping. A sensor that flaps in a parked car must not wear the flash: without a metre driven between
// them, n doubts are kept no more than log2(n)+1 times.
func (o *Odometer) doubt() {
	if o.doubts++; o.doubts&(o.doubts-1) == 0 {
		o.revision++
	}
}

// doubtful reports whether a counter's level is not worth recovering distance from.
func (k *tracker) doubtful() bool {
	const lies = 1<<event.Jump | 1<<event.Rollback | 1<<event.UnitFlip
	return k.episodes&lies != 0
}

// begins reports whether an event begins an episode on a source, and notes it there.
func (o *Odometer) begins(k *tracker, e event.Kind) bool {
	begins := k.episodes&(1<<e) == 0
	k.episodes |= 1 << e
	k.trouble = o.elapsed
	if begins {
		o.doubt()
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
	k.at, k.seen, k.fresh = t, o.elapsed, true
	if k.episodes != 0 && o.elapsed-k.trouble > calm {
		k.episodes = 0
	}
}

// rebase begins anew at a level. Where a counter stands between two of its steps is not known: its first step tells nothing.
func (o *Odometer) rebase(k *tracker, t, level int64) {
	if !k.speed && k.modulus == 0 {
		o.doubt()
		if !k.known {
			o.baselines++
			o.revision++
		} else if !k.resets {
			o.losses++
		}
	}
	k.at, k.level, k.claim, k.since, k.stepped, k.seen = t, level, o.total, o.elapsed, o.elapsed, o.elapsed
	if !k.speed {
		k.claim -= k.resolution
	}
	k.known, k.frozen, k.burst = true, false, k.resolution
	k.candidate, k.waited = candidate{}, false
	k.breaks++
	k.still, k.upperAt = o.testify(0), o.testify(1)
	o.accept(k, t)
}

// distance takes a sample of a counter.
func (o *Odometer) distance(k *tracker, s *vss.Sample) {
	t, v := s.Time, s.Value
	switch {
	case !s.Available || v < 0 || v > state.MaxLevel || k.modulus > 0 && v >= k.modulus:
		o.note(k, event.NotAvailable)
		return
	case !k.known:
		o.rebase(k, t, v)
		return
	case t < k.at: // the clock was set back; the next sample tells what was driven meanwhile
		k.at = t
		return
	}
	dt := motion.Between(k.at, t)
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
	if over := delta - reach - k.burst; over > 0 && over <= o.reach(second) && c.samples == 0 && k.modulus == 0 && !k.waited {
		k.waited = true // the clock may have been set back a little; then the next sample is good
		return
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
		if c.samples >= adoptSamples && motion.Between(c.first, c.at) >= adoptTime {
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
	return delta >= 0 && delta <= o.reach(motion.Between(k.candidate.at, t))+k.resolution
}

// classify names what keeps a level from being believed, and says whether growth from there is of kilometres read as miles.
func (o *Odometer) classify(k *tracker, v, dt int64) (event.Kind, bool) {
	allowed := 2*k.resolution + o.reach(dt)
	near := func(a, b int64) bool { return max(a, b)-min(a, b) <= allowed && min(a, b) > 10*allowed }
	switch {
	case k.modulus > 0:
		return event.Jump, false
	case near(motion.Miles(v), k.level):
		return event.UnitFlip, true
	case near(v, motion.Miles(k.level)):
		return event.UnitFlip, false
	case v > k.level:
		return event.Jump, k.flipped
	case k.resets:
		return event.Restart, false
	}
	return event.Rollback, k.flipped
}

// grow takes a plausible step.
func (o *Odometer) grow(k *tracker, t, v, delta, reach int64) {
	k.candidate, k.waited = candidate{}, false
	k.burst = min(k.resolution, k.burst+reach-delta)
	if k.seen == never && delta > 0 {
		o.note(k, event.Restart)
	}
	k.level = v
	if delta > 0 {
		growth := delta
		if k.flipped {
			growth = motion.Miles(delta)
		}
		k.claim += growth
		k.sum += growth
		k.stepped = o.elapsed
		k.still = o.testify(0)
		k.frozen = false
	} else {
		o.checkFrozen(k)
	}
	k.upperAt = o.testify(1)
	o.accept(k, t)
}

// speed takes a sample of a speed and integrates it.
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
	dt := motion.Between(k.at, t)
	if !k.known || t < k.at || dt > speedGap {
		o.rebase(k, t, v)
		return
	}
	if min(v, k.level) >= walking {
		k.claim += motion.Least(v, k.level, dt)
		k.sum += (v + k.level) * dt / (2 * second)
		k.stepped = o.elapsed
	}
	k.upper += max(v, k.level)*dt/second + 1
	k.level = v
	o.accept(k, t)
}
