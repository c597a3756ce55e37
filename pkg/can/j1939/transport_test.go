package j1939

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

const (
	engine = 0x00
	brakes = 0x0B
	tool   = 0xF9
)

// A listener writes down what it delivers and sends, on a clock of its own.
type listener struct {
	*Transport
	now  time.Time
	got  []string // "PGN source>destination: data"
	sent []string // "destination: data"
}

func listen(t testing.TB, cfg Config, own bool) *listener {
	t.Helper()
	l := &listener{now: time.Unix(0, 0)}
	cfg.Now = func() time.Time { return l.now }
	cfg.Deliver = func(m *Message) {
		l.got = append(l.got, fmt.Sprintf("%d %02X>%02X: %x", m.PGN, m.Source, m.Destination, m.Data))
	}
	if own {
		cfg.Address = tool
		cfg.Send = func(_ context.Context, f *can.Frame) error {
			id, _ := Split(f.ID)
			if id.PGN != PGNTransport || id.Source != tool || id.Priority != 7 || f.Len != 8 {
				t.Errorf("sent %+v", f)
			}
			l.sent = append(l.sent, fmt.Sprintf("%02X: %x", id.Destination, f.Payload()))
			return nil
		}
	}
	var err error
	if l.Transport, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *listener) feed(t testing.TB, frames ...can.Frame) {
	t.Helper()
	for i := range frames {
		if err := l.Handle(t.Context(), &frames[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func (l *listener) check(t testing.TB, got, sent []string, s Stats) {
	t.Helper()
	if d := cmp.Diff(got, l.got); d != "" {
		t.Errorf("delivered: %s", d)
	}
	if d := cmp.Diff(sent, l.sent); d != "" {
		t.Errorf("sent: %s", d)
	}
	if d := cmp.Diff(s, l.Stats()); d != "" {
		t.Errorf("counters: %s", d)
	}
}

// cm and dt are transport frames.
func cm(from, to uint8, pgn PGN, p ...byte) can.Frame {
	f := can.Frame{ID: ID{7, PGNTransport, from, to}.compose(), Len: 8}
	copy(f.Data[:], append(append([]byte{}, p...), 0xFF, 0xFF, 0xFF, 0xFF)[:5])
	putPGN(f.Data[5:], pgn)
	return f
}

func dt(from, to, n uint8, data []byte) can.Frame {
	f := can.Frame{ID: ID{7, PGNTransportData, from, to}.compose(), Len: 8}
	f.Data[0] = n
	for i := 1 + copy(f.Data[1:8], data); i < 8; i++ {
		f.Data[i] = 0xFF
	}
	return f
}

// segment is a message as its announcement (BAM to all, RTS to one) and its packets.
func segment(from, to uint8, pgn PGN, data []byte) []can.Frame {
	kind := byte(requestToSend)
	if to == Global {
		kind = broadcast
	}
	n := len(data)
	frames := []can.Frame{cm(from, to, pgn, kind, byte(n), byte(n>>8), byte((n+6)/7), 0xFF)}
	for i := 0; len(data) > 0; i++ {
		frames = append(frames, dt(from, to, byte(i+1), data[:min(7, len(data))]))
		data = data[min(7, len(data)):]
	}
	return frames
}

func message(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestNew(t *testing.T) {
	t.Parallel()
	send := func(context.Context, *can.Frame) error { return nil }
	deliver := func(*Message) {}
	for says, cfg := range map[string]Config{
		"Deliver": {}, "254 is no address": {Deliver: deliver, Send: send, Address: 254},
		"-1 sessions": {Deliver: deliver, Sessions: -1}, "257 sessions": {Deliver: deliver, Sessions: 257},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

// A broadcast as J1939-21 shows one: component identification in three packets, least significant byte first.
func TestBroadcast(t *testing.T) {
	t.Parallel()
	l := listen(t, Config{}, false)
	m := message(17)
	for i, f := range segment(engine, Global, 65259, m) {
		want := []string{"20110003ffebfe00", "0100070e151c232a", "0231383f464d545b", "03626970ffffffff"}[i]
		if got := fmt.Sprintf("%x", f.Payload()); got != want {
			t.Errorf("frame %d is %s, want %s", i, got, want)
		}
		l.feed(t, f)
	}
	l.check(t, []string{fmt.Sprintf("65259 00>FF: %x", m)}, nil, Stats{Delivered: 1})
}

// Two units with the same group are two origins, in single frames and in interleaved sessions alike.
func TestOrigins(t *testing.T) {
	t.Parallel()
	l := listen(t, Config{}, true)
	distance := func(source uint8, d byte) can.Frame {
		return can.Frame{ID: ID{6, 65217, source, Global}.compose(), Len: 8, Data: [64]byte{d, 1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF}}
	}
	l.feed(t, distance(0xEE, 7), distance(brakes, 9))
	a, b, c := segment(engine, Global, 65217, message(16)), segment(brakes, Global, 65217, message(9)), segment(engine, brakes, 65217, message(15))
	for i := range a {
		l.feed(t, a[i])
		if i < len(b) {
			l.feed(t, b[i])
		}
		if i < len(c) {
			l.feed(t, c[i])
		}
	}
	l.check(t, []string{
		"65217 EE>FF: 07010000ffffffff", "65217 0B>FF: 09010000ffffffff",
		fmt.Sprintf("65217 0B>FF: %x", message(9)), fmt.Sprintf("65217 00>FF: %x", message(16)), fmt.Sprintf("65217 00>0B: %x", message(15)),
	}, nil, Stats{Delivered: 3})
}

func TestDisorder(t *testing.T) {
	t.Parallel()
	m := message(30)
	f := segment(engine, Global, 65259, m)
	whole := fmt.Sprintf("65259 00>FF: %x", m)
	short := f[5]
	short.Len = 3 // the two bytes that are left
	wide := cm(engine, brakes, 65259, broadcast, 30, 0, 5)
	narrow := cm(engine, Global, 65259, requestToSend, 30, 0, 5)
	for _, c := range []struct {
		name   string
		frames []can.Frame
		got    []string
		stats  Stats
	}{
		{"in order", f, []string{whole}, Stats{Delivered: 1}},
		{"backwards", []can.Frame{f[0], f[5], f[4], f[3], f[2], f[1]}, []string{whole}, Stats{Delivered: 1}},
		{"twice", []can.Frame{f[0], f[1], f[1], f[2], f[2], f[3], f[4], f[5], f[5]}, []string{whole}, Stats{Delivered: 1, Duplicates: 2, Unexpected: 1}},
		{"duplicate cannot change", []can.Frame{f[0], f[1], dt(engine, Global, 1, []byte("changed")), f[2], f[3], f[4], f[5]}, []string{whole}, Stats{Delivered: 1, Duplicates: 1}},
		{"missing", []can.Frame{f[0], f[1], f[2], f[4], f[5]}, nil, Stats{}},
		{"without announcement", f[1:], nil, Stats{Unexpected: 5}},
		{"started over", []can.Frame{f[0], f[1], f[2], f[0], f[1], f[2], f[3], f[4], f[5]}, []string{whole}, Stats{Delivered: 1, Interrupted: 1}},
		{"packet 0", []can.Frame{f[0], dt(engine, Global, 0, nil)}, nil, Stats{Malformed: 1}},
		{"packet beyond", []can.Frame{f[0], dt(engine, Global, 6, nil)}, nil, Stats{Malformed: 1}},
		{"short last", []can.Frame{f[0], f[1], f[2], f[3], f[4], short}, []string{whole}, Stats{Delivered: 1}},
		{"short first", []can.Frame{f[0], {ID: f[1].ID, Len: 7, Data: f[1].Data}}, nil, Stats{Malformed: 1}},
		{"too few packets", []can.Frame{cm(engine, Global, 65259, broadcast, 30, 0, 4)}, nil, Stats{Malformed: 1}},
		{"too many packets", []can.Frame{cm(engine, Global, 65259, broadcast, 30, 0, 6)}, nil, Stats{Malformed: 1}},
		{"nothing", []can.Frame{cm(engine, Global, 65259, broadcast, 0, 0, 0)}, nil, Stats{Malformed: 1}},
		{"65535 bytes", []can.Frame{cm(engine, Global, 65259, broadcast, 0xFF, 0xFF, 255)}, nil, Stats{Malformed: 1}},
		{"1786 bytes", []can.Frame{cm(engine, Global, 65259, broadcast, 0xFA, 0x06, 0)}, nil, Stats{Malformed: 1}},
		{"broadcast to one", []can.Frame{wide}, nil, Stats{Malformed: 1}},
		{"request to all", []can.Frame{narrow}, nil, Stats{Malformed: 1}},
		{"from nobody", segment(NoAddress, Global, 65259, message(9))[:1], nil, Stats{Malformed: 1}},
		{"to nobody", segment(engine, NoAddress, 65259, message(9))[:1], nil, Stats{Malformed: 1}},
		{"to itself", segment(engine, engine, 65259, message(9))[:1], nil, Stats{Malformed: 1}},
		{"no group", []can.Frame{cm(engine, Global, 0x40000, broadcast, 30, 0, 5)}, nil, Stats{Malformed: 1}},
		{"short control", []can.Frame{{ID: f[0].ID, Len: 7, Data: f[0].Data}}, nil, Stats{Malformed: 1}},
		{"reserved control", []can.Frame{cm(engine, Global, 65259, 99)}, nil, Stats{Malformed: 1}},
		{"CAN FD", []can.Frame{{ID: f[0].ID, Len: 8, Flags: can.FD, Data: f[0].Data}, f[1]}, nil, Stats{Unexpected: 1}},
		{"standard", []can.Frame{{ID: 0x7E8, Len: 8}}, nil, Stats{}},
		{"remote", []can.Frame{{ID: ID{6, 65217, 0, Global}.compose(), Flags: can.Remote}}, nil, Stats{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := listen(t, Config{}, false)
			l.feed(t, c.frames...)
			l.check(t, c.got, nil, c.stats)
		})
	}
}

// A bystander follows what two others do: clear to send, hold, repetition, acknowledgement and abort.
func TestForeignSessions(t *testing.T) {
	t.Parallel()
	m := message(20)
	f := segment(engine, tool, 65260, m)
	whole := fmt.Sprintf("65260 00>F9: %x", m)
	ready, hold := cm(tool, engine, 65260, clearToSend, 3, 1), cm(tool, engine, 65260, clearToSend, 0, 0xFF)
	end := cm(tool, engine, 65260, endOfMessage, 20, 0, 3)
	l := listen(t, Config{}, false)
	l.feed(t, f[0], ready, f[1], f[2], f[3], end)
	l.check(t, []string{whole}, nil, Stats{Delivered: 1})

	l = listen(t, Config{}, false)
	l.feed(t, f[0], ready, f[1], f[3], cm(tool, engine, 65260, clearToSend, 2, 2), f[2], end)
	l.check(t, []string{whole}, nil, Stats{Delivered: 1})

	l = listen(t, Config{}, false) // we missed one, the receiver did not
	l.feed(t, f[0], ready, f[1], f[3], end, f[2])
	l.check(t, nil, nil, Stats{Incomplete: 1, Unexpected: 1})

	for _, stop := range []can.Frame{cm(tool, engine, 65260, abort, 2), cm(engine, tool, 65260, abort, 3)} {
		l = listen(t, Config{}, false)
		l.feed(t, f[0], ready, f[1], stop, f[2], f[3])
		l.check(t, nil, nil, Stats{Aborted: 1, Unexpected: 2})
	}

	l = listen(t, Config{}, false) // about another group or between others
	l.feed(t, f[0], cm(tool, engine, 65261, abort, 2), cm(tool, engine, 65261, endOfMessage, 20, 0, 3), cm(brakes, engine, 65260, abort, 2), f[1], f[2], f[3])
	l.check(t, []string{whole}, nil, Stats{Delivered: 1})

	// Each hold extends the session by T4, and no longer.
	l = listen(t, Config{}, false)
	l.feed(t, f[0])
	for range 5 {
		l.feed(t, hold)
		l.now = l.now.Add(T4)
	}
	l.feed(t, ready, f[1], f[2], f[3])
	l.check(t, []string{whole}, nil, Stats{Delivered: 1})
	l = listen(t, Config{}, false)
	l.feed(t, f[0], hold)
	l.now = l.now.Add(T4 + 1)
	l.feed(t, f[1])
	l.check(t, nil, nil, Stats{Timeouts: 1, Unexpected: 1})
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		to     uint8
		packet bool // of the first packet or of the announcement
		limit  time.Duration
	}{
		{"broadcast announced", Global, false, T1}, {"broadcast packet", Global, true, T1},
		{"request", brakes, false, T3}, {"packet to another", brakes, true, T3},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				l := listen(t, Config{}, false)
				f := segment(engine, c.to, 65259, message(14))
				l.feed(t, f[0])
				if c.packet {
					l.feed(t, f[1])
				}
				l.now = l.now.Add(c.limit)
				if late {
					l.now = l.now.Add(1)
				}
				if err := l.Tick(t.Context(), l.now); err != nil {
					t.Fatal(err)
				}
				l.feed(t, f[1], f[2])
				want := Stats{Delivered: 1}
				if late {
					want = Stats{Timeouts: 1, Unexpected: 2}
				} else if c.packet {
					want.Duplicates = 1
				}
				if d := cmp.Diff(want, l.Stats()); d != "" {
					t.Errorf("late %v: %s", late, d)
				}
			}
		})
	}
	// A clock that goes back by more than the longest wait does not keep sessions for ever.
	l := listen(t, Config{}, false)
	l.now = time.Unix(1000, 0)
	l.feed(t, segment(engine, Global, 65259, message(14))[:2]...)
	l.now = time.Unix(10, 0)
	l.feed(t, segment(engine, Global, 65259, message(14))[2])
	l.check(t, nil, nil, Stats{Timeouts: 1, Unexpected: 1})
}

// Of too many messages under way, the one that was quiet for longest gives way.
func TestEviction(t *testing.T) {
	t.Parallel()
	l := listen(t, Config{Sessions: 2}, false)
	a, b, c := segment(1, Global, 65259, message(14)), segment(2, Global, 65259, message(14)), segment(3, Global, 65259, message(14))
	for _, f := range []can.Frame{a[0], b[0], a[1], c[0], b[1], c[1], a[2], b[2], c[2]} {
		l.feed(t, f)
		l.now = l.now.Add(time.Millisecond)
	}
	m := message(14)
	l.check(t, []string{fmt.Sprintf("65259 01>FF: %x", m), fmt.Sprintf("65259 03>FF: %x", m)}, nil, Stats{Delivered: 2, Evicted: 1, Unexpected: 2})
}

// The longest message; and the time and priority of a message are its last frame's and its announcement's.
func TestLongest(t *testing.T) {
	t.Parallel()
	m := message(MaxData)
	var got Message
	tp, err := New(Config{Deliver: func(msg *Message) { got = *msg; got.Data = bytes.Clone(msg.Data) }})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range segment(engine, Global, 65259, m) {
		f.Time = int64(i)
		if err := tp.Handle(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(Message{ID: ID{7, 65259, engine, Global}, Time: 255, Data: m}, got); d != "" {
		t.Error(d)
	}
}
