package statement

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The form of a statement is a CBOR sequence (RFC 8742) of byte strings, each of which is the encoding of a Record: the length stands before
// the bytes, so that nothing is read before it is bounded.

const (
	byteString = 0x40 // CBOR's major type 2
	oneByte    = byteString | 24
	twoBytes   = byteString | 25
)

// A Writer writes a statement. What it has written is buffered until Flush.
type Writer struct{ w *bufio.Writer }

// NewWriter returns a writer of a statement to w.
func NewWriter(w io.Writer) *Writer { return &Writer{bufio.NewWriter(w)} }

// Write writes the next record.
func (w *Writer) Write(r *Record) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	var head []byte
	switch n := len(b); {
	case n < 24:
		head = []byte{byteString | byte(n)}
	case n < 1<<8:
		head = []byte{oneByte, byte(n)}
	default:
		head = binary.BigEndian.AppendUint16([]byte{twoBytes}, uint16(n))
	}
	if _, err = w.w.Write(head); err == nil {
		_, err = w.w.Write(b)
	}
	if err != nil {
		return fmt.Errorf("cannot write statement: %w", err)
	}
	return nil
}

// Flush writes what is buffered.
func (w *Writer) Flush() error {
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("cannot write statement: %w", err)
	}
	return nil
}

// A Reader reads a statement and verifies nothing: that is Verify's part.
type Reader struct {
	r *bufio.Reader
	n uint64
}

// NewReader returns a reader of the statement in r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next returns the next record, or io.EOF after the last.
func (r *Reader) Next() (*Record, error) {
	rec, err := r.next()
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("cannot read statement: record %d: %w", r.n, err)
	}
	r.n++
	return rec, err
}

func (r *Reader) next() (*Record, error) {
	first, err := r.r.ReadByte()
	if err != nil {
		return nil, err
	}
	n, least := int(first)-byteString, 0
	switch {
	case first == oneByte:
		n, least, err = r.length(1, 24)
	case first == twoBytes:
		n, least, err = r.length(2, 1<<8)
	case n < 0 || n >= 24:
		return nil, errors.New("it is no byte string of fewer than 65,536 bytes")
	}
	if err != nil {
		return nil, err
	}
	if n < least {
		return nil, errors.New("its length is not in shortest form")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r.r, b); err != nil {
		return nil, early(err)
	}
	return decode(b)
}

func (r *Reader) length(bytes, least int) (int, int, error) {
	var b [2]byte
	if _, err := io.ReadFull(r.r, b[2-bytes:]); err != nil {
		return 0, 0, early(err)
	}
	return int(binary.BigEndian.Uint16(b[:])), least, nil
}

func early(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the statement ends within it")
	}
	return err
}
