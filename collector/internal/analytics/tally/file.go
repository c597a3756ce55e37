package tally

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"rawstone/pkg/dp"
	"rawstone/pkg/durable"
	"rawstone/pkg/wire"
)

const (
	magic = "rawstone/tally/v1\n"
	// maxFileLen bounds a file in bytes: MaxDays days of MaxModels models and Other, some 3,200 bytes each.
	maxFileLen = 512 << 20
)

// A Position says which reports a tally holds.
type Position struct {
	// Charter is the identifier of the charter that they were made under.
	Charter wire.Hash
	// Cursor is the serial of the last report that was read, and Mark its submission's identifier: it tells whether the records are still
	// those that were read. Both are zero before there was any.
	Cursor int64
	Mark   wire.Hash
	// Today is the program day on which they were read last, and Ahead says that some were passed over for being ahead of it.
	Today uint32
	Ahead bool
	// Erasures is how many erasures of persons' data there had been when the first of them was read.
	Erasures uint64
}

// The file: magic, charter, cursor, mark, today, ahead, erasures, number of cells in 4 bytes, and the cells in ascending order of day and model:
// day, length of the model's name in one byte, name, Both, a byte with a bit for each part that has moments, and their encodings. The
// SHA-256 of all of it is the end. Numbers are big-endian.

// Write writes the tally in its one encoding.
func (t *Tally) Write(w io.Writer, p Position) error {
	sum := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	head := append([]byte(magic), p.Charter[:]...)
	head = binary.BigEndian.AppendUint64(head, uint64(p.Cursor))
	head = append(head, p.Mark[:]...)
	head = binary.BigEndian.AppendUint32(head, p.Today)
	ahead := byte(0)
	if p.Ahead {
		ahead = 1
	}
	cells := 0
	for _, of := range t.days {
		cells += len(of)
	}
	head = binary.BigEndian.AppendUint64(append(head, ahead), p.Erasures)
	head = binary.BigEndian.AppendUint32(head, uint32(cells))
	if _, err := b.Write(head); err != nil {
		return err
	}
	var cell []byte
	for _, day := range slices.Sorted(maps.Keys(t.days)) {
		for _, model := range slices.Sorted(maps.Keys(t.days[day])) {
			c := t.days[day][model]
			cell = binary.BigEndian.AppendUint32(cell[:0], day)
			cell = append(append(cell, byte(len(model))), model...)
			cell = binary.BigEndian.AppendUint64(cell, c.Both)
			has := byte(0)
			for i, m := range c.Moments {
				if m != nil {
					has |= 1 << i
				}
			}
			cell = append(cell, has)
			for _, m := range c.Moments {
				if m == nil {
					continue
				}
				var err error
				if cell, err = m.AppendBinary(cell); err != nil {
					return err
				}
			}
			if _, err := b.Write(cell); err != nil {
				return err
			}
		}
	}
	if err := b.Flush(); err != nil {
		return err
	}
	_, err := w.Write(sum.Sum(nil))
	return err
}

// errDamaged is returned for what Write did not write.
var errDamaged = errors.New("it is damaged")

// Read reads what Write wrote of a tally of the given parts. Anything else is an error.
func Read(r io.Reader, parts []Part) (*Tally, Position, error) {
	t, err := New(parts)
	if err != nil {
		return nil, Position{}, err
	}
	var p Position
	sum := sha256.New()
	d := &decoder{r: io.TeeReader(r, sum)}
	if string(d.bytes(len(magic))) != magic {
		return nil, p, errDamaged
	}
	p.Charter = wire.Hash(d.bytes(len(p.Charter)))
	p.Cursor = int64(binary.BigEndian.Uint64(d.bytes(8)))
	p.Mark = wire.Hash(d.bytes(len(p.Mark)))
	p.Today = binary.BigEndian.Uint32(d.bytes(4))
	ahead := d.bytes(1)[0]
	p.Ahead = ahead == 1
	p.Erasures = binary.BigEndian.Uint64(d.bytes(8))
	cells := binary.BigEndian.Uint32(d.bytes(4))
	if d.err != nil || p.Cursor < 0 || ahead > 1 || cells > MaxDays*(MaxModels+1) {
		return nil, p, errDamaged
	}
	for range cells {
		if !t.read(d) {
			return nil, p, errDamaged
		}
	}
	want := sum.Sum(nil)
	if got := d.bytes(len(want)); d.err != nil || !bytes.Equal(got, want) {
		return nil, p, errDamaged
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, p, errDamaged
	}
	return t, p, nil
}

// read reads a cell, which must lie behind those before it, and reports whether it is one.
func (t *Tally) read(d *decoder) bool {
	day := binary.BigEndian.Uint32(d.bytes(4))
	n := int(d.bytes(1)[0])
	if n > maxModelLen {
		return false
	}
	model := string(d.bytes(n))
	if d.some && (day < d.day || day == d.day && model <= d.model) {
		return false
	}
	d.some, d.day, d.model = true, day, model
	c := t.cell(day, model)
	if t.days[day][model] != c {
		return false // more models than there may be
	}
	c.Both = binary.BigEndian.Uint64(d.bytes(8))
	has := d.bytes(1)[0]
	if d.err != nil || has == 0 || int(has)>>len(t.parts) != 0 || len(t.days) > MaxDays {
		return false
	}
	least := uint64(dp.MaxReleases)
	for i, p := range t.parts {
		if has&(1<<i) != 0 {
			m, err := dp.NewMoments(p.To - p.From)
			if err != nil {
				return false
			}
			b, err := m.AppendBinary(nil)
			if err != nil || m.UnmarshalBinary(d.bytes(len(b))) != nil || m.N() == 0 || m.Dim() != p.To-p.From {
				return false
			}
			c.Moments[i] = m
		}
		if p.Family&both != 0 {
			least = min(least, c.N(i))
		}
	}
	return c.Both <= least
}

// decoder reads fields; after an error, zeros.
type decoder struct {
	r     io.Reader
	err   error
	some  bool // a cell was read, of this day and model
	day   uint32
	model string
}

func (d *decoder) bytes(n int) []byte {
	b := make([]byte, n)
	if d.err == nil {
		if _, d.err = io.ReadFull(d.r, b); d.err != nil {
			clear(b)
		}
	}
	return b
}

// Save puts the tally into a file that its owner alone may read, in place of the one before: after a crash it is one or the other.
func (t *Tally) Save(path string, p Position) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot save usage moments: %w", err)
		}
	}()
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(t.Write(f, p), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Load reads a file that Save wrote. Where there is none the error is fs.ErrNotExist.
func Load(path string, parts []Part) (*Tally, Position, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, Position{}, fmt.Errorf("cannot read usage moments: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFileLen {
		return nil, Position{}, errors.Join(fmt.Errorf("cannot read usage moments %s: %w", path, errDamaged), err)
	}
	t, p, err := Read(bufio.NewReaderSize(f, 1<<16), parts)
	if err != nil {
		return nil, Position{}, fmt.Errorf("cannot read usage moments %s: %w", path, err)
	}
	return t, p, nil
}
