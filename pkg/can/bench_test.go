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

func BenchmarkReader(b *testing.B) {
	const lines = 20_000
	text := capture(lines)
	var f Frame
	var reader float64 // ns a line
	b.Run("reader", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text) / lines))
		for n := 0; n < b.N; {
			r := NewReader(bytes.NewReader(text))
			for ; n < b.N && r.Next(&f) == nil; n++ {
			}
		}
		reader = float64(b.Elapsed()) / float64(b.N)
	})
	b.Run("naive", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(text) / lines))
		for n := 0; n < b.N; {
			scanner := bufio.NewScanner(bytes.NewReader(text))
			for ; n < b.N && scanner.Scan(); n++ {
				if err := naive(scanner.Text(), &f); err != nil {
					b.Fatal(err)
				}
			}
		}
		if reader > 0 {
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/reader, "x-reader") // how many times longer than the reader
		}
	})
}

func BenchmarkAppendLine(b *testing.B) {
	f := frame(1627274470529450000, 0, 0x123, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	var line []byte
	for b.Loop() {
		line = AppendLine(line[:0], "can0", &f)
	}
}
