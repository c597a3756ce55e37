package isotp

import (
	"testing"
	"time"

	"rawstone/pkg/can"
)

func TestSTmin(t *testing.T) {
	for _, c := range []struct {
		d time.Duration
		b byte
	}{
		{0, 0}, {1, 0xF1}, {100 * time.Microsecond, 0xF1}, {101 * time.Microsecond, 0xF2}, {900 * time.Microsecond, 0xF9},
		{901 * time.Microsecond, 1}, {time.Millisecond, 1}, {1500 * time.Microsecond, 2}, {127 * time.Millisecond, 127},
	} {
		b, ok := encodeSTmin(c.d)
		if !ok || b != c.b {
			t.Errorf("%v is %#x, want %#x", c.d, b, c.b)
		}
		if d := decodeSTmin(b); d < c.d || d-c.d >= time.Millisecond {
			t.Errorf("%v came back as %v", c.d, d)
		}
	}
	for _, d := range []time.Duration{-1, 127*time.Millisecond + 1} {
		if b, ok := encodeSTmin(d); ok {
			t.Errorf("%v is %#x", d, b)
		}
	}
	for _, b := range []byte{0x80, 0xF0, 0xFA, 0xFF} {
		if d := decodeSTmin(b); d != 127*time.Millisecond {
			t.Errorf("reserved %#x is %v", b, d)
		}
	}
}

func TestFDLength(t *testing.T) {
	for n := range can.MaxData + 1 {
		want := 0
		for _, l := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64} {
			if want = l; l >= n {
				break
			}
		}
		if got := fdLength(n); got != want {
			t.Errorf("%d bytes take a frame of %d, want %d", n, got, want)
		}
	}
}
