package isotp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

const (
	tester can.ID = 0x7E0
	ecu    can.ID = 0x7E8
)

// A bench has the tester's end under test; what it sends and delivers is written down, and answer plays the peer.
type bench struct {
	*Conn
	wire   []string // "7E0#0102" sent by us
	got    []string // messages delivered, in hex
	answer func(f *can.Frame)
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{}
	cfg.Tx, cfg.Rx = tester, ecu
	if cfg.Send == nil {
		cfg.Send = func(_ context.Context, f *can.Frame) error {
			b.wire = append(b.wire, text(f))
			if b.answer != nil {
				b.answer(f)
			}
			return nil
		}
	}
	cfg.Deliver = func(msg []byte) { b.got = append(b.got, hex.EncodeToString(msg)) }
	var err error
	if b.Conn, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

// feed hands frames of the peer, given as hex, to the end under test.
func (b *bench) feed(t testing.TB, frames ...string) {
	t.Helper()
	for _, s := range frames {
		if err := b.Handle(t.Context(), peerFrame(s)); err != nil {
			t.Fatalf("frame %s: %v", s, err)
		}
	}
}

func (b *bench) check(t testing.TB, wire, got []string, s Stats) {
	t.Helper()
	if d := cmp.Diff(wire, b.wire); d != "" {
		t.Errorf("wire: %s", d)
	}
	if d := cmp.Diff(got, b.got); d != "" {
		t.Errorf("delivered: %s", d)
	}
	if d := cmp.Diff(s, b.Stats()); d != "" {
		t.Errorf("counters: %s", d)
	}
}

// peerFrame reads "0102", or "fd 0102" for a CAN FD frame.
func peerFrame(s string) *can.Frame {
	f := &can.Frame{ID: ecu}
	if rest, ok := strings.CutPrefix(s, "fd "); ok {
		s, f.Flags = rest, can.FD
	}
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil || !f.SetPayload(p) {
		panic("bad frame " + s)
	}
	return f
}

func text(f *can.Frame) string {
	sep := "#"
	if f.Flags&can.FD != 0 {
		sep = "##"
	}
	return f.ID.String() + sep + hex.EncodeToString(f.Payload())
}

func message(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// A vehicle identification number over OBD-II (service 09, PID 02): the exchange that SAE J1979 shows, with a made-up number.
func TestKnownExchange(t *testing.T) {
	b := newBench(t, Config{Padding: true, PadByte: 0xAA})
	if err := b.Write(t.Context(), []byte{0x09, 0x02}); err != nil {
		t.Fatal(err)
	}
	b.feed(t, "10 14 49 02 01 31 44 34", "21 47 50 30 30 52 35 35", "22 42 31 32 33 34 35 36")
	b.check(t,
		[]string{"7E0#020902aaaaaaaaaa", "7E0#300000aaaaaaaaaa"},
		[]string{"49020131443447503030523535423132333435" + "36"},
		Stats{Sent: 1, Received: 1})
}

func TestSegmentation(t *testing.T) {
	b := newBench(t, Config{})
	b.answer = func(f *can.Frame) {
		if f.Data[0]>>4 == firstFrame || f.Data[0] == 0x22 {
			b.feed(t, "30 02 00")
		}
	}
	if err := b.Write(t.Context(), message(29)); err != nil {
		t.Fatal(err)
	}
	m := hex.EncodeToString(message(29))
	want := []string{
		"7E0#101d" + m[:12], "7E0#21" + m[12:26], "7E0#22" + m[26:40], "7E0#23" + m[40:54], "7E0#24" + m[54:],
	}
	b.check(t, want, nil, Stats{Sent: 1})
	// A flow control after the last frame is nobody's, also where a block ends there.
	b.wire = nil
	b.answer = func(f *can.Frame) {
		if f.Data[0]>>4 == firstFrame || f.Data[0] == 0x24 {
			b.feed(t, "30 04 00")
		}
	}
	if err := b.Write(t.Context(), message(29)); err != nil {
		t.Fatal(err)
	}
	b.check(t, want, nil, Stats{Sent: 2, Unexpected: 1})
}

func TestFrameForms(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		n    int
		want []string // prefix and length of each frame
	}{
		{"longest single", Config{}, 7, []string{"7E0#07 8"}},
		{"padded single", Config{Padding: true}, 1, []string{"7E0#01 8"}},
		{"bare single", Config{}, 1, []string{"7E0#01 2"}},
		{"shortest segmented", Config{}, 8, []string{"7E0#1008 8", "7E0#21 3"}},
		{"longest short form", Config{}, 4095, []string{"7E0#1fff 8", "7E0#21 8"}},
		{"shortest escape", Config{}, 4096, []string{"7E0#100000001000 8", "7E0#21 8"}},
		{"fd small", Config{FD: true}, 7, []string{"7E0##07 8"}},
		{"fd escape", Config{FD: true}, 8, []string{"7E0##0008 12"}},
		{"fd filled", Config{FD: true, PadByte: 0xCC}, 23, []string{"7E0##0017 32"}},
		{"fd longest single", Config{FD: true}, 62, []string{"7E0##003e 64"}},
		{"fd segmented", Config{FD: true}, 63, []string{"7E0##103f 64", "7E0##21 2"}},
		{"fd last filled", Config{FD: true}, 62 + 63 + 40, []string{"7E0##10a5 64", "7E0##21 64", "7E0##22 48"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.cfg)
			b.answer = func(f *can.Frame) {
				if f.Data[0]>>4 == firstFrame {
					b.feed(t, "30 00 00")
				}
			}
			if err := b.Write(t.Context(), message(c.n)); err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				var prefix string
				var n int
				if _, err := fmt.Sscan(want, &prefix, &n); err != nil {
					t.Fatal(err)
				}
				_, data, _ := strings.Cut(strings.Replace(b.wire[i], "##", "#", 1), "#")
				if !strings.HasPrefix(b.wire[i], prefix) || len(data) != 2*n {
					t.Errorf("frame %d is %s, want %s… of %d bytes", i, b.wire[i], prefix, n)
				}
			}
			if c.cfg.PadByte != 0 && !strings.HasSuffix(b.wire[0], strings.Repeat("cc", 7)) {
				t.Errorf("not filled: %s", b.wire[0])
			}
		})
	}
}

func TestReceive(t *testing.T) {
	escape := "10 00 00 00 10 00 01 02" // 4,096 bytes
	for _, c := range []struct {
		name   string
		cfg    Config
		frames []string
		wire   []string
		got    []string
		stats  Stats
	}{
		{"single", Config{}, []string{"03 01 02 03", "03 01 02 03 ff ff ff ff"}, nil, []string{"010203", "010203"}, Stats{Received: 2}},
		{"single malformed", Config{}, []string{"", "00", "00 01", "02 01", "08 01 02 03 04 05 06 07"}, nil, nil, Stats{Malformed: 5}},
		{"reserved type", Config{}, []string{"40 01", "f1 01"}, nil, nil, Stats{Malformed: 2}},
		{"fd on classic", Config{}, []string{"fd 01 01"}, nil, nil, Stats{Malformed: 1}},
		{"classic on fd", Config{FD: true}, []string{"01 05"}, nil, []string{"05"}, Stats{Received: 1}},
		{"fd single", Config{FD: true}, []string{"fd 00 0a 01 02 03 04 05 06 07 08 09 0a"}, nil, []string{"0102030405060708090a"}, Stats{Received: 1}},
		{"fd single malformed", Config{FD: true}, []string{
			"fd 00 0b 01 02 03 04 05 06 07 08 09 0a", // longer than the frame
			"fd 00 07 01 02 03 04 05 06 07 08 09 0a", // belongs into 8 bytes
			"fd 03 01 02 03 04 05 06 07 08 09 0a 0b", // length where 0 must be
		}, nil, nil, Stats{Malformed: 3}},
		{"single too long", Config{MaxLen: 2}, []string{"03 01 02 03", "02 01 02"}, nil, []string{"0102"}, Stats{Received: 1, Overflows: 1}},

		{"segmented", Config{}, []string{"10 08 01 02 03 04 05 06", "21 07 08"}, []string{"7E0#300000"}, []string{"0102030405060708"}, Stats{Received: 1}},
		{"blocks", Config{BlockSize: 1, STmin: 5 * time.Millisecond}, []string{"10 15 01 02 03 04 05 06", "21 07 08 09 0a 0b 0c 0d", "22 0e 0f 10 11 12 13 14", "23 15"},
			[]string{"7E0#300105", "7E0#300105", "7E0#300105"}, []string{"0102030405060708090a0b0c0d0e0f101112131415"}, Stats{Received: 1}},
		{"first malformed", Config{}, []string{
			"10 07 01 02 03 04 05 06", // fits a single frame
			"10 08 01 02 03 04 05",    // short of 8 bytes
			"10 00 00 00 0f ff 01 02", // escape for what the short form can say
			"10 00 00 00 00 00 01 02",
			"21 01",
		}, nil, nil, Stats{Malformed: 4, Unexpected: 1}},
		{"fd first must exceed a single frame", Config{FD: true}, []string{
			"fd 10 0a 01 02 03 04 05 06 07 08 09 0a",
			"fd 10 0b 01 02 03 04 05 06 07 08 09 0a", "fd 21 0b",
		}, []string{"7E0##300000"}, []string{"0102030405060708090a0b"}, Stats{Received: 1, Malformed: 1}},
		{"escape", Config{}, []string{escape}, []string{"7E0#320000"}, nil, Stats{Overflows: 1}},
		{"escape accepted", Config{MaxLen: 4096}, []string{escape}, []string{"7E0#300000"}, nil, Stats{}},
		{"4 GiB", Config{}, []string{"10 00 ff ff ff ff 01 02", "21 01 02 03 04 05 06 07"}, []string{"7E0#320000"}, nil, Stats{Overflows: 1, Unexpected: 1}},
		{"one too long", Config{MaxLen: 20}, []string{"10 15 01 02 03 04 05 06"}, []string{"7E0#320000"}, nil, Stats{Overflows: 1}},

		{"wrong sequence", Config{}, []string{"10 10 01 02 03 04 05 06", "22 07 08 09 0a 0b 0c 0d", "21 07 08 09 0a 0b 0c 0d"},
			[]string{"7E0#300000"}, nil, Stats{Sequence: 1, Unexpected: 1}},
		{"twice", Config{}, []string{"10 10 01 02 03 04 05 06", "21 07 08 09 0a 0b 0c 0d", "21 07 08 09 0a 0b 0c 0d"},
			[]string{"7E0#300000"}, nil, Stats{Sequence: 1}},
		{"short in the middle", Config{}, []string{"10 10 01 02 03 04 05 06", "21 07 08", "21 07 08 09 0a 0b 0c 0d", "22 0e 0f 10"},
			[]string{"7E0#300000"}, []string{"0102030405060708090a0b0c0d0e0f10"}, Stats{Received: 1, Malformed: 1}},
		{"first restarts", Config{}, []string{"10 10 01 02 03 04 05 06", "21 07 08 09 0a 0b 0c 0d", "10 08 a1 a2 a3 a4 a5 a6", "21 a7 a8"},
			[]string{"7E0#300000", "7E0#300000"}, []string{"a1a2a3a4a5a6a7a8"}, Stats{Received: 1, Interrupted: 1}},
		{"single interrupts", Config{}, []string{"10 10 01 02 03 04 05 06", "01 99", "21 07 08 09 0a 0b 0c 0d"},
			[]string{"7E0#300000"}, []string{"99"}, Stats{Received: 1, Interrupted: 1, Unexpected: 1}},
		{"too long interrupts", Config{}, []string{"10 10 01 02 03 04 05 06", "10 00 ff ff ff ff 01 02", "21 07 08 09 0a 0b 0c 0d"},
			[]string{"7E0#300000", "7E0#320000"}, nil, Stats{Overflows: 1, Interrupted: 1, Unexpected: 1}},
		{"control does not interrupt", Config{}, []string{"10 08 01 02 03 04 05 06", "30 00 00", "30 00", "21 07 08"},
			[]string{"7E0#300000"}, []string{"0102030405060708"}, Stats{Received: 1, Unexpected: 1, Malformed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, c.cfg)
			b.feed(t, c.frames...)
			b.check(t, c.wire, c.got, c.stats)
		})
	}
}

func TestHandleLeavesOthersAlone(t *testing.T) {
	b := newBench(t, Config{FD: true})
	for _, id := range []can.ID{tester, 0x7E9, can.Extended | ecu} {
		f := peerFrame("01 05")
		f.ID = id
		if err := b.Handle(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	b.check(t, nil, nil, Stats{})
	// Not traffic of the peer, and frames that no bus carries.
	for _, f := range []can.Frame{
		{ID: ecu, Flags: can.Remote, Len: 2, Data: [64]byte{1, 5}},
		{ID: ecu, Flags: can.Error, Len: 2, Data: [64]byte{1, 5}},
		{ID: ecu, Len: 12, Data: [64]byte{0, 10}}, // well-formed if it were CAN FD
		{ID: ecu, Len: 255, Flags: can.FD, Data: [64]byte{0, 10}},
	} {
		if err := b.Handle(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
	}
	b.check(t, nil, nil, Stats{Malformed: 4})
}

func TestHandleReportsSend(t *testing.T) {
	broken := errors.New("bus is off")
	b := newBench(t, Config{Send: func(context.Context, *can.Frame) error { return broken }})
	if err := b.Handle(t.Context(), peerFrame("10 08 01 02 03 04 05 06")); !errors.Is(err, broken) {
		t.Errorf("Handle: %v", err)
	}
	b.feed(t, "21 07 08") // the message was given up
	b.check(t, nil, nil, Stats{Unexpected: 1})
	if err := b.Write(t.Context(), message(3)); !errors.Is(err, broken) {
		t.Errorf("Write: %v", err)
	}
}

func TestReceiveTimeout(t *testing.T) {
	now := time.Unix(1000, 0)
	cfg := Config{Timeout: 100 * time.Millisecond, Now: func() time.Time { return now }}
	first, second, last := "10 14 01 02 03 04 05 06", "21 07 08 09 0a 0b 0c 0d", "22 0e 0f 10 11 12 13 14"
	t.Run("in time", func(t *testing.T) {
		b := newBench(t, cfg)
		for _, s := range []string{first, second, last} {
			b.feed(t, s)
			now = now.Add(cfg.Timeout)
			b.Tick(now)
		}
		if d := cmp.Diff(Stats{Received: 1}, b.Stats()); d != "" {
			t.Error(d)
		}
	})
	t.Run("next frame", func(t *testing.T) {
		b := newBench(t, cfg)
		b.feed(t, first, second)
		now = now.Add(cfg.Timeout + 1)
		b.feed(t, last)
		if d := cmp.Diff(Stats{Timeouts: 1, Unexpected: 1}, b.Stats()); d != "" {
			t.Error(d)
		}
	})
	t.Run("tick", func(t *testing.T) {
		b := newBench(t, cfg)
		b.feed(t, first)
		b.Tick(now.Add(cfg.Timeout))
		if d := cmp.Diff(Stats{}, b.Stats()); d != "" {
			t.Error(d)
		}
		b.Tick(now.Add(cfg.Timeout + 1))
		b.Tick(now.Add(cfg.Timeout + 2))
		if d := cmp.Diff(Stats{Timeouts: 1}, b.Stats()); d != "" {
			t.Error(d)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := Config{
		Tx: tester, Rx: ecu,
		Send:    func(context.Context, *can.Frame) error { return nil },
		Deliver: func([]byte) {},
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"tx":       func(c *Config) { c.Tx = 0x800 },
		"rx":       func(c *Config) { c.Rx = can.Extended | 1<<29 },
		"same":     func(c *Config) { c.Rx = c.Tx },
		"send":     func(c *Config) { c.Send = nil },
		"deliver":  func(c *Config) { c.Deliver = nil },
		"length":   func(c *Config) { c.MaxLen = -1 },
		"timeout":  func(c *Config) { c.Timeout = -1 },
		"waits":    func(c *Config) { c.MaxWait = -1 },
		"stmin":    func(c *Config) { c.STmin = 128 * time.Millisecond },
		"negative": func(c *Config) { c.STmin = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "cannot set up transport") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
