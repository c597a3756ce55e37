package can

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
)

// capture is a synthetic capture of n classic frames.
func capture(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var text []byte
	for i := range n {
		f := Frame{Time: 1_600_000_000_000_000_000 + int64(i)*250_000, ID: ID(random.IntN(0x800)), Len: 8}
		for j := range f.Len {
			f.Data[j] = byte(random.Uint32())
		}
		text = AppendLine(text, "can"+strconv.Itoa(random.IntN(2)), &f)
	}
	return text
}

// naive is the reader one writes first: the yardstick of BenchmarkReader.
func naive(line string, f *Frame) error {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return errors.New("three fields expected")
	}
	seconds, err := strconv.ParseFloat(strings.Trim(fields[0], "()"), 64)
	if err != nil {
		return err
	}
	id, data, _ := strings.Cut(fields[2], "#")
	n, err := strconv.ParseUint(id, 16, 32)
	if err != nil {
		return err
	}
	payload, err := hex.DecodeString(data)
	if err != nil {
		return err
	}
	f.Time, f.ID = int64(seconds*1e9), ID(n)
	f.SetPayload(payload)
	return nil
}

// BenchmarkReader reads a capture, and in the same run reads it as one writes it first: x-naive is how many times longer that takes.
// They take turns after every 2000 lines, so that a machine that is busy with other work is so for both.
func BenchmarkReader(b *testing.B) {
	const lines = 2000
	text := capture(lines)
	var f Frame
	var ours, theirs time.Duration
	source := bytes.NewReader(text)
	r := NewReader(source)
	b.ResetTimer()
	for b.Loop() {
		start := time.Now()
		source.Reset(text)
		r.err = nil // the end of the text before
		read := 0
		for r.Next(&f) == nil {
			read++
		}
		middle := time.Now()
		scanner := bufio.NewScanner(bytes.NewReader(text))
		for scanner.Scan() {
			if err := naive(scanner.Text(), &f); err != nil {
				b.Fatal(err)
			}
			read--
		}
		ours += middle.Sub(start)
		theirs += time.Since(middle)
		if read != 0 {
			b.Fatalf("the reader read %d lines more", read)
		}
	}
	n := float64(b.N) * lines
	b.ReportMetric(float64(theirs)/float64(ours), "x-naive")
	b.ReportMetric(n/ours.Seconds(), "frames/s")
	b.ReportMetric(n/theirs.Seconds(), "naive-frames/s")
	b.ReportMetric(0, "ns/op") // of both sides together, which says nothing
}

func BenchmarkAppendLine(b *testing.B) {
	f := frame(1627274470529450000, 0, 0x123, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	var line []byte
	for b.Loop() {
		line = AppendLine(line[:0], "can0", &f)
	}
}
