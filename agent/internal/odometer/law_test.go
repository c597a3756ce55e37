package odometer

import (
	"encoding/binary"
	"log/slog"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
)

func hostile() []vss.Signal {
	return []vss.Signal{
		{Name: "short", Role: vss.Distance, Resolution: 200, Modulus: 51_200},
		{Name: "trip", Role: vss.Distance, Resolution: 1000, Resets: true},
		{Name: "coarse", Role: vss.Distance, Resolution: km},
		{Name: "speed", Role: vss.Speed},
		{Name: "speed 2", Role: vss.Speed},
		{Name: "charge", Role: vss.Charge},
	}
}

// law feeds any samples and checks that the distance never decreases nor outruns physics, restarts included.
func law(t interface {
	Helper()
	Fatalf(string, ...any)
}, o *Odometer, samples []vss.Sample, restart func(state.Odometer) *Odometer) {
	t.Helper()
	var total, last int64
	elapsed := 0.0 // s
	for i, s := range samples {
		if s.Signal == -1 {
			saved := o.State()
			if !saved.Valid() {
				t.Fatalf("sample %d: the state is not valid: %+v", i, saved)
			}
			o = restart(saved)
			continue
		}
		known := s.Signal >= 0 && s.Signal < len(o.cfg.Signals) && o.cfg.Signals[s.Signal].Role <= vss.Speed
		if known {
			if last != 0 && s.Time > last {
				elapsed += (float64(s.Time) - float64(last)) / 1e9
			}
			last = s.Time
		}
		grown := o.Observe(s)
		total += grown
		if grown < 0 || total != o.Total() || float64(total) > elapsed*float64(o.cfg.MaxSpeed)+1 {
			t.Fatalf("sample %d, %+v: grew %d to %d, %d by growth, in %v s", i, s, grown, o.Total(), total, elapsed)
		}
	}
}

func TestLaw(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		restart := func(s state.Odometer) *Odometer { return restored2(t, Config{Signals: hostile()}, s) }
		at, value := int64(t0), int64(1000*km)
		gen := rapid.Custom(func(t *rapid.T) vss.Sample {
			s := vss.Sample{Signal: rapid.IntRange(-1, 6).Draw(t, "signal"), Origin: uint8(rapid.IntRange(0, 3).Draw(t, "origin")), Available: rapid.IntRange(0, 9).Draw(t, "available") > 0}
			if rapid.IntRange(0, 15).Draw(t, "wild time") == 0 {
				at = rapid.Int64().Draw(t, "time")
			} else {
				at += rapid.Int64Range(-2_000, 20_000).Draw(t, "step") * ms
			}
			if rapid.IntRange(0, 15).Draw(t, "wild value") == 0 {
				s.Value = rapid.Int64().Draw(t, "value")
			} else {
				value += rapid.Int64Range(-1000, 1_000_000).Draw(t, "growth")
				s.Value = value
				if s.Signal == 0 {
					s.Value = value % 51_200
				} else if s.Signal > 2 {
					s.Value = value % 60_000
				}
			}
			s.Time = at
			return s
		})
		law(t, restart(state.Odometer{}), rapid.SliceOfN(gen, 0, 300).Draw(t, "samples"), restart)
	})
}

func restored2(t *rapid.T, cfg Config, s state.Odometer) *Odometer {
	cfg.Logger = slog.New(slog.DiscardHandler)
	o, err := New(cfg, s)
	if err != nil {
		t.Fatalf("cannot restore: %v", err)
	}
	return o
}

// Honest drives of any shape, with any outages, come out low and near the truth: not a millimetre is counted that was not driven, by
// a car that brakes and gains speed no harder than tyres grip. Its legs are longer than half of what a speed's regular samples leave
// unseen; what a car can do within that is package motion's.
func TestHonestLaw(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var sources []int
		for _, i := range []int{short, fine, coarse, velocity} {
			if rapid.Bool().Draw(t, "has") || i == velocity && len(sources) == 0 {
				sources = append(sources, i)
			}
		}
		c := newCar(sources...)
		for i := range c.offset {
			c.offset[i] += rapid.Int64Range(0, km).Draw(t, "offset")
		}
		silent := make([]bool, len(sources))
		c.fault = func(_ *car, s *vss.Sample) bool { return !silent[s.Signal] }
		o := restored2(t, Config{Signals: c.signals}, state.Odometer{})
		c.drive(o, 3, 0) // what no source ever saw cannot be recovered
		var saved *state.Odometer
		for range rapid.IntRange(1, 30).Draw(t, "legs") {
			for i := range silent {
				silent[i] = rapid.IntRange(0, 3).Draw(t, "silent") == 0
			}
			seconds, speed := rapid.SampledFrom([]int64{1, 2, 3, 60, 120}), rapid.SampledFrom([]int64{0, 0, 10, 30, 60})
			c.drive(o, seconds.Draw(t, "seconds"), speed.Draw(t, "speed")*1000)
			switch rapid.IntRange(0, 5).Draw(t, "power") {
			case 0:
				s := o.State()
				saved = &s
			case 1:
				if saved != nil {
					o = restored2(t, Config{Signals: c.signals}, *saved)
				}
			}
			if o.Total() > c.at {
				t.Fatalf("%v: %d mm of %d counted", sources, o.Total(), c.at)
			}
		}
		clear(silent)
		c.drive(o, 120, 20_000)
		if (slices.Contains(sources, fine) || slices.Contains(sources, coarse)) && o.Total() < c.at-3*km-120*60_000 {
			t.Fatalf("%v: %d mm of %d counted", sources, o.Total(), c.at)
		}
	})
}

func FuzzObserve(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 90))
	f.Fuzz(func(t *testing.T, b []byte) {
		restart := func(s state.Odometer) *Odometer { return restored(t, Config{Signals: hostile()}, s) }
		var samples []vss.Sample
		var at, value int64
		for ; len(b) >= 10 && len(samples) < 4096; b = b[10:] {
			s := vss.Sample{Signal: int(b[0]%8) - 1, Origin: b[0] >> 3 & 3, Available: b[0]&0x80 == 0}
			dt, dv := int64(int32(binary.LittleEndian.Uint32(b[1:]))), int64(int32(binary.LittleEndian.Uint32(b[5:])))
			if b[9]&1 != 0 {
				dt *= math.MaxInt32
			}
			if b[9]&2 != 0 {
				dv *= math.MaxInt32
			}
			at, value = at+dt, value+dv
			s.Time, s.Value = at, value
			samples = append(samples, s)
		}
		law(t, restart(state.Odometer{}), samples, restart)
	})
}

// recording returns the samples of a drive on a car with all sources.
func recording() (signals []vss.Signal, samples []vss.Sample) {
	c := newFullCar()
	c.fault = func(_ *car, s *vss.Sample) bool { samples = append(samples, *s); return false }
	c.drive(nil, 600, 20_000)
	return c.signals, samples
}

// Observe allocates nothing, whatever the samples say once episodes have begun.
func TestObserveAllocatesNothing(t *testing.T) {
	signals, samples := recording()
	o := newOdometer(t, Config{Signals: signals})
	i := 0
	if n := testing.AllocsPerRun(len(samples)-2, func() {
		s := samples[i]
		if i > 1000 && i%50 == 0 {
			s.Value, s.Available = 3*s.Value, i%100 == 0
		}
		o.Observe(s)
		i++
	}); n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	signals, samples := recording()
	o := newOdometer(b, Config{Signals: signals})
	span := samples[len(samples)-1].Time - samples[0].Time + 1000*ms
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := samples[i%len(samples)]
		s.Time += int64(i/len(samples)) * span
		o.Observe(s)
	}
}
