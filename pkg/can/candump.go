package can

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	// MaxLine is the longest line a Reader accepts, in bytes without the line end; the longest frame candump writes has 172.
	MaxLine = 512
	// MaxBuses is the number of bus names a Reader keeps.
	MaxBuses = 255

	readerBuffer = 32 << 10
)

// A Reader reads frames from candump's log format (`candump -L`, can-utils), one line a frame:
//
//	(1627274470.529450) can2 006#020000F0FF072000     standard identifier, three hex digits
//	(1627274470.529450) can2 18DAF110#023E00          extended identifier, eight hex digits
//	(1627274470.529450) can2 7DF#R8                   remote frame of length 8
//	(1627274470.529450) can2 123##1AABBCC             CAN FD, one hex digit of flags: bit rate switch 1, error state 2
//
// An eight-digit identifier with bit 29 set is an error frame. A direction mark (T or R) after the frame, spaces around the
// line, CR LF, blank lines and lines that begin with # or ; are accepted and carry nothing. Every other line is broken: it is
// counted and skipped, and the next one is read. Next does not allocate, and memory does not depend on the input.
//
// A Reader is not safe for concurrent use.
type Reader struct {
	src    io.Reader
	closer io.Closer // the file, or nil

	buf      []byte // buf[pos:end] is read and not yet parsed
	pos, end int
	err      error // why src ended
	line     int   // number of the line last taken
	skipping bool  // the rest of a line that is too long follows

	buses  []string
	guess  [16]uint8 // by the low bits of a name's last byte, which usually numbers the bus: where it was found last
	broken int
	first  string
}

// NewReader returns a Reader of the plain text in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{src: r, buf: make([]byte, readerBuffer)}
}

// OpenFile opens the capture at path, plain or gzip (by its first two bytes, whatever it is called). Close it.
func OpenFile(path string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open capture: %w", err)
	}
	text, err := Unpack(path, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	r := NewReader(text)
	r.closer = file
	return r, nil
}

// Unpack returns the text of a capture that is plain or gzip (by its first two bytes), which name stands for in errors. What came
// of the text with the first read of it is buffered, so that a look at it does not wait for a live source.
func Unpack(name string, capture io.Reader) (*bufio.Reader, error) {
	src := bufio.NewReaderSize(capture, readerBuffer)
	magic, err := src.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read capture %s: %w", name, err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return src, nil
	}
	unpacked, err := gzip.NewReader(src)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack capture %s: %w", name, err)
	}
	text := bufio.NewReaderSize(unpacked, readerBuffer)
	text.Peek(1) // an error comes again with the first Read
	return text, nil
}

// Close closes the file of OpenFile; it does nothing for NewReader.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

// Next reads the next frame into f. It returns io.EOF at the end, and any other error of the source as it came (a gzip file
// cut short is io.ErrUnexpectedEOF) after every whole line before it. After an error f holds nothing useful, and every later
// call returns that error again.
func (r *Reader) Next(f *Frame) error {
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		line = trim(line)
		if len(line) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		reason := r.parse(line, f)
		if reason == "" {
			return nil
		}
		r.refuse(reason)
	}
}

// Broken returns how many lines were skipped as broken, and a sentence with number and reason of the first of them, empty
// when there is none.
func (r *Reader) Broken() (n int, first string) { return r.broken, r.first }

// Buses returns the names of the buses seen so far, in order of first appearance: Frame.Bus is an index into it.
func (r *Reader) Buses() []string { return slices.Clone(r.buses) }

// next returns the next line that is short enough, without its line feed; it is valid until the next call.
func (r *Reader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf[r.pos:r.end], '\n'); i >= 0 {
			line := r.buf[r.pos : r.pos+i]
			r.pos += i + 1
			if r.skipping {
				r.skipping = false
				continue
			}
			if r.line++; !fits(line) {
				r.refuse(tooLong)
				continue
			}
			return line, nil
		}
		if r.end-r.pos > MaxLine+1 || r.skipping {
			if !r.skipping {
				r.skipping = true
				r.line++
				r.refuse(tooLong)
			}
			r.pos = r.end
		}
		if r.err != nil {
			// Text without a line end is a line at a clean end only: after a failure it may be half a frame that looks whole.
			if r.err == io.EOF && r.pos < r.end {
				line := r.buf[r.pos:r.end]
				r.pos = r.end
				if r.line++; fits(line) {
					return line, nil
				}
				r.refuse(tooLong)
			}
			return nil, r.err
		}
		r.fill()
	}
}

const tooLong = "it is longer than 512 bytes"

func fits(line []byte) bool {
	return len(line) <= MaxLine || len(bytes.TrimSuffix(line, []byte{'\r'})) <= MaxLine
}

// fill moves the unparsed bytes to the front and reads once or more until something came or the source ended.
func (r *Reader) fill() {
	r.end = copy(r.buf, r.buf[r.pos:r.end])
	r.pos = 0
	for range 100 {
		n, err := r.src.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			n, err = 0, io.ErrNoProgress
		}
		r.end += n
		if err != nil {
			r.err = err
		}
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}

func (r *Reader) refuse(reason string) {
	r.broken++
	if r.broken == 1 {
		r.first = fmt.Sprintf("line %d is skipped: %s", r.line, reason)
	}
}

// parse reads one trimmed line into f and returns why it cannot, or "".
func (r *Reader) parse(line []byte, f *Frame) (reason string) {
	*f = Frame{}
	rest, reason := parseTime(line, f)
	if reason != "" {
		return reason
	}
	rest = trimLeft(rest)
	i := 0
	for i < len(rest) && rest[i] > ' ' && rest[i] < 0x7f {
		i++
	}
	bus, rest := rest[:i], rest[i:]
	if len(bus) == 0 || len(rest) == 0 || !isBlank(rest[0]) {
		return "a bus name of printable characters must follow the time"
	}
	rest = trimLeft(rest)
	if rest, reason = parseFrame(rest, f); reason != "" {
		return reason
	}
	if mark := trimLeft(rest); len(mark) > 1 || len(mark) == 1 && mark[0] != 'T' && mark[0] != 'R' || len(mark) == len(rest) && len(rest) > 0 {
		return "only a direction, T or R, may follow the frame"
	}
	return r.setBus(bus, f)
}

// setBus looks a name up and, last of all so that a broken line does not use up a place, adds it.
func (r *Reader) setBus(name []byte, f *Frame) (reason string) {
	guess := &r.guess[name[len(name)-1]&15]
	if i := *guess; int(i) < len(r.buses) && string(name) == r.buses[i] {
		f.Bus = i
		return ""
	}
	for i, known := range r.buses {
		if string(name) == known {
			f.Bus, *guess = uint8(i), uint8(i)
			return ""
		}
	}
	if len(r.buses) == MaxBuses {
		return "it names one bus more than the 255 a capture may have"
	}
	f.Bus = uint8(len(r.buses))
	r.buses = append(r.buses, string(name))
	return ""
}
