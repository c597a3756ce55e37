package motion

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// Between two samples of a speed no car drives less than Least says, except that a car which brakes and speeds up again between two
// regular samples drives up to Grip·t²/4 less; and none drives much more than Least that brakes as hard as it can.
func TestLeast(t *testing.T) {
	t.Parallel()
	if got := Least(60_000, 0, 2*Second); got != 0 {
		t.Errorf("%d mm on the word of a speed that no tyres brake", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		const tick = 10 // ms
		us := rapid.SampledFrom([]int64{100, 1000, 1250, 1260, 2000, 3000, 4000}).Draw(t, "ms") * 1000
		v := rapid.Int64Range(0, 60_000).Draw(t, "speed")
		turn := rapid.Int64Range(0, us).Draw(t, "turn")
		a, mm := v, 0.0
		for at := int64(0); at < us; at += tick * 1000 { // brake, then speed up
			before := v
			if v -= Grip * tick / 1000; at >= turn {
				v += 2 * Grip * tick / 1000
			}
			v = max(v, 0)
			mm += float64(before+v) * tick / 2000
		}
		got, slack := float64(Least(a, v, us)), 0.0
		if us <= Smooth {
			slack = Grip * float64(us) / 1e6 * float64(us) / 1e6 / 4
		}
		if got > mm+slack+Grip*tick/1000 {
			t.Errorf("%v mm of %v in %d µs from %d to %d mm/s", got, mm, us, a, v)
		}
		if us > Smooth && got < mm-0.02*mm-2*Grip*tick/1000 {
			t.Errorf("only %v mm of %v in %d µs from %d to %d mm/s", got, mm, us, a, v)
		}
	})
}

// Gaps are forward, bounded, and do not wrap; the factor between miles and kilometres loses less than a millimetre.
func TestBounds(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]int64{{0, 1_500_000, 1500}, {5, 5, 0}, {9, 5, 0}, {0, math.MaxInt64, MaxGap}, {math.MinInt64, math.MaxInt64, MaxGap}} {
		if got := Between(c[0], c[1]); got != c[2] {
			t.Errorf("%d µs from %d to %d, want %d", got, c[0], c[1], c[2])
		}
	}
	if got := Miles(1_609_344_000_005); got != 1_000_000_000_003 {
		t.Errorf("%d", got)
	}
	if got := Most(10_000, 2*Second); got != 44_000 {
		t.Errorf("%d mm in 2 s from 10 m/s", got)
	}
}
