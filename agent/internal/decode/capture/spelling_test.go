package capture

import (
	"bytes"
	"testing"

	"rawstone/pkg/can"
)

func TestLearn(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "0000000820.250000", "# (1.5)\n": "0000000820.250000", "(1627274470.55) ": "0000000820.25", "\n junk\n (12.500) ": "820.250",
		"(0012.50) ": "0820.25", "(1.2.3)\n(x.1)\n(1.1234567890)\n(5.0)": "820.250000000",
	} {
		if got := string(learn([]byte(text)).Append(nil, 820_250_000_000)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// FuzzSpelling: a time is written as it was read, when it is the first, and reads back as itself in every spelling.
func FuzzSpelling(f *testing.F) {
	for _, stamp := range []string{"0000000820.298000", "1627274470.529450", "1.5", "820.000000001", "000.0", "9223372035.999999999", "0.123456789"} {
		f.Add(stamp, int64(1_627_274_470_529_450_001))
	}
	f.Fuzz(func(t *testing.T, stamp string, other int64) {
		line := []byte("(" + stamp + ") can0 123#00\n")
		s := learn(line)
		var frame can.Frame
		if can.NewReader(bytes.NewReader(line)).Next(&frame) == nil {
			if got := string(s.Append(nil, frame.Time)); got != stamp {
				t.Fatalf("%q is written %q", stamp, got)
			}
		}
		if other < 0 {
			return
		}
		text := s.Append([]byte("("), other)
		if err := can.NewReader(bytes.NewReader(append(text, ") can0 123#00\n"...))).Next(&frame); len(text) < 400 && other < 9223372035e9 && (err != nil || frame.Time != other) {
			t.Fatalf("%d is written %q and read %d, %v", other, text, frame.Time, err)
		}
	})
}
