package ceremony

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"rawstone/pkg/wire"
)

const (
	// magic opens every file and names its version.
	magic = "RWSTMPC1"
	// phaseSeal is the phase of the last file, after the two that people contribute to.
	phaseSeal = 3
	// maxSeq bounds the contributions to one phase.
	maxSeq = 999
	// minBeacon and maxBeacon bound a beacon in bytes. Drand rounds and block hashes have 32; fewer could be guessed ahead.
	minBeacon, maxBeacon = 32, 64
	// headLen is the length of what every file begins with: magic, phase, sequence, domain, circuit, predecessor, beacon's length.
	headLen = len(magic) + 1 + 2 + 4 + 32 + 32 + 1
	// sealLen is the length of a seal's body: the hashes of the circuit and of both keys.
	sealLen = 3 * 32
	suffix  = ".mpc"
)

// A file is one step of a transcript: its fixed head, the beacon that ended the phase before it, its predecessor's state and its
// own. Integers are big-endian.
type file struct {
	phase    uint8  // 1, 2 or phaseSeal
	seq      uint16 // 0 for a phase's beginning, then the contributions
	domain   uint32
	circuit  wire.Hash
	previous wire.Hash // SHA-256 of the file before, zero for the first
	beacon   []byte    // only at the beginning of phase 2 and in the seal
	before   []byte    // the predecessor's state; none in the first file and in the seal
	after    []byte

	id wire.Hash // SHA-256 of the file
}

func (f *file) name() string { return fileName(f.phase, f.seq) }

func fileName(phase uint8, seq uint16) string {
	if phase == phaseSeal {
		return "seal" + suffix
	}
	return fmt.Sprintf("phase%d-%03d%s", phase, seq, suffix)
}

func (f *file) encode() []byte {
	b := append([]byte(magic), f.phase)
	b = binary.BigEndian.AppendUint16(b, f.seq)
	b = binary.BigEndian.AppendUint32(b, f.domain)
	b = append(append(b, f.circuit[:]...), f.previous[:]...)
	b = append(append(b, byte(len(f.beacon))), f.beacon...)
	return append(append(b, f.before...), f.after...)
}

// hasBeacon reports whether such a file records the beacon that ended the phase before.
func (f *file) hasBeacon() bool { return f.phase == phaseSeal || f.phase == 2 && f.seq == 0 }

// lengths returns the exact lengths in bytes of the two states that such a file carries.
func (f *file) lengths(c *Ceremony) (before, after int) {
	switch {
	case f.phase == phaseSeal:
		return 0, sealLen
	case f.phase == 1 && f.seq == 0:
		return 0, length(c.layout1(false))
	case f.phase == 1:
		return length(c.layout1(f.seq > 1)), length(c.layout1(true))
	case f.seq == 0:
		return length(c.layout1(true)), length(c.layout2(false))
	default:
		return length(c.layout2(f.seq > 1)), length(c.layout2(true))
	}
}

// parse reads a file's frame: everything but whether its states are of points and follow from each other.
func (c *Ceremony) parse(b []byte) (*file, error) {
	if len(b) < headLen {
		return nil, errors.New("it is cut short")
	}
	if string(b[:len(magic)]) != magic {
		return nil, errors.New("it is not a file of a ceremony of version 1")
	}
	r := b[len(magic):]
	f := &file{phase: r[0], seq: binary.BigEndian.Uint16(r[1:]), domain: binary.BigEndian.Uint32(r[3:]),
		circuit: wire.Hash(r[7:39]), previous: wire.Hash(r[39:71]), id: wire.ID(b)}
	switch {
	case f.phase < 1 || f.phase > phaseSeal || f.seq > maxSeq || f.phase == phaseSeal && f.seq != 0:
		return nil, fmt.Errorf("there is no step %d in phase %d", f.seq, f.phase)
	case int64(f.domain) != int64(c.domain):
		return nil, fmt.Errorf("its powers of tau are for a domain of %d points, the circuit's has %d", f.domain, c.domain)
	case f.circuit != c.circuit:
		return nil, fmt.Errorf("it is for circuit %s, this program's is %s", f.circuit, c.circuit)
	case f.previous.IsZero() != (f.phase == 1 && f.seq == 0):
		return nil, errors.New("the first file of a ceremony, and no other, has no predecessor")
	}
	n, rest := int(r[71]), r[72:]
	if has := n >= minBeacon && n <= maxBeacon; has != f.hasBeacon() || n != 0 && !has {
		return nil, fmt.Errorf("a beacon of %d bytes does not belong there", n)
	}
	before, after := f.lengths(c)
	if want := n + before + after; len(rest) != want {
		return nil, fmt.Errorf("it has %d bytes, want %d: it is cut short or not of this circuit", len(b), headLen+want)
	}
	f.beacon, rest = rest[:n:n], rest[n:]
	f.before, f.after = rest[:before:before], rest[before:]
	return f, nil
}

// maxLen is the length of the longest file.
func (c *Ceremony) maxLen() int64 {
	return int64(headLen + maxBeacon + 2*max(length(c.layout1(true)), length(c.layout2(true))))
}

// read reads and parses the file at path.
func (c *Ceremony) read(path string) (*file, error) {
	b, err := readBounded(path, c.maxLen())
	if err != nil {
		return nil, fmt.Errorf("cannot read ceremony file: %w", err)
	}
	f, err := c.parse(b)
	if err != nil {
		return nil, fmt.Errorf("cannot use ceremony file %s: %w", path, err)
	}
	return f, nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", path, limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// writeNew writes a file that must not exist, on disk when it returns. A write that fails leaves none behind.
func writeNew(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write ceremony file: %s exists; the step was taken already", path)
	} else if err != nil {
		return fmt.Errorf("cannot write ceremony file: %w", err)
	}
	_, err = io.Copy(f, bytes.NewReader(b))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write ceremony file: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}
