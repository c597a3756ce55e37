package decode

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"rawstone/pkg/can"
)

// A capture is a Reader of a file or a stream.
type capture struct {
	*can.Reader
	file *os.File // nil for a stream
}

// Close closes the file.
func (c capture) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// openCapture opens candump text, plain or gzip (by its first two bytes), and learns how it spells times.
func openCapture(ctx context.Context, path string, stdin io.Reader) (c capture, s spelling, err error) {
	src := stdin
	if path != "-" {
		if c.file, err = os.Open(path); err != nil {
			return c, s, fmt.Errorf("cannot open capture: %w", err)
		}
		src = c.file
	} else if src == nil {
		return c, s, errors.New("cannot read capture: there is no standard input")
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	plain := bufio.NewReaderSize(&stoppable{ctx: ctx, src: src, buf: make([]byte, 32<<10), done: make(chan readResult, 1)}, 32<<10)
	magic, err := plain.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return c, s, fmt.Errorf("cannot read capture %s: %w", path, err)
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(plain)
		if err != nil {
			return c, s, fmt.Errorf("cannot unpack capture %s: %w", path, err)
		}
		plain = bufio.NewReaderSize(unpacked, 32<<10)
		plain.Peek(1) // an error comes again with the first Read
	}
	head, _ := plain.Peek(plain.Buffered()) // what is there: a live stream is not waited for
	c.Reader = can.NewReader(plain)
	return c, learn(head), nil
}

// A stoppable is a source whose Read ends with ctx, also while it waits for a bus where nobody speaks: a read of a pipe or a
// terminal cannot be called back. One that is left waiting ends with its file, or with the program.
type stoppable struct {
	ctx  context.Context
	src  io.Reader
	buf  []byte // of the read under way, which may outlive the call
	done chan readResult
}

type readResult struct {
	n   int
	err error
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	buf := s.buf[:min(len(p), len(s.buf))]
	go func() {
		n, err := s.src.Read(buf)
		s.done <- readResult{n, err}
	}()
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case r := <-s.done:
		return copy(p, buf[:r.n]), r.err
	}
}

// A spelling is how a capture writes times: seconds of at least so many digits, zeros first, and a fraction of so many.
type spelling struct{ seconds, fraction int }

// learn returns the spelling of the first time in text, or candump's own when there is none. One program writes a capture, and
// writes all of it alike.
func learn(text []byte) spelling {
	candump := spelling{10, 6}
	for line := range bytes.Lines(text) {
		line, ok := bytes.CutPrefix(bytes.TrimLeft(line, " \t\r"), []byte("("))
		if !ok {
			continue
		}
		stamp, _, ok := bytes.Cut(line, []byte(")"))
		if !ok {
			continue
		}
		seconds, fraction, ok := bytes.Cut(stamp, []byte("."))
		if !ok || !digits(seconds) || !digits(fraction) || len(fraction) > 9 || len(seconds) > can.MaxLine {
			continue
		}
		s := spelling{1, len(fraction)}
		if seconds[0] == '0' || len(seconds) == candump.seconds {
			s.seconds = len(seconds)
		}
		return s
	}
	return candump
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// append appends a time in nanoseconds since 1970; one that needs more digits of fraction than the spelling has gets all nine.
func (s spelling) append(dst []byte, nanos int64) []byte {
	var text [20]byte
	seconds := strconv.AppendInt(text[:0], nanos/1e9, 10)
	for range s.seconds - len(seconds) {
		dst = append(dst, '0')
	}
	dst = append(append(dst, seconds...), '.')
	fraction := strconv.AppendInt(text[:0], 1e9+nanos%1e9, 10)[1:]
	if digits := bytes.TrimRight(fraction, "0"); len(digits) <= s.fraction {
		fraction = fraction[:s.fraction]
	}
	return append(dst, fraction...)
}
