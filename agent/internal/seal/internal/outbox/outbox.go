// Package outbox hands sealed submissions to the driver's journal and to the spool, and takes them back.
//
// Invariants: what leaves the car is in the journal before it is in the spool, and its entry gets an end: the collector's answer, or why it
// never left. Every step may be the last one before the power goes; repeating it does no harm.
//
// The package never looks inside a submission. It does not decide what is sealed, sent or taken back. Its methods are called one at a time.
package outbox

import (
	"fmt"
	"slices"
	"time"

	"rawstone/pkg/wire"
)

// A Spool keeps sealed submissions until they are freed.
type Spool interface {
	// Put keeps b, synced, under its SHA-256; dropped names reports that went to make room.
	Put(kind wire.Kind, b []byte, created, due time.Time) (id wire.Hash, dropped []wire.Hash, err error)
	Has(id wire.Hash) bool
	// Bytes returns a submission, false where it cannot be had.
	Bytes(id wire.Hash) ([]byte, bool)
	IDs(kind wire.Kind) []wire.Hash
	// Postpone moves the due instant of a kind's submissions, except one, to due where it is earlier.
	Postpone(kind wire.Kind, except wire.Hash, due time.Time) error
	Free(id wire.Hash) error
}

// A Journal records for the driver what leaves the car, and what the car finds out.
type Journal interface {
	Note(at time.Time, contents string) error
	Begin(id wire.Hash, at time.Time, kind wire.Kind, size int, contents, cost string) error
	End(id wire.Hash, at time.Time, outcome string) error
	Waiting() []wire.Hash
}

// Outcomes of what the collector did not answer. Those that were lost may have been handed over already.
const (
	dropped  = "dropped: the buffer was full and this was its oldest report"
	stranded = "never left the car: there was no room to keep it"
	lost     = "no longer held, after the power went: it may or may not have left the car"
)

// Why a submission is taken back.
const (
	TurnedOff = "withdrawn, because you turned off what it tells of; it has left the car if it was being sent at that moment"
	OtherKey  = "withdrawn, because the car was enrolled with another key since it was made; it may have left the car before"
)

// An Outbox is journal and spool together. All fields but those that are unexported are required.
type Outbox struct {
	Spool   Spool
	Journal Journal
	Now     func() time.Time

	stranded []wire.Hash // submissions with an entry in the journal that the spool had no room for
}

// A Submission is what was sealed, and what the driver is told of it.
type Submission struct {
	Kind           wire.Kind
	Body           []byte
	Contents, Cost string
	// Due is the first instant at which it may leave.
	Due time.Time
}

// Put keeps a submission. After an error it may be put again.
func (o *Outbox) Put(s Submission) error {
	now, id := o.Now(), wire.ID(s.Body)
	if err := o.Journal.Begin(id, now, s.Kind, len(s.Body), s.Contents, s.Cost); err != nil {
		return err
	}
	_, gone, err := o.Spool.Put(s.Kind, s.Body, now, s.Due)
	if err != nil {
		o.stranded = append(o.stranded, id)
		return err
	}
	o.stranded = slices.DeleteFunc(o.stranded, func(other wire.Hash) bool { return other == id })
	return o.end(gone, dropped)
}

// Abandon ends the entries of what could not be put and was not put again: a claim is made anew under another identifier.
func (o *Outbox) Abandon() error {
	if err := o.end(o.stranded, stranded); err != nil {
		return err
	}
	o.stranded = nil
	return nil
}

// Withdraw takes the submissions of a kind back that are not to leave any more, for the reason why, and returns their number.
func (o *Outbox) Withdraw(kind wire.Kind, why string, off func(body []byte) bool) (n int, err error) {
	for _, id := range o.Spool.IDs(kind) {
		if body, ok := o.Spool.Bytes(id); ok && off(body) {
			n++
			if err := o.Spool.Free(id); err != nil {
				return n, fmt.Errorf("cannot withdraw %s: %w", kind, err)
			}
			if err := o.end([]wire.Hash{id}, why); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Sweep ends the entries of what the spool does not hold: the power went between the two.
func (o *Outbox) Sweep() error {
	missing := slices.DeleteFunc(slices.Clone(o.Journal.Waiting()), o.Spool.Has)
	return o.end(missing, lost)
}

// Finish ends the entry of a submission that was answered, and frees it.
func (o *Outbox) Finish(id wire.Hash, outcome string) error {
	if err := o.end([]wire.Hash{id}, outcome); err != nil {
		return err
	}
	return o.Spool.Free(id)
}

func (o *Outbox) end(ids []wire.Hash, outcome string) error {
	for _, id := range ids {
		if err := o.Journal.End(id, o.Now(), outcome); err != nil {
			return err
		}
	}
	return nil
}
