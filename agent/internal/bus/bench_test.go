package bus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rawstone/pkg/can"
)

// BenchmarkReplay says how much of the speed of reading a capture is left behind Set.Run, both in the same run: x-reader is that
// share.
func BenchmarkReplay(b *testing.B) {
	const frames = 200_000
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for i := range frames {
		f := can.Frame{Time: 1_600_000_000_000_000_000 + int64(i)*250_000, ID: can.ID(random.IntN(0x800)), Len: 8}
		for j := range f.Len {
			f.Data[j] = byte(random.Uint32())
		}
		text = can.AppendLine(text, fmt.Sprintf("can%d", random.IntN(4)), &f)
	}
	path := filepath.Join(b.TempDir(), "capture.log")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.Fatal(err)
	}
	var wanted []can.Filter
	for i := range 40 {
		wanted = append(wanted, can.Exact(can.ID(i*50)))
	}
	for _, bb := range []struct {
		name    string
		filters []can.Filter
	}{{"all", nil}, {"filtered", wanted}} {
		b.Run(bb.name, func(b *testing.B) {
			var reading, running time.Duration
			b.ReportAllocs()
			for b.Loop() {
				start := time.Now()
				r, err := can.OpenFile(path)
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				var f can.Frame
				for err = r.Next(&f); err == nil; err = r.Next(&f) {
					n++
				}
				if r.Close(); n != frames || !errors.Is(err, io.EOF) {
					b.Fatalf("read %d frames: %v", n, err)
				}
				reading += time.Since(start)

				start = time.Now()
				var buses []Bus
				for i := range 4 {
					buses = append(buses, Bus{Name: fmt.Sprintf("can%d", i), URL: "replay://" + path + "?speed=0", Filters: bb.filters})
				}
				s, err := Open(Config{Buses: buses, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				n = 0
				if err := s.Run(b.Context(), func(*can.Frame) { n++ }); err != nil || n != int(s.Received()) || n == 0 || bb.filters == nil && n != frames {
					b.Fatalf("ran %d frames of %d: %v", n, s.Received(), err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				running += time.Since(start)
			}
			b.ReportMetric(float64(b.N)*frames/running.Seconds(), "frames/s")
			b.ReportMetric(reading.Seconds()/running.Seconds(), "x-reader")
		})
	}
}
