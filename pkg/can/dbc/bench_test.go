package dbc

import (
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	einride "go.einride.tech/can"
	"go.einride.tech/can/pkg/descriptor"

	"rawstone/pkg/can"
	"rawstone/pkg/capturetest"
)

// drive returns the frames of the recorded drive of that name, and every signal of its DBC file as wants.
func drive(b *testing.B, name string) (*File, []Want, []can.Frame) {
	b.Helper()
	dir := capturetest.Dir(b)
	file, _ := parseFile(b, filepath.Join(dir, name+".dbc"))
	var wants []Want
	for _, m := range file.Messages {
		for _, s := range m.Signals {
			wants = append(wants, Want{Signal: m.Name + "." + s.Name, Tag: len(wants)})
		}
	}
	log, err := can.OpenFile(filepath.Join(dir, name+".candump.log.gz"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	var frames []can.Frame
	for {
		var f can.Frame
		if err := log.Next(&f); errors.Is(err, io.EOF) {
			return file, wants, frames
		} else if err != nil {
			b.Fatal(err)
		}
		frames = append(frames, f)
	}
}

// A peerMessage is what einride's compiler makes of a message: descriptors, and the one that switches the others.
type peerMessage struct {
	signals []*descriptor.Signal
	mux     *descriptor.Signal
}

// peers compiles file to einride's descriptors, by identifier in a map, as a program that uses them would keep them: their own
// Database.Message searches from one end to the other and would make a bad peer. Their compiler is internal to their tools; it fills in the
// same fields. Only what a descriptor can say is there: 8 bytes, one level of multiplexing.
func peers(b *testing.B, file *File) map[uint32]*peerMessage {
	b.Helper()
	messages := make(map[uint32]*peerMessage)
	for _, m := range file.Messages {
		if m.ID > can.MaxStandard || m.Length > 8 {
			continue
		}
		peer := &peerMessage{}
		for _, s := range m.Signals {
			d := &descriptor.Signal{Name: s.Name, Start: uint8(s.Start), Length: uint8(s.Length), IsBigEndian: s.BigEndian, IsSigned: s.Signed,
				Scale: s.Scale, Offset: s.Offset, Min: s.Min, Max: s.Max, IsMultiplexer: s.Multiplexor}
			if s.Mux != nil {
				d.IsMultiplexed, d.MultiplexerValue = true, uint(s.Mux.Ranges[0].From)
			}
			if s.Multiplexor {
				peer.mux = d
			}
			peer.signals = append(peer.signals, d)
		}
		messages[m.ID.Raw()] = peer
	}
	return messages
}

// BenchmarkDecode decodes all signals of a recorded drive, and in the same run decodes the same frames with einride's
// descriptors: x-einride is how many times longer that takes. The frames are in memory, in the form that each side takes, and are
// decoded in blocks of which each is decoded several times, by the one and then by the other: frames that were just received are
// in the processor's first cache, which holds blocks of 64, and a machine that is busy with other work is so for both.
func BenchmarkDecode(b *testing.B) {
	file, wants, frames := drive(b, "mustang")
	plan, err := Compile(file, wants)
	if err != nil {
		b.Fatal(err)
	}
	messages := peers(b, file)
	type peerFrame struct {
		id   uint32
		data einride.Data
	}
	foreign := make([]peerFrame, len(frames))
	for i := range frames {
		foreign[i].id = frames[i].ID.Raw()
		copy(foreign[i].data[:], frames[i].Payload())
	}
	readings := make([]Reading, 0, 256)
	var ours, theirs time.Duration
	var read, unmarshalled int
	sum := 0.0
	b.ReportAllocs()
	b.ResetTimer()
	const block, times = 64, 8
	for b.Loop() {
		for first := 0; first < len(frames); first += block {
			last := min(first+block, len(frames))
			start := time.Now()
			for range times {
				for i := first; i < last; i++ {
					readings = plan.Decode(&frames[i], readings[:0])
					read += len(readings)
				}
			}
			middle := time.Now()
			for range times {
				for i := first; i < last; i++ {
					f := &foreign[i]
					m, ok := messages[f.id]
					if !ok {
						continue
					}
					var mux uint
					if m.mux != nil {
						mux = uint(m.mux.UnmarshalUnsigned(f.data))
					}
					for _, s := range m.signals {
						if s.IsMultiplexed && s.MultiplexerValue != mux {
							continue
						}
						sum += s.UnmarshalPhysical(f.data)
						unmarshalled++
					}
				}
			}
			ours += middle.Sub(start)
			theirs += time.Since(middle)
		}
	}
	_ = sum
	if read != unmarshalled {
		b.Fatalf("%d readings, einride's descriptors make %d", read, unmarshalled)
	}
	n := float64(b.N) * times * float64(len(frames))
	b.ReportMetric(float64(theirs)/float64(ours), "x-einride")
	b.ReportMetric(n/ours.Seconds(), "frames/s")
	b.ReportMetric(n/theirs.Seconds(), "einride-frames/s")
	b.ReportMetric(float64(read)/n, "signals/frame")
	b.ReportMetric(0, "ns/op") // of both sides together, which says nothing
}
