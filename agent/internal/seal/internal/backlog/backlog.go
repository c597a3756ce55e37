// Package backlog says which dispatches a car has yet to report, which of them were without use, and on which day each report leaves.
//
// Each boundary that passed has a report of its own, also where the car stood off over several: absence must say nothing. Of those that are
// noticed together what was used before belongs to the first; the others are idle. They leave one a program day, the newest last. Where
// reports wait, each boundary that is noticed meanwhile keeps its own use (package window).
//
// A dispatch in which the driver turned the first family on has none: it would tell of a part as if it were the whole.
//
// A cadence that is changed counts from the change on: boundaries up to then are the old one's, and none of the new one lies before.
//
// The package is arithmetic on archive.State; it keeps nothing and reads no clock. Days are the ECU's.
package backlog

import (
	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/wire"
)

// What State.Partial says of the open dispatch: it is whole; none of the families that are on was on when it began; or, from decided on, the driver
// turned them on when the ECU had last spoken on the day that is added to it, so that boundaries which it has not told of may have passed since.
const (
	whole uint64 = iota
	open
	decided
)

// A Book reads a state.
type Book struct {
	// Plan returns the car's plan with a dispatch every so many program days.
	Plan func(every int) dispatch.Plan
	// Every is the number of program days between two reports at this moment.
	Every int
	// Most bounds the reports of one backlog; older boundaries are passed over.
	Most int
}

// Missed returns the boundaries up to day that have no report, ascending.
func (b Book) Missed(st archive.State, day uint32) []uint32 {
	if st.Boundary == nil {
		return nil // installed in the middle of a dispatch
	}
	every := int(st.Every)
	if every == 0 {
		every = b.Every
	}
	return b.Plan(every).Missed(*st.Boundary, day, b.Most)
}

// Begin has a state of which nothing is missed up to day go by the cadence of this moment from then on, and says whether it changed. fresh
// says that it went by none before.
func (b Book) Begin(st *archive.State, day uint32) (changed, fresh bool) {
	plan := b.Plan(b.Every)
	last, ok := plan.Last(day)
	switch {
	case st.Boundary == nil && !ok, st.Boundary != nil && st.Every == plan.Every():
		return false, false
	case st.Boundary == nil:
		fresh = true
		if last < day { // of what was used since last nothing was seen
			st.Partial = open
		}
	default:
		last = max(last, *st.Boundary)
	}
	st.Boundary, st.Every = &last, plan.Every()
	return true, fresh
}

// Noticed reports whether a missed boundary was noticed before: what is open now is not of its dispatch.
func Noticed(st archive.State, boundary uint32) bool { return boundary <= st.Noticed }

// Unnoticed returns the index of the first of the missed boundaries that was not noticed before, their number where all were. It is the one
// that what is open now belongs to.
func Unnoticed(st archive.State, missed []uint32) int {
	at := 0
	for at < len(missed) && Noticed(st, missed[at]) {
		at++
	}
	return at
}

// Allow notes the families that reports can be drawn of from this moment on, others than before, day being the last that the ECU told of.
func Allow(st *archive.State, families wire.Family, day uint32) {
	// Of a car that knows no boundary yet Begin says it.
	switch {
	case st.Boundary == nil || families == 0:
		st.Partial = whole
	case st.Drawn&families == 0:
		st.Partial = decided + uint64(day)
	}
	st.Drawn = families
}

// Before returns how many of the missed boundaries up to day have no report because they, or a part of their dispatch, lie before the driver's decision,
// and what State.Partial is to be once they have passed.
func Before(st archive.State, missed []uint32, day uint32) (n int, partial uint64) {
	switch {
	case st.Partial == whole:
		return 0, whole
	case st.Partial >= decided && uint64(day) <= st.Partial-decided:
		return len(missed), st.Partial
	case len(missed) == 0:
		return 0, open
	case st.Partial >= decided:
		// Nobody drove between the last of them and the decision: the ECU would have told of it.
		return len(missed), whole
	case missed[0] > *st.Boundary+st.Every: // the open dispatch is among those that are passed over
		return 0, whole
	}
	return 1, whole
}

// Leaves returns the program day on which a report that is made on day leaves: a later one, on which no other does.
func (b Book) Leaves(st archive.State, day uint32) uint32 {
	leaves := max(day, st.Left) + 1
	// No backlog reaches further. A day beyond is one of a clock that was wrong.
	if uint64(st.Leaves) <= uint64(day)+uint64(b.Most)+1 {
		leaves = max(leaves, st.Leaves+1)
	}
	return leaves
}

// Made notes that the report of a boundary leaves on a day. last is the latest boundary of its backlog, noticed with it unless it was before.
func Made(st *archive.State, boundary, last, leaves uint32) {
	if !Noticed(*st, boundary) {
		st.Noticed = last
	}
	st.Boundary, st.Leaves = &boundary, leaves
}

// Passed notes that there is no report of a boundary, and that the next dispatch is a whole one.
func Passed(st *archive.State, boundary uint32) { st.Boundary, st.Partial = &boundary, whole }
