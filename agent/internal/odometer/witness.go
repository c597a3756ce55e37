package odometer

import "rawstone/agent/internal/odometer/event"

// A window is a stretch over which a source is compared with the lead.
type window struct {
	lead         int8 // +1, 0 for none
	breaks       uint32
	leadBreaks   uint32
	sum, leadSum int64 // mm at its beginning
	total        int64 // mm counted then
	skew         int64 // µs by which the lead was late then
	disputed     bool
	mark         int64 // own sum when the disputes began
}

// testify returns what the first healthy speed has integrated: 0 the lower, 1 the upper sum.
func (o *Odometer) testify(which int) witness {
	for _, i := range o.order[:o.n] {
		if k := &o.trackers[i]; k.speed && o.healthy(k) {
			if which == 0 {
				return witness{int8(i) + 1, k.breaks, k.sum}
			}
			return witness{int8(i) + 1, k.breaks, k.upper}
		}
	}
	return witness{}
}

// driven returns how far the car can have got since a counter was last seen: reach, or less where a speed watched all the time.
func (o *Odometer) driven(k *tracker, reach int64) int64 {
	was, is := k.upperAt, o.testify(1)
	if was.tracker == 0 || is.tracker != was.tracker || is.breaks != was.breaks {
		return reach
	}
	return min(reach, (is.mm-was.mm)*5/4+o.reach(o.elapsed-o.trackers[is.tracker-1].seen)+k.resolution+2000)
}

// checkFrozen judges a counter that stands: it is frozen where a speed says that the car has driven far since its last step.
func (o *Odometer) checkFrozen(k *tracker) {
	is := o.testify(0)
	if is.tracker == 0 || k.frozen {
		return
	}
	if is.tracker != k.still.tracker {
		k.still = is
		return
	}
	if is.mm-k.still.mm > 2*k.resolution+500_000 {
		k.frozen = true
		o.note(k, event.Frozen)
	}
}

// compare judges a source against the lead. What two honest sources may differ by is their resolution, how late their samples are,
// and a share.
func (o *Odometer) compare(k, lead *tracker) {
	w := &k.window
	if k.frozen {
		w.lead = 0
		return
	}
	if w.lead != int8(o.lead)+1 || w.breaks != k.breaks || w.leadBreaks != lead.breaks {
		o.open(k, lead)
		return
	}
	own, other := k.sum-w.sum, lead.sum-w.leadSum
	big, small := max(own, other), min(own, other)
	if small == 0 && k.speed && own > 0 {
		return // the lead stands: checkFrozen's business
	}
	share := o.cfg.Share
	if k.speed {
		share *= 2
	}
	fixed := k.resolution + lead.resolution + o.reach(patience+w.skew+o.elapsed-lead.seen)
	switch {
	case big-small > fixed+big*share/1000:
		if !w.disputed {
			o.note(k, event.Disagreement)
			w.disputed = true
			if o.disputes++; o.disputes == 1 { // what was counted too much in the window is made up for
				o.disputed, w.mark, lead.window.mark = w.total, w.sum, w.leadSum
			} else {
				o.redispute(lead)
			}
		}
		o.open(k, lead)
	case big >= 20*fixed:
		if w.disputed {
			w.disputed = false
			o.disputes--
			o.settled()
		}
		o.open(k, lead)
	}
}

// open begins a window; a dispute goes on.
func (o *Odometer) open(k, lead *tracker) {
	w := &k.window
	w.lead, w.breaks, w.leadBreaks, w.sum, w.leadSum = int8(o.lead)+1, k.breaks, lead.breaks, k.sum, lead.sum
	w.total, w.skew = o.total, o.elapsed-lead.seen
}

// redispute makes all parties of the disputes begin from here.
func (o *Odometer) redispute(lead *tracker) {
	o.disputed = o.total
	lead.window.mark = lead.sum
	for i := range o.n {
		if k := &o.trackers[i]; k.window.disputed {
			k.window.mark = k.sum
		}
	}
}

// smallest returns the least growth of the parties since the disputes began.
func (o *Odometer) smallest() int64 {
	lead := &o.trackers[o.lead]
	least := lead.sum - lead.window.mark
	for i := range o.n {
		if k := &o.trackers[i]; k.window.disputed {
			least = min(least, k.sum-k.window.mark)
		}
	}
	return least
}

// settle ends disputes with sources that are not healthy any more, and all of them where another source takes the lead.
func (o *Odometer) settle(next int) {
	ended := false
	for i := range o.n {
		if k := &o.trackers[i]; k.window.disputed && (next != o.lead || !o.healthy(k)) {
			k.window.disputed = false
			o.disputes--
			ended = true
		}
	}
	if ended {
		o.settled()
	}
}

// settled gives up what was in dispute, and lets what still is begin from here.
func (o *Odometer) settled() {
	for i := range o.n {
		o.trackers[i].claim = min(o.trackers[i].claim, o.total)
	}
	if o.disputes > 0 {
		o.redispute(&o.trackers[o.lead])
	}
}
