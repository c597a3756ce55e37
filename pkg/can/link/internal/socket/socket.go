// Package socket holds the two kinds of sockets under a bus: a raw SocketCAN socket on an interface, and a multicast group on
// the loopback interface that plays one. Both move the bytes of whole frames, one a call, and both say the same about what
// arrives: when, from whom, and how much was lost before it.
//
// Invariants: a receive queue is as large as the system grants; the count of lost frames is the kernel's own; an error by which
// the interface is down or away wraps ErrDown, so that the caller may open again, and no other error does.
//
// The package refuses to look into the bytes, and a group socket to leave the machine.
package socket

import (
	"cmp"
	"errors"
	"slices"
)

// ErrDown says that the interface is down, or away, or not there yet: opening again later may succeed.
var ErrDown = errors.New("the interface is down or away")

// receiveBuffer is the size asked of the kernel for the receive queue, in bytes: at the 768 bytes that a 16-byte datagram
// occupies there, room for about 20,000 frames, more than a second of a saturated 1 Mbit/s bus. Default queues hold a few hundred.
const receiveBuffer = 8 << 20

// A Filter is struct can_filter of linux/can.h: an identifier passes when id&Mask == ID&Mask. Of the flags only bit 31, the
// extended format, is looked at.
type Filter struct{ ID, Mask uint32 }

// An Arrival is what is known of a received datagram besides its bytes.
type Arrival struct {
	// Len is the number of bytes; 0 is what must not count as a frame.
	Len int
	// Own says that this socket sent it itself.
	Own bool
	// Time is the kernel's receive time in Unix nanoseconds, 0 when there is none.
	Time int64
	// Lost is the number of datagrams that the receive queue had no room for since the socket was made, modulo 2³²
	// (SO_RXQ_OVFL).
	Lost uint32
}

// maxFilters is CAN_RAW_FILTER_MAX of linux/can/raw.h.
const maxFilters = 512

// narrow returns filters that let at least the same identifiers pass and are no more than the kernel takes. Neighbours are
// merged into the narrowest filter that holds both; flags in bits 29 and 30 would mean something else to the kernel.
func narrow(filters []Filter) []Filter {
	const known = 1<<31 | 1<<29 - 1
	out := make([]Filter, len(filters))
	for i, f := range filters {
		f.Mask &= known
		out[i] = Filter{ID: f.ID & f.Mask, Mask: f.Mask}
	}
	slices.SortFunc(out, func(a, b Filter) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Mask, b.Mask)) })
	out = slices.Compact(out)
	for len(out) > maxFilters {
		half := out[:0]
		for pair := range slices.Chunk(out, 2) {
			f := pair[0]
			if len(pair) == 2 {
				f.Mask &= pair[1].Mask &^ (f.ID ^ pair[1].ID)
				f.ID &= f.Mask
			}
			half = append(half, f)
		}
		out = half
	}
	return out
}
