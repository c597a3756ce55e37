package vehicle

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"rawstone/agent/internal/signalmap"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/capturetest"
)

// FuzzMap reads any text as a map beside a DBC file: no panic, and what is accepted compiles into a Reader of as many signals.
func FuzzMap(f *testing.F) {
	entries, err := os.ReadDir(shipped)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") {
			text, err := os.ReadFile(filepath.Join(shipped, e.Name()))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	f.Add(diagnostic)
	f.Add(header + "  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: mi, scale: -0.5, wrap_bits: 8, unit_flag: {signal: Car.Miles, equals: 1, unit: mi}}\n")
	files := map[string]string{"/x.dbc": carDBC, "/sim.dbc": carDBC}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decode(text, files)
		if err != nil {
			return
		}
		r, err := Compile(m, numbered(m), nil)
		if err != nil {
			t.Fatalf("accepted and not compiled: %v", err)
		}
		signals := r.Signals()
		if len(signals) != len(m.Signals) || len(signals) > signalmap.MaxSignals {
			t.Fatalf("%d signals of %d", len(signals), len(m.Signals))
		}
		for _, s := range signals {
			if s.Modulus < 0 || s.Role == vss.Distance && s.Resolution < 1 || s.Name == "" {
				t.Fatalf("%+v", s)
			}
		}
		var fr can.Frame
		for id := can.ID(0x100); id < 0x104; id++ {
			fr.ID, fr.Len, fr.Data[5] = id, 8, 0xFF
			if err := r.Read(t.Context(), &fr, func(s vss.Sample) { check(t, signals, s) }); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func check(t testing.TB, signals []vss.Signal, s vss.Sample) {
	if s.Signal < 0 || s.Signal >= len(signals) || s.Available && s.Value < 0 {
		t.Fatalf("%+v", s)
	}
	if m := signals[s.Signal].Modulus; m != 0 && s.Available && s.Value >= m {
		t.Fatalf("%+v is not below %d", s, m)
	}
}

// everything is a map that uses every kind of source on one bus.
func everything(t testing.TB) *Reader {
	return compile(t, strings.ReplaceAll(diagnostic, "{name: can0}", "{name: can0, dbc: x.dbc}")+
		"  - {path: Vehicle.Speed, bus: can0, dbc: CCVS.Speed, unit: km/h, any_source: true, valid: {signal: CCVS.SpeedOK, values: [1]}}\n"+
		"  - {path: Vehicle.TraveledDistance, bus: can0, dbc: Car.Count, unit: m, wrap_bits: 8}\n", carDBC)
}

// FuzzRead plays random frames to a map of every kind: 13 bytes are a frame.
func FuzzRead(f *testing.F) {
	f.Add([]byte{0x07, 0xE8, 0, 0, 8, 0x10, 0x0B, 0x41, 0x0D, 0x48, 0x0C, 0x12, 0x34, 0x07, 0xE8, 0, 0, 8, 0x21, 0xA6, 0, 0, 3, 0xE8, 0, 0})
	f.Add([]byte{0x9C, 0xEC, 0xFF, 0x27, 8, 0x20, 9, 0, 2, 0xFF, 0xC1, 0xFE, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := everything(t)
		signals := r.Signals()
		samples := 0
		for i := 0; len(in) >= 13; i++ {
			fr := can.Frame{Time: int64(i) * 1_000_000, ID: can.ID(binary.BigEndian.Uint32(in)), Len: in[4] & 0x7F, Bus: 0}
			if in[0]&0x80 == 0 {
				fr.ID = can.ID(binary.BigEndian.Uint16(in))
			}
			if in[4]&0x80 != 0 {
				fr.Flags = can.FD
			}
			copy(fr.Data[:], in[5:13])
			in = in[13:]
			if fr.Len > can.MaxData {
				continue
			}
			if err := r.Read(t.Context(), &fr, func(s vss.Sample) { samples++; check(t, signals, s) }); err != nil {
				t.Fatal(err)
			}
			if samples > (i+1)*8 {
				t.Fatalf("%d samples from %d frames", samples, i+1)
			}
		}
	})
}

// TestNoAllocation reads frames of every kind, once warm.
func TestNoAllocation(t *testing.T) {
	r := everything(t)
	var frames []*can.Frame
	for _, s := range []string{
		"100#E803000100FE0300", "7E8#03410D24AAAAAAAA", "7E8#0762404C99000064", "18FEC1EE#0A00000000000000", "18FEF117#01005A0000000000",
		"1CECFF30#20090002FFC1FE00", "1CEBFF30#0100000000100000", "1CEBFF30#020000FFFFFFFFFF", "7E8#037F2231", "555#00", "1CEBFF30#020000FFFFFFFFFF",
	} {
		frames = append(frames, frame(t, s))
	}
	n := 0
	emit := func(vss.Sample) { n++ }
	ctx := context.Background()
	all := func() {
		for _, f := range frames {
			if err := r.Read(ctx, f, emit); err != nil {
				t.Fatal(err)
			}
		}
	}
	all()
	if n != 7 {
		t.Errorf("%d samples", n)
	}
	if got := testing.AllocsPerRun(100, all); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestHostileMemory floods a Reader with first frames that announce 4 GiB or 4095 bytes, announcements from every address and
// unknown identifiers, all interleaved. The bound is 8 KiB for each pair of identifiers and 32 sessions of 2400 bytes for J1939.
func TestHostileMemory(t *testing.T) {
	r := everything(t)
	random := rand.New(rand.NewPCG(1, 2))
	flood := func(n int) {
		var f can.Frame
		for i := range n {
			f = can.Frame{Time: int64(i) * 100_000, Len: 8}
			switch random.IntN(8) {
			case 0:
				f.ID, f.Data = 0x7E8, [64]byte{0x10, 0, 0xFF, 0xFF, 0xFF, 0xFF}
			case 1:
				f.ID, f.Data = 0x7E8, [64]byte{0x1F, 0xFF, 0x41}
			case 2:
				f.ID, f.Data = 0x18DAF110|can.Extended, [64]byte{byte(0x20 | random.IntN(16))}
			case 3:
				f.ID, f.Data = 0x18DAF110|can.Extended, [64]byte{0x1F, 0xFF, 0x62}
			case 4:
				f.ID = can.ID(0x1CECFF00|random.IntN(256)) | can.Extended
				f.Data = [64]byte{32, 0xF9, 0x06, 255, 0xFF, 0xC1, 0xFE}
			case 5:
				f.ID = can.ID(0x1CEBFF00|random.IntN(256)) | can.Extended
				f.Data[0] = byte(random.IntN(256))
			default:
				f.ID = can.ID(random.Uint32())&can.MaxExtended | can.Extended
			}
			if err := r.Read(t.Context(), &f, func(vss.Sample) {}); err != nil {
				t.Fatal(err)
			}
		}
	}
	flood(200_000)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	flood(400_000)
	runtime.GC()
	runtime.ReadMemStats(&after)
	const bound = 2*2*(signalmap.MaxAnswer+64) + 32*2400 + 64<<10
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > bound {
		t.Errorf("%d bytes more are held, at most %d are allowed", grown, bound)
	}
	if s := r.Stats(); s.Transport == 0 {
		t.Error("nothing was counted")
	}
	// It still works.
	expect(t, read(t, r, "7E8#03410D24AAAAAAAA", "18FEC1EE#0A00000000000000"), said{0, 0, 10_000, true}, said{5, 0xEE, 50_000, true})
}

// BenchmarkRead reads the Mustang's frames by its map; x-plan is how many times longer that takes than the DBC plan alone.
func BenchmarkRead(b *testing.B) {
	src, err := can.OpenFile(capturetest.Find(b, "mustang.candump.log.gz"))
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	var frames []can.Frame
	var f can.Frame
	for src.Next(&f) == nil {
		frames = append(frames, f)
	}
	r := open(b, "mustang.yaml")
	n := 0
	emit := func(vss.Sample) { n++ }
	ctx := context.Background()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := r.Read(ctx, &frames[i%len(frames)], emit); err != nil {
			b.Fatal(err)
		}
	}
	read := b.Elapsed()
	start := time.Now()
	for i := range b.N {
		r.readings = r.lines[0].plan.Decode(&frames[i%len(frames)], r.readings[:0])
	}
	b.ReportMetric(float64(read)/float64(time.Since(start)), "x-plan")
}
