// Package capture opens captures of CAN buses, from files or from a stream that may be live, and keeps how they write times: what is
// said of a frame is then found in the capture by its time as text.
//
// Memory does not depend on the length of a capture. The package never waits for a silent bus once its context has ended, and not
// for a second line before the first is delivered. It refuses a stream that is not there and gzip whose head is damaged; frames are
// package can's, and so is what is refused of a line.
package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"rawstone/pkg/can"
)

// A Reader reads the frames of a capture. It is not safe for concurrent use.
type Reader struct {
	*can.Reader
	// Spelling is how the capture writes times.
	Spelling Spelling

	file *os.File // nil for a stream
}

// Open opens candump text, plain or gzip (by its first two bytes), at path, or of stdin where path is "-". Close it. When ctx ends,
// Open and every Next return its error.
func Open(ctx context.Context, path string, stdin io.Reader) (*Reader, error) {
	r, src := &Reader{}, stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("cannot open capture: %w", err)
		}
		r.file, src = file, file
	} else if src == nil {
		return nil, errors.New("cannot read capture: there is no standard input")
	}
	text, err := can.Unpack(path, &stoppable{ctx: ctx, src: src, buf: make([]byte, 32<<10), done: make(chan readResult, 1)})
	if err != nil {
		r.Close()
		return nil, err
	}
	head, _ := text.Peek(text.Buffered()) // what is there: a live stream is not waited for
	r.Reader, r.Spelling = can.NewReader(text), learn(head)
	return r, nil
}

// Close closes the file; it leaves a stream to its owner.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
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
