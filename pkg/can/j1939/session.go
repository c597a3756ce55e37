package j1939

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"rawstone/pkg/can"
)

// A session is one message under way from id.Source to id.Destination. Its memory is kept for the next one.
type session struct {
	active   bool
	id       ID
	size     int // announced, in bytes
	packets  int
	touched  time.Time
	deadline time.Time

	buf   []byte     // seven bytes of each packet, in order of arrival
	place [256]uint8 // by sequence number: one more than its place in buf, 0 for a packet that has not come
	block int        // ours only: the last packet we cleared to send
	limit int        // ours only: packets the sender allows in one block
	tries int        // ours only: how often packets were asked for again
}

func (s *session) came() int { return len(s.buf) / 7 }

// find returns the session between two addresses, or nil.
func (t *Transport) find(source, destination uint8) *session {
	for i := range t.sessions {
		if s := &t.sessions[i]; s.active && s.id.Source == source && s.id.Destination == destination {
			return s
		}
	}
	return nil
}

// vacant returns a session to use: a free one, a new one, or the one that was quiet for longest.
func (t *Transport) vacant(ctx context.Context) (*session, error) {
	oldest := -1
	for i := range t.sessions {
		s := &t.sessions[i]
		if !s.active {
			return s, nil
		}
		if oldest < 0 || s.touched.Before(t.sessions[oldest].touched) {
			oldest = i
		}
	}
	if len(t.sessions) < t.cfg.Sessions {
		t.sessions = append(t.sessions, session{})
		return &t.sessions[len(t.sessions)-1], nil
	}
	s := &t.sessions[oldest]
	s.active = false
	t.evicted.Add(1)
	if t.ours(s.id.Destination) {
		return s, t.sendAbort(ctx, s.id.Source, s.id.PGN, abortResource)
	}
	return s, nil
}

// Tick gives up the sessions whose time is over at now, or asks once more for packets of those that are for us. Handle does it
// too whenever a transport frame comes; on a silent bus the owner calls Tick a few times a second.
func (t *Transport) Tick(ctx context.Context, now time.Time) error {
	var first error
	for i := range t.sessions {
		s := &t.sessions[i]
		// A deadline too far ahead means that the clock went back.
		if left := s.deadline.Sub(now); !s.active || left >= 0 && left <= 2*T2 {
			continue
		}
		err := t.expire(ctx, s, now)
		first = cmp.Or(first, err)
	}
	return first
}

func (t *Transport) expire(ctx context.Context, s *session, now time.Time) error {
	if t.ours(s.id.Destination) && s.tries < MaxRepeats {
		return t.demand(ctx, s, now)
	}
	s.active = false
	t.timeouts.Add(1)
	if t.ours(s.id.Destination) {
		return t.sendAbort(ctx, s.id.Source, s.id.PGN, abortTimeout)
	}
	return nil
}

// control takes a TP.CM (J1939-21, 5.10.3).
func (t *Transport) control(ctx context.Context, id ID, f *can.Frame, now time.Time) error {
	p := f.Payload()
	if len(p) != 8 || id.Source > MaxAddress {
		t.malformed.Add(1)
		return nil
	}
	pgn := readPGN(p[5:])
	switch p[0] {
	case requestToSend, broadcast:
		return t.start(ctx, id, p, pgn, now)
	case clearToSend:
		// The receiver speaks: the session is the other way round.
		if s := t.find(id.Destination, id.Source); s != nil && s.id.PGN == pgn {
			s.touched, s.deadline = now, now.Add(T3)
			if p[1] == 0 {
				s.deadline = now.Add(T4)
			}
		}
	case endOfMessage:
		if s := t.find(id.Destination, id.Source); s != nil && s.id.PGN == pgn {
			s.active = false
			t.incomplete.Add(1)
		}
	case abort:
		for _, s := range [2]*session{t.find(id.Source, id.Destination), t.find(id.Destination, id.Source)} {
			if s != nil && s.active && s.id.PGN == pgn {
				s.active = false
				t.aborted.Add(1)
			}
		}
	default:
		t.malformed.Add(1)
	}
	return nil
}

// start takes the announcement of a message: RTS to one address, BAM to all.
func (t *Transport) start(ctx context.Context, id ID, p []byte, pgn PGN, now time.Time) error {
	size, packets := int(binary.LittleEndian.Uint16(p[1:])), int(p[3])
	toAll := id.Destination == Global
	if toAll != (p[0] == broadcast) || id.Destination == NoAddress || id.Destination == id.Source || !pgn.Valid() ||
		size == 0 || size > MaxData || packets != (size+6)/7 {
		t.malformed.Add(1)
		return nil
	}
	if s := t.find(id.Source, id.Destination); s != nil {
		// Of two announcements the later one counts (5.10.3.1).
		s.active = false
		t.interrupted.Add(1)
	}
	if !t.wants(pgn) {
		if t.ours(id.Destination) {
			return t.sendAbort(ctx, id.Source, pgn, abortResource)
		}
		return nil
	}
	s, err := t.vacant(ctx)
	if err != nil {
		return err
	}
	*s = session{active: true, size: size, packets: packets, touched: now, buf: s.buf[:0], limit: int(p[4])}
	// The message is the group's and not the transport's: only the addresses and the priority are taken from the frame.
	s.id = ID{Priority: id.Priority, PGN: pgn, Source: id.Source, Destination: id.Destination}
	switch {
	case toAll:
		s.deadline = now.Add(T1)
	case t.ours(id.Destination):
		return t.demand(ctx, s, now)
	default:
		s.deadline = now.Add(T3)
	}
	return nil
}

// packet takes a TP.DT (J1939-21, 5.10.4).
func (t *Transport) packet(ctx context.Context, id ID, f *can.Frame, now time.Time) error {
	s := t.find(id.Source, id.Destination)
	if s == nil {
		t.unexpected.Add(1)
		return nil
	}
	p := f.Payload()
	if len(p) < 2 || p[0] == 0 || int(p[0]) > s.packets || len(p)-1 < min(7, s.size-7*(int(p[0])-1)) {
		t.malformed.Add(1)
		return nil
	}
	n := int(p[0])
	s.touched = now
	s.deadline = now.Add(T1)
	if !t.ours(id.Destination) && id.Destination != Global {
		s.deadline = now.Add(T3) // the next clear to send may be due
	}
	if s.place[n] != 0 {
		t.duplicates.Add(1)
	} else {
		s.buf = append(s.buf, f.Data[1:8]...) // what a short last packet lacks is beyond the message
		s.place[n] = uint8(s.came())
	}
	switch {
	case s.came() == s.packets:
		return t.finish(ctx, s, f.Time)
	case t.ours(id.Destination) && n == s.block:
		return t.demand(ctx, s, now)
	}
	return nil
}

// finish delivers a message whose packets are all there.
func (t *Transport) finish(ctx context.Context, s *session, at int64) error {
	s.active = false
	data := s.buf
	for n := 1; n <= s.packets; n++ {
		if int(s.place[n]) != n {
			data = t.sorted(s)
			break
		}
	}
	t.delivered.Add(1)
	t.msg = Message{ID: s.id, Time: at, Data: data[:s.size]}
	var err error
	if t.ours(s.id.Destination) {
		err = t.send(ctx, s.id.Source, [8]byte{endOfMessage, byte(s.size), byte(s.size >> 8), byte(s.packets), 0xFF}, s.id.PGN)
	}
	t.cfg.Deliver(&t.msg)
	return err
}

func (t *Transport) sorted(s *session) []byte {
	t.out = t.out[:0]
	for n := 1; n <= s.packets; n++ {
		at := 7 * (int(s.place[n]) - 1)
		t.out = append(t.out, s.buf[at:at+7]...)
	}
	return t.out
}

// demand clears the sender of a message for us to send from the first packet that is missing: the rest of the block before
// which it is missing, or the next block.
func (t *Transport) demand(ctx context.Context, s *session, now time.Time) error {
	next := 1
	for next <= s.packets && s.place[next] != 0 {
		next++
	}
	last := s.packets
	if next <= s.block {
		if s.tries == MaxRepeats {
			s.active = false
			t.aborted.Add(1)
			return t.sendAbort(ctx, s.id.Source, s.id.PGN, abortRepeats)
		}
		s.tries++
		last = s.block
	}
	if s.limit > 0 {
		last = min(last, next+s.limit-1)
	}
	s.block = last
	s.touched, s.deadline = now, now.Add(T2)
	err := t.send(ctx, s.id.Source, [8]byte{clearToSend, byte(last - next + 1), byte(next), 0xFF, 0xFF}, s.id.PGN)
	if err != nil {
		s.active = false
	}
	return err
}

func (t *Transport) sendAbort(ctx context.Context, to uint8, pgn PGN, reason byte) error {
	return t.send(ctx, to, [8]byte{abort, reason, 0xFF, 0xFF, 0xFF}, pgn)
}

// send puts a TP.CM about a group on the bus.
func (t *Transport) send(ctx context.Context, to uint8, p [8]byte, pgn PGN) error {
	putPGN(p[5:], pgn)
	id := ID{Priority: MaxPriority, PGN: PGNTransport, Source: t.cfg.Address, Destination: to}
	t.frame = can.Frame{ID: id.compose(), Len: 8}
	copy(t.frame.Data[:], p[:])
	if err := t.cfg.Send(ctx, &t.frame); err != nil {
		return fmt.Errorf("cannot answer J1939 transport of address %d: %w", to, err)
	}
	return nil
}
