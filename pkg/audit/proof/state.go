package proof

import (
	"cmp"
	"crypto/ecdsa"
	"maps"
	"slices"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// state is what follows from a prefix of a log. A batch works on one that lies over the checker's: what it changes is copied first.
type state struct {
	next      uint64 // number of the next entry
	program   *terms.Program
	programID wire.Hash
	drop      uint64          // the next
	policies  []*terms.Policy // by rising serials
	since     []uint32        // the log's day, that of its next drop, when each was logged
	keys      map[wire.KeyID]*key
	under     *state // where keys that were not changed are; nil in the checker's own
}

// A key is an ECU key with the segments of its sequence numbers that were bound. They ascend and do not overlap: the replay sees to that.
type key struct {
	public   *ecdsa.PublicKey
	segments []segment
	revoked  bool
}

// A segment holds for the sequence numbers above its first head's, and when it is closed, up to cut.
type segment struct {
	from uint64
	head wire.Head // the end of the last span
	// signature is the verified one of the snapshot that is head.
	signature wire.Signature
	closed    bool
	cut       uint64
	spans     []span // ascending
}

// A span is what a claim covered.
type span struct{ from, to wire.Head }

func newState() *state { return &state{keys: make(map[wire.KeyID]*key)} }

// over returns a state that may be changed while s stays as it is. What is appended to a slice lies beyond the end that s knows of.
func (s *state) over() *state {
	n := *s
	n.keys, n.under = make(map[wire.KeyID]*key), s
	return &n
}

// take makes s what after, which lies over it, is.
func (s *state) take(after *state) {
	maps.Copy(s.keys, after.keys)
	s.next, s.program, s.programID, s.drop, s.policies, s.since = after.next, after.program, after.programID, after.drop, after.policies, after.since
}

// day is the program day of the next drop.
func (s *state) day() uint32 { return s.program.Timing.Day(s.program.Timing.DropTime(s.drop)) }

// key returns a key to read, or nil.
func (s *state) key(id wire.KeyID) *key {
	if k := s.keys[id]; k != nil || s.under == nil {
		return k
	}
	return s.under.key(id)
}

// change returns a key to change, which is made when it is not known.
func (s *state) change(id wire.KeyID) *key {
	k := s.keys[id]
	if k == nil {
		k = new(key)
		if old := s.key(id); old != nil {
			*k = *old
			k.segments = slices.Clone(old.segments)
		}
		s.keys[id] = k
	}
	return k
}

// segment returns the index of the segment in which a span that ends at a sequence number lies: the last that begins before.
func (k *key) segment(to uint64) int {
	at := 0
	for i := range k.segments {
		if k.segments[i].from < to {
			at = i
		}
	}
	return at
}

// find returns the span that ends at a sequence number.
func (s *segment) find(to uint64) (span, bool) {
	i, ok := slices.BinarySearchFunc(s.spans, to, func(x span, to uint64) int { return cmp.Compare(x.to.Seq, to) })
	if !ok {
		return span{}, false
	}
	return s.spans[i], true
}
