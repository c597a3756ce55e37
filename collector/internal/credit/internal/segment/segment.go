// Package segment finds the range of an ECU key's snapshots in which a claim lies, and where a claim across several is to be divided.
//
// The ranges of a key are disjoint and ascend. Each is one vehicle's and earns for one account; a car that was sold has two that meet at the
// cut. The package is arithmetic on sequence numbers and judges nothing.
package segment

import "rawstone/pkg/wire"

// A Segment is a binding of a key: it holds for the sequence numbers above First's, and when it is closed, up to Cut.
type Segment struct {
	Vehicle string
	// First is the head that it was made with, Head the sequence number up to which it is claimed.
	First  wire.Head
	Head   uint64
	Closed bool
	Cut    uint64
}

// Find returns the index of the segment under which a vehicle's claim from one sequence number to another falls, of all that its key has: the
// last one of the vehicle that begins before its end. A claim that ends before all of them is stale under the first. It is false where the
// vehicle has none.
//
// Where the claim is to be divided cut is the head at which, else it is zero: the first cut of an earlier segment of the vehicle that lies
// behind the begin and up to which not all is claimed. A cut has a head where the key was bound again right there.
func Find(all []Segment, vehicle string, from, to uint64) (at int, cut wire.Head, ok bool) {
	for i, s := range all {
		if s.Vehicle == vehicle && (!ok || s.First.Seq < to) {
			at, ok = i, true
		}
	}
	for i, s := range all[:at] {
		if s.Vehicle != vehicle || !s.Closed || from >= s.Cut || s.Head >= s.Cut {
			continue
		}
		for _, next := range all[i+1:] {
			if next.First.Seq == s.Cut {
				return at, next.First, ok
			}
		}
	}
	return at, wire.Head{}, ok
}
