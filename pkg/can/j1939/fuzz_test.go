package j1939

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/can"
)

// A sender plays a unit that sends one message and obeys its receiver.
type sender struct {
	from, to uint8
	data     []byte
	queue    []can.Frame
	packets  []can.Frame
	drops    int // how many packets the bus still loses
	over     bool
}

func (s *sender) hear(p []byte) {
	switch p[0] {
	case clearToSend:
		s.queue = slices.Clone(s.packets[p[2]-1 : int(p[2])-1+int(p[1])])
	case endOfMessage:
		s.over = true
	}
}

// Law: every message comes back as it was sent, in broadcasts and in sessions with us and with others, however they interleave,
// in blocks of any size, and with as many lost packets as may be asked for again.
func TestTransportLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(0, 0)
		got := make(map[string][]byte)
		var senders []*sender
		tp, err := New(Config{
			Address: tool, Now: func() time.Time { return now },
			Send: func(_ context.Context, f *can.Frame) error {
				id, _ := Split(f.ID)
				for _, s := range senders {
					if s.from == id.Destination && s.to == tool {
						s.hear(f.Payload())
					}
				}
				return nil
			},
			Deliver: func(m *Message) { got[fmt.Sprint(m.Source, m.Destination)] = bytes.Clone(m.Data) },
		})
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string][]byte)
		for i := range rapid.IntRange(1, 5).Draw(t, "messages") {
			s := &sender{from: uint8(i), to: rapid.SampledFrom([]uint8{Global, tool, brakes}).Draw(t, "to")}
			n := rapid.SampledFrom([]int{1, 7, 8, 14, MaxData, 0}).Draw(t, "size")
			if n == 0 {
				n = rapid.IntRange(1, 200).Draw(t, "any size")
			}
			s.data = message(n)
			s.data[0] = byte(i)
			f := segment(s.from, s.to, 65259, s.data)
			s.packets = f[1:]
			if s.to == tool {
				f[0].Data[4] = rapid.Uint8().Draw(t, "block")
				s.drops = rapid.IntRange(0, MaxRepeats).Draw(t, "drops")
				s.queue = f[:1]
			} else {
				rest := f[1:]
				if s.to == Global { // nobody promises an order
					rest = rapid.Permutation(rest).Draw(t, "order")
				}
				s.queue = append(f[:1:1], rest...)
				s.over = true
			}
			senders = append(senders, s)
			want[fmt.Sprint(s.from, s.to)] = s.data
		}
		for range 100_000 {
			busy := slices.DeleteFunc(slices.Clone(senders), func(s *sender) bool { return len(s.queue) == 0 })
			if len(busy) == 0 {
				if !slices.ContainsFunc(senders, func(s *sender) bool { return !s.over }) {
					break
				}
				now = now.Add(T2 + 1)
				if err := tp.Tick(t.Context(), now); err != nil {
					t.Fatal(err)
				}
				continue
			}
			s := busy[0]
			if len(busy) > 1 {
				s = busy[rapid.IntRange(0, len(busy)-1).Draw(t, "turn")]
			}
			f := s.queue[0]
			s.queue = s.queue[1:]
			if id, _ := Split(f.ID); id.PGN == PGNTransportData && s.drops > 0 && rapid.IntRange(0, 3).Draw(t, "lost") == 0 {
				s.drops--
				continue
			}
			if err := tp.Handle(t.Context(), &f); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzTransport reads its input as frames of hostile units, nine bytes each: one that chooses addresses, group and time, and
// the data. Nothing may panic, memory stays within what arrived, answers within what was asked, and afterwards it works.
func FuzzTransport(f *testing.F) {
	for _, to := range []uint8{Global, tool, brakes} {
		var in []byte
		for i, x := range segment(engine, to, 65259, message(20)) {
			kind := byte(0)
			if i == 0 {
				kind = 1
			}
			in = append(append(in, kind|map[uint8]byte{Global: 0, tool: 2, brakes: 4}[to]), x.Data[:8]...)
		}
		f.Add(in, false)
		f.Add(in, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, own bool) {
		const sessions = 4
		l := listen(t, Config{Sessions: sessions}, own)
		delivered, arrived, frames := 0, 0, 0
		l.cfg.Deliver = func(m *Message) {
			if len(m.Data) == 0 || len(m.Data) > MaxData {
				t.Fatalf("delivered %d bytes", len(m.Data))
			}
			delivered += len(m.Data)
		}
		for ; len(in) >= 9; in = in[9:] {
			c := in[0]
			id := ID{7, PGNTransportData, c >> 5 & 3, [4]uint8{Global, tool, brakes, engine}[c>>1&3]}
			if c&1 != 0 {
				id.PGN = PGNTransport
			}
			x := can.Frame{ID: id.compose(), Len: 8}
			if c&8 != 0 {
				x.Len = in[1] & 15
			}
			copy(x.Data[:8], in[1:9])
			if c&16 != 0 {
				l.now = l.now.Add(time.Duration(int8(in[8])) * 50 * time.Millisecond) // also backwards
			}
			if err := l.Handle(t.Context(), &x); err != nil {
				t.Fatal(err)
			}
			frames++
			if id.PGN == PGNTransportData {
				arrived += 7
			}
			held := 0
			for i := range l.sessions {
				held += cap(l.sessions[i].buf)
			}
			if len(l.sessions) > sessions || held > 2*arrived+sessions*16 {
				t.Fatalf("%d bytes held in %d sessions, %d arrived", held, len(l.sessions), arrived)
			}
		}
		if delivered > arrived {
			t.Fatalf("delivered %d bytes of %d", delivered, arrived)
		}
		// One answer to each frame, MaxRepeats more and an abort by the clock for each session that was announced.
		if most := frames * (MaxRepeats + 3); len(l.sent) > most {
			t.Fatalf("%d answers to %d frames", len(l.sent), frames)
		}
		delivered = 0
		l.feed(t, segment(engine, Global, 65259, message(20))...)
		if delivered != 20 {
			t.Fatal("the next message was not delivered")
		}
	})
}

// A flood of the longest announcements from every address to every address costs the memory that the bound says, not what they
// announce; with every session filled up it stays below 3 KiB each.
func TestFloodMemory(t *testing.T) {
	const sessions = 256
	var tp *Transport
	grow := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f()
		runtime.GC()
		runtime.ReadMemStats(&after)
		return max(after.HeapAlloc, before.HeapAlloc) - before.HeapAlloc
	}
	var err error
	if tp, err = New(Config{Sessions: sessions, Deliver: func(*Message) {}}); err != nil {
		t.Fatal(err)
	}
	m := message(MaxData)
	ctx := t.Context()
	announced := grow(func() {
		for from := range MaxAddress {
			for to := range MaxAddress {
				f := cm(from, to, 65259, requestToSend, 0xF9, 0x06, 0xFF, 0xFF)
				if err := tp.Handle(ctx, &f); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	for i := range tp.sessions {
		if n := cap(tp.sessions[i].buf); n != 0 {
			t.Fatalf("%d bytes are held for a message of which nothing came", n)
		}
	}
	if announced > sessions*1024 {
		t.Errorf("announcements alone take %d bytes", announced)
	}
	filled := grow(func() {
		for i := range sessions {
			frames := segment(uint8(i%200), uint8(200+i/200), 65259, m)
			for j := range frames[:255] { // all but the last
				if err := tp.Handle(ctx, &frames[j]); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
	if total := announced + filled; total > sessions*3<<10 {
		t.Errorf("%d sessions take %d bytes", sessions, total)
	}
	if s := tp.Stats(); len(tp.sessions) != sessions || s.Delivered != 0 || s.Evicted == 0 {
		t.Errorf("%d sessions, %+v", len(tp.sessions), s)
	}
	runtime.KeepAlive(tp)
}

// Once the buffers have grown, nothing on the way from frame to value costs memory.
func TestAllocations(t *testing.T) {
	var sum float64
	p, _ := SPN(917)
	tp, err := New(Config{
		Address: tool, Send: func(context.Context, *can.Frame) error { return nil },
		Want:    func(p PGN) bool { return p != 65262 },
		Deliver: func(m *Message) { sum += p.Decode(m.Data).Physical },
	})
	if err != nil {
		t.Fatal(err)
	}
	frames := []can.Frame{{ID: ID{6, 65217, 0xEE, Global}.compose(), Len: 8}, {ID: ID{6, 65262, 0, Global}.compose(), Len: 8}}
	for _, to := range []uint8{Global, tool, brakes} {
		frames = append(frames, segment(engine, to, 65259, message(100))...)
	}
	frames = append(frames, segment(engine, tool, 65262, message(100))...)
	broken := segment(engine, Global, 65259, message(30))
	frames = append(frames, broken[0], broken[2], broken[1], broken[1], broken[3], broken[5], broken[4])
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		for i := range frames {
			if err := tp.Handle(ctx, &frames[i]); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 || sum == 0 || tp.Stats().Delivered < 400 {
		t.Errorf("%v allocations, %+v", n, tp.Stats())
	}
}
