package can

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// readAll reads to the end and fails on anything but io.EOF.
func readAll(t *testing.T, r *Reader) []Frame {
	t.Helper()
	var frames []Frame
	for {
		var f Frame
		err := r.Next(&f)
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatalf("frame %d: %v", len(frames), err)
		}
		frames = append(frames, f)
	}
}

func frame(time int64, bus uint8, id ID, flags Flags, data ...byte) Frame {
	f := Frame{Time: time, Bus: bus, ID: id, Flags: flags, Len: uint8(len(data))}
	copy(f.Data[:], data)
	return f
}

func TestReaderForms(t *testing.T) {
	t.Parallel()
	long := bytes.Repeat([]byte{0xA5}, 64)
	remote := frame(6_000_000_000, 0, 0x7DF, Remote)
	remote.Len = 3
	tests := []struct {
		line string
		want Frame
	}{
		{"(1627274470.529450) can0 123#DEADBEEF", frame(1627274470529450000, 0, 0x123, 0, 0xDE, 0xAD, 0xBE, 0xEF)},
		{"(0000000820.298000) can0 085#7c33800047e07c7f", frame(820298000000, 0, 0x085, 0, 0x7c, 0x33, 0x80, 0, 0x47, 0xe0, 0x7c, 0x7f)},
		{"(1.000000) can0 000000A5#", frame(1_000_000_000, 0, 0xA5|Extended, 0)},
		{"(1.000000) can0 1FFFFFFF#00", frame(1_000_000_000, 0, 0x1FFFFFFF|Extended, 0, 0)},
		{"(1.5) can0 7FF#01", frame(1_500_000_000, 0, 0x7FF, 0, 1)},
		{"(1.123456789) can0 001#01", frame(1_123_456_789, 0, 1, 0, 1)},
		{"(6.000000) can0 7DF#R", frame(6_000_000_000, 0, 0x7DF, Remote)},
		{"(6.000000) can0 7DF#R3", remote},
		{"(6.000000) can0 123##0", frame(6_000_000_000, 0, 0x123, FD)},
		{"(6.000000) can0 123##1AABB", frame(6_000_000_000, 0, 0x123, FD|BitRateSwitch, 0xAA, 0xBB)},
		{"(6.000000) can0 123##2AA", frame(6_000_000_000, 0, 0x123, FD|ErrorState, 0xAA)},
		{"(6.000000) can0 123##7AA", frame(6_000_000_000, 0, 0x123, FD|BitRateSwitch|ErrorState, 0xAA)},
		{"(6.000000) can0 00000123##3" + hex.EncodeToString(long), frame(6_000_000_000, 0, 0x123|Extended, FD|BitRateSwitch|ErrorState, long...)},
		{"(6.000000) can0 20000004#0004000000000000", frame(6_000_000_000, 0, 4|Extended, Error, 0, 4, 0, 0, 0, 0, 0, 0)},
		{"(6.000000) can0 123#11 T", frame(6_000_000_000, 0, 0x123, 0, 0x11)},
		{"(6.000000) can0 123#11 R\r", frame(6_000_000_000, 0, 0x123, 0, 0x11)},
		{"(6.000000) can0 123#R R", frame(6_000_000_000, 0, 0x123, Remote)},
		{"  (6.000000)   vcan-name.7\t123#11  ", frame(6_000_000_000, 0, 0x123, 0, 0x11)},
	}
	for _, test := range tests {
		for _, end := range []string{"", "\n", "\r\n"} {
			r := NewReader(strings.NewReader(test.line + end))
			if diff := cmp.Diff([]Frame{test.want}, readAll(t, r)); diff != "" {
				_, first := r.Broken()
				t.Errorf("%q: %s\n%s", test.line+end, first, diff)
			}
		}
	}
}

func TestReaderBrokenLines(t *testing.T) {
	t.Parallel()
	tests := []struct{ line, reason string }{
		{"1.0 can0 123#00", "must begin with a time"},
		{"(1.0", "must begin with a time"},
		{"(.0) can0 123#00", "must begin with a time"},
		{"(1.) can0 123#00", "must begin with a time"},
		{"(-1.0) can0 123#00", "must begin with a time"},
		{"(1.0000000001) can0 123#00", "must begin with a time"},
		{"(9223372036.0) can0 123#00", "after the year 2262"},
		{"(1.0)  ", "bus name"},
		{"(1.0) can0", "bus name"},
		{"(1.0) c\x01n0 123#00", "bus name"},
		{"(1.0) can0 ", "bus name"},
		{"(1.0) can0 12#00", "3 hex digits"},
		{"(1.0) can0 1234#00", "3 hex digits"},
		{"(1.0) can0 123456789#00", "3 hex digits"},
		{"(1.0) can0 800#00", "above 7FF"},
		{"(1.0) can0 40000000#00", "above 1FFFFFFF"},
		{"(1.0) can0 123", "# must follow"},
		{"(1.0) can0 123 [2] 00 00", "# must follow"},
		{"(1.0) can0 123#0", "odd number"},
		{"(1.0) can0 123#001", "odd number"},
		{"(1.0) can0 123#112233445566778899", "more data"},
		{"(1.0) can0 123##0" + strings.Repeat("00", 65), "more data"},
		{"(1.0) can0 123##", "flags must follow"},
		{"(1.0) can0 123##G", "flags must follow"},
		{"(1.0) can0 123###00", "flags must follow"},
		{"(1.0) can0 123##01", "odd number"},
		{"(1.0) can0 123#0G", "odd number"},
		{"(1.0) can0 123#GG", "only a direction"},
		{"(1.0) can0 123#R9", "only a direction"},
		{"(1.0) can0 123#00T", "only a direction"},
		{"(1.0) can0 123#00 X", "only a direction"},
		{"(1.0) can0 123#00 T T", "only a direction"},
		{"(1.0) can0 20000001##000", "error frame"},
		{"(1.0) can0 20000001#R", "error frame"},
		{"(1.0) can0 123#" + strings.Repeat(" ", MaxLine) + "T", "longer than 512"},
		{"\x00\xff\xfe", "must begin with a time"},
	}
	good := "(2.0) can0 321#0102\n"
	want := []Frame{frame(2_000_000_000, 0, 0x321, 0, 1, 2)}
	for _, test := range tests {
		r := NewReader(strings.NewReader("# a comment\n\n; another\n" + test.line + "\n" + good))
		if diff := cmp.Diff(want, readAll(t, r)); diff != "" {
			t.Errorf("%q: the good line after it: %s", test.line, diff)
		}
		n, first := r.Broken()
		if n != 1 || !strings.HasPrefix(first, "line 4 is skipped: ") || !strings.Contains(first, test.reason) {
			t.Errorf("%q: %d broken, %q; want 1, line 4, %q", test.line, n, first, test.reason)
		}
	}
}

// TestWords puts every byte at every place of the eight that decimal8 and hex8 read at once.
func TestWords(t *testing.T) {
	t.Parallel()
	for place := range 8 {
		for c := range 256 {
			word := []byte("93716042")
			word[place] = byte(c)
			want, err := strconv.ParseUint(string(word), 10, 64)
			if got, ok := decimal8(binary.LittleEndian.Uint64(word)); ok != (err == nil) || ok && got != want {
				t.Errorf("decimal8(%q) = %d, %t", word, got, ok)
			}
			copy(word, "9bAf6Ec2")
			word[place] = byte(c)
			bytes, err := hex.DecodeString(string(word))
			if got, ok := hex8(binary.LittleEndian.Uint64(word)); ok != (err == nil) || ok && got != binary.LittleEndian.Uint32(bytes) {
				t.Errorf("hex8(%q) = %x, %t", word, got, ok)
			}
		}
	}
}

func TestReaderBounds(t *testing.T) {
	t.Parallel()
	line := func(n int) string { // a valid line of n bytes
		const head, tail = "(1.0) can0", "123#00"
		return head + strings.Repeat(" ", n-len(head)-len(tail)) + tail
	}
	text := line(MaxLine) + "\n" + line(MaxLine) + "\r\n" + line(MaxLine+1) + "\n" + line(5<<20) + "\n" + line(40) + "\n" +
		line(200_000)
	for name, src := range map[string]io.Reader{
		"whole": strings.NewReader(text), "bytes": iotest.OneByteReader(strings.NewReader(text)),
		"halves": iotest.HalfReader(strings.NewReader(text)), "data with EOF": iotest.DataErrReader(strings.NewReader(text)),
	} {
		r := NewReader(src)
		if n := len(readAll(t, r)); n != 3 {
			t.Errorf("%s: %d frames, want 3", name, n)
		}
		if n, first := r.Broken(); n != 3 || !strings.HasPrefix(first, "line 3 ") {
			t.Errorf("%s: %d broken, %q; want 3 from line 3", name, n, first)
		}
		if r.line != 6 || len(r.buf) != readerBuffer {
			t.Errorf("%s: %d lines in a buffer of %d, want 6 in %d", name, r.line, len(r.buf), readerBuffer)
		}
	}
	// At a clean end without line feed the limit is the same.
	r := NewReader(strings.NewReader(line(MaxLine + 1)))
	if n := len(readAll(t, r)); n != 0 || r.broken != 1 {
		t.Errorf("last line of %d bytes: %d frames, %d broken", MaxLine+1, n, r.broken)
	}
}

func TestReaderBuses(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("(1.0) nowhere 12#00\n") // broken: its bus takes no place
	for i := range MaxBuses + 1 {
		fmt.Fprintf(&text, "(1.0) can%d 123#00\n", i)
	}
	text.WriteString("(1.0) can3 123#00\n")
	r := NewReader(strings.NewReader(text.String()))
	frames := readAll(t, r)
	if len(frames) != MaxBuses+1 || frames[MaxBuses-1].Bus != MaxBuses-1 || frames[MaxBuses].Bus != 3 {
		t.Errorf("%d frames", len(frames))
	}
	if buses := r.Buses(); len(buses) != MaxBuses || buses[0] != "can0" || buses[3] != "can3" {
		t.Errorf("buses %q", buses)
	}
	if n, first := r.Broken(); n != 2 || !strings.HasPrefix(first, "line 1 ") {
		t.Errorf("%d broken, %q", n, first)
	}
}

func TestReaderSourceFails(t *testing.T) {
	t.Parallel()
	failure := errors.New("the disk is gone")
	text := "(1.0) can0 123#00\n(2.0) can0 123#0011"
	r := NewReader(io.MultiReader(strings.NewReader(text), iotest.ErrReader(failure)))
	var f Frame
	if err := r.Next(&f); err != nil || f.ID != 0x123 {
		t.Fatal(err)
	}
	for range 2 { // and the half line is no frame
		if err := r.Next(&f); err != failure {
			t.Errorf("error %v, want %v", err, failure)
		}
	}
	if err := NewReader(idle{}).Next(&f); err != io.ErrNoProgress {
		t.Errorf("a source that gives nothing: %v", err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

func TestOpenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := strings.Repeat("(1.0) can0 123#00\n", 1000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	io.WriteString(w, text)
	w.Close()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, path := range []string{write("plain.gz", []byte(text)), write("packed.log", packed.Bytes())} {
		r, err := OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(readAll(t, r)); n != 1000 {
			t.Errorf("%s: %d frames", path, n)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	empty, err := OpenFile(write("empty", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if n := len(readAll(t, empty)); n != 0 {
		t.Errorf("empty file: %d frames", n)
	}
	cut, err := OpenFile(write("cut", packed.Bytes()[:packed.Len()-9]))
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	var f Frame
	for err == nil {
		err = cut.Next(&f)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("gzip cut short: %v", err)
	}
	for _, path := range []string{filepath.Join(dir, "absent"), dir, write("bad", []byte{0x1f, 0x8b, 9})} {
		if r, err := OpenFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: reader %v, error %v", path, r, err)
		}
	}
}

func TestAppendLine(t *testing.T) {
	t.Parallel()
	remote := frame(1, 0, 0x7DF, Remote)
	remote.Len = 8
	for want, f := range map[string]Frame{
		"(1627274470.529450) can2 006#020000F0\n":  frame(1627274470529450999, 0, 6, 0, 2, 0, 0, 0xF0),
		"(0000000820.000001) can2 000000A5#\n":     frame(820_000_001_000, 0, 0xA5|Extended, 0),
		"(0000000000.000000) can2 7DF#R8\n":        remote,
		"(0000000000.000000) can2 7DF#R\n":         frame(0, 0, 0x7DF, Remote),
		"(0000000000.000000) can2 123##3AA\n":      frame(-5, 0, 0x123, FD|BitRateSwitch|ErrorState, 0xAA),
		"(0000000000.000000) can2 20000004#0010\n": frame(0, 0, 4|Extended, Error, 0, 0x10),
		"(9223372036.854775) can2 123#\n":          frame(1<<63-1, 0, 0x123, 0),
	} {
		if got := string(AppendLine([]byte("x"), "can2", &f)); got != "x"+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	text := []byte(strings.Repeat("(1627274470.529450) can2 006#020000F0FF072000\n(1.0) broken\n(1.0) can1 12345678##1"+strings.Repeat("00", 48)+"\n", 3000))
	r := NewReader(bytes.NewReader(text))
	var f Frame
	for range 4 { // learn the buses, meet the first broken line
		if err := r.Next(&f); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(3000, func() {
		if err := r.Next(&f); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Next allocates %v times", n)
	}
	line := make([]byte, 0, MaxLine)
	if n := testing.AllocsPerRun(100, func() { line = AppendLine(line[:0], "can0", &f) }); n != 0 {
		t.Errorf("AppendLine allocates %v times", n)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("(1627274470.529450) can2 006#020000F0FF072000\n(1.0) can1 12345678##1AABB T\r\n\n# c\n(1.0) can1 7DF#R3\n"))
	f.Add([]byte("(1.123456789) a 20000004#00\n(1.0) b 123##FAA\n;\n(2.0) a 123#R"))
	f.Add([]byte("(0.0) can0 123#00\n" + strings.Repeat("x", 2000) + "\n(1.0) can0 123#00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := NewReader(bytes.NewReader(text))
		var accepted []Frame
		var lines []byte
		for {
			var f Frame
			if err := r.Next(&f); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if int(f.Bus) >= len(r.buses) || !f.ID.Valid() || f.Len > MaxData || f.Flags&FD == 0 && f.Len > 8 {
				t.Fatalf("frame out of range: %+v", f)
			}
			lines = AppendLine(lines, r.buses[f.Bus], &f)
			f.Time -= f.Time % 1000
			accepted = append(accepted, f)
		}
		again := NewReader(bytes.NewReader(lines))
		if diff := cmp.Diff(accepted, readAll(t, again)); diff != "" {
			t.Error(diff)
		}
		if n, first := again.Broken(); n != 0 {
			t.Errorf("%d of our own lines are broken: %s", n, first)
		}
		if diff := cmp.Diff(r.Buses(), again.Buses()); diff != "" {
			t.Error(diff)
		}
	})
}
