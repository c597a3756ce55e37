package validity

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSaysAbsent(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"SNA", "DI_GEAR_SNA", "GenSigSNA", "sna ", "N/A", "NA", "n.a.", "Not available", "NOT_AVAILABLE",
		"NotAvailable_13", "signal not available", "Unavailable", "Temporarily Unavailable", "Invalid", "Signal_Invalid", "not valid", "TqNotAvail"} {
		if !SaysAbsent(text) {
			t.Errorf("%q does not say that there is no value", text)
		}
	}
	for _, text := range []string{"", "Valid", "Available", "Invalid_Request", "ok", "Undefined", "off", "snapshot", "DNA", "0", "Fault"} {
		if SaysAbsent(text) {
			t.Errorf("%q says that there is no value", text)
		}
	}
}

// TestInterval: whenever there is an interval, it holds the numbers that Allows allows, and no others.
func TestInterval(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	pick := func(from ...float64) float64 { return from[random.IntN(len(from))] }
	found, none := 0, 0
	for range 20_000 {
		s := Signal{Length: 1 + random.IntN(12), Signed: random.IntN(2) == 0, Scale: pick(1, 0.1, 0.2, -0.5, 3, 0, -1, 1e-9, 0.00390625),
			Offset: pick(0, -40, 100, 0.05, 1e6), Min: pick(0, -40, 5, -1e9), Max: pick(0, 50.8, 204.7, 100, 1e9), Values: map[int64]string{}}
		for range random.IntN(4) {
			key := random.Int64N(1<<s.Length) - random.Int64N(1<<s.Length)
			if random.IntN(2) == 0 {
				key = 1<<s.Length - 1 - random.Int64N(3)
			}
			s.Values[key] = "SNA"
		}
		r := New(s)
		low, span, ok := r.Interval(s)
		if ok {
			found++
		} else {
			none++
		}
		gaps, allowed, was := 0, 0, false
		for raw := range uint64(1) << s.Length {
			n := int64(raw)
			if s.Signed { // rotated, so that the numbers ascend
				raw = (raw + 1<<(s.Length-1)) & (1<<s.Length - 1)
				n = int64(raw<<(64-s.Length)) >> (64 - s.Length)
			}
			is := r.Allows(raw, float64(float64(n)*s.Scale)+s.Offset)
			if ok && is != (uint64(n-low) <= span) {
				t.Fatalf("%+v: %d is allowed: %t; interval %d to %d more", s, n, is, low, span)
			}
			if is {
				allowed++
				if !was {
					gaps++
				}
			}
			was = is
		}
		if !ok && gaps == 1 {
			t.Fatalf("%+v: no interval, and %d numbers in a row are allowed", s, allowed)
		}
	}
	if found < 5000 || none < 500 {
		t.Errorf("%d signals with an interval, %d without", found, none)
	}
	for _, s := range []Signal{{Length: 64, Scale: 1}, {Length: 32, Float: true, Scale: 1}} {
		r := New(s)
		if _, _, ok := r.Interval(s); ok || !r.Allows(0, 0) || r.Allows(0, math.Inf(1)) || r.Allows(0, math.NaN()) {
			t.Errorf("%+v has an interval, or allows what is not finite", s)
		}
	}
}
