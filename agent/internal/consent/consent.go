// Package consent keeps what the driver has decided: which families of usage statistics may be reported, which kinds of policy beside
// mileage claims may tell of, and how often the car speaks.
//
// Invariants: everything is off, and the cadence weekly, until the driver turns it on; only this record says so, no file that came with the
// car does. A decision is on flash, synced, before anything follows from it. A record that cannot be read counts as none: everything is
// off. Where a write fails, what was turned off is off at once, and what was turned on is not on. It lies in the store that a reset wipes.
//
// The package refuses families and kinds that the program's charter does not allow; turning something off is never refused.
package consent

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/codec"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	recordKey     = "consent/choice" // in the store
	recordVersion = 1
	// maxKinds is the number of kinds that a charter may name; maxRecordLen follows from it, in bytes.
	maxKinds     = 32
	maxRecordLen = maxKinds*48 + 64
)

// A Cadence is how often the car speaks.
type Cadence string

// The cadences.
const (
	Daily   Cadence = "daily"
	Weekly  Cadence = "weekly"
	Monthly Cadence = "monthly"
)

// Days returns the time between two dispatches in program days: 1, 7 or 30, and 0 for no cadence.
func (c Cadence) Days() int {
	switch c {
	case Daily:
		return 1
	case Weekly:
		return 7
	case Monthly:
		return 30
	}
	return 0
}

// ParseCadence returns the cadence of a name.
func ParseCadence(name string) (Cadence, error) {
	if c := Cadence(name); c.Days() > 0 {
		return c, nil
	}
	return "", fmt.Errorf("cadence %q is none of daily, weekly, monthly", name)
}

// A Choice is what the driver has decided. The zero value allows nothing.
type Choice struct {
	Families wire.Family
	// Kinds are in order, each once, without mileage, of which every claim tells.
	Kinds   []string
	Cadence Cadence
}

// record is a Choice on flash.
type record struct {
	Version  uint8       `cbor:"0,keyasint"`
	Families wire.Family `cbor:"1,keyasint"`
	Kinds    []string    `cbor:"2,keyasint"`
	Cadence  Cadence     `cbor:"3,keyasint"`
}

// A DB is the store: Badger's own, or one that keeps count of what it acknowledged.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
	Opts() badger.Options
}

// Config says where the decision lies and what can be decided. All fields are required.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "consent/" are the package's. The caller closes it.
	DB DB
	// Charter is the verified data charter.
	Charter *terms.Charter
	Logger  *slog.Logger
}

// Consent is the driver's decision. It is safe for concurrent use.
type Consent struct {
	cfg     Config
	damaged bool

	writing sync.Mutex // held while a decision is written
	mu      sync.Mutex
	choice  Choice
}

// Open reads the decision.
func Open(cfg Config) (*Consent, error) {
	switch {
	case cfg.DB == nil || cfg.Charter == nil || cfg.Logger == nil:
		return nil, errors.New("cannot open consent: no store, charter or logger given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("cannot open consent: the store does not sync its writes; open it with SyncWrites")
	}
	c := &Consent{cfg: cfg, choice: Choice{Cadence: Weekly}}
	var b []byte
	err := cfg.DB.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(recordKey))
		if err == nil {
			b, err = item.ValueCopy(nil)
		}
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return c, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot open consent: %w", err)
	}
	choice, err := decode(b)
	if err != nil {
		c.damaged = true
		cfg.Logger.Error("record of consent is damaged; everything is off", "error", err)
		return c, nil
	}
	c.choice = choice
	return c, nil
}

// Damaged reports whether Open found a record that it could not read.
func (c *Consent) Damaged() bool { return c.damaged }

// Choice returns the decision.
func (c *Consent) Choice() Choice {
	c.mu.Lock()
	defer c.mu.Unlock()
	choice := c.choice
	choice.Kinds = slices.Clone(choice.Kinds)
	return choice
}

// Families, Kinds and EveryDays are the parts of Choice; EveryDays is in program days.
func (c *Consent) Families() wire.Family { return c.Choice().Families }

// Kinds returns the kinds beside mileage that claims may tell of.
func (c *Consent) Kinds() []string { return c.Choice().Kinds }

// EveryDays returns the time between two dispatches in program days.
func (c *Consent) EveryDays() int { return c.Choice().Cadence.Days() }

// Turn turns a family or a kind on or off and reports whether that changed anything. Errors: a name that is neither, one that the charter
// does not allow, or a failure to write.
func (c *Consent) Turn(name string, on bool) (changed bool, err error) {
	return c.change(func(next *Choice) error {
		family, noFamily := wire.ParseFamily(name)
		switch {
		case noFamily == nil && on && c.cfg.Charter.Usage.Families&family == 0:
			return fmt.Errorf("cannot turn on %s: the program's charter does not allow it", name)
		case noFamily == nil && on:
			next.Families |= family
			return nil
		case noFamily == nil:
			next.Families &^= family
			return nil
		case name == terms.KindMileage:
			return errors.New("cannot change mileage: it is what a claim is; a car that shall claim nothing is one whose agent does not run")
		}
		i, found := slices.BinarySearch(next.Kinds, name)
		switch {
		case on && found, !on && !found && terms.CheckKind(name) == nil:
		case !on && found:
			next.Kinds = slices.Delete(next.Kinds, i, i+1)
		case terms.CheckKind(name) != nil:
			return fmt.Errorf("cannot turn %q on or off: it is no family of usage statistics and no kind of claim; `agent consent --config FILE` lists them", name)
		case !slices.Contains(c.cfg.Charter.Kinds, name):
			return fmt.Errorf("cannot turn on %s: the program's charter does not allow it", name)
		default:
			next.Kinds = slices.Insert(next.Kinds, i, name)
		}
		return nil
	})
}

// SetCadence decides how often the car speaks and reports whether that changed anything.
func (c *Consent) SetCadence(cadence Cadence) (changed bool, err error) {
	return c.change(func(next *Choice) error {
		if _, err := ParseCadence(string(cadence)); err != nil {
			return fmt.Errorf("cannot set cadence: %w", err)
		}
		next.Cadence = cadence
		return nil
	})
}

// change writes what decide makes of the decision.
func (c *Consent) change(decide func(*Choice) error) (changed bool, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	was := c.Choice()
	next := was
	next.Kinds = slices.Clone(was.Kinds)
	if err := decide(&next); err != nil {
		return false, err
	}
	if next.Families == was.Families && next.Cadence == was.Cadence && slices.Equal(next.Kinds, was.Kinds) {
		return false, nil
	}
	if err := c.write(next); err != nil {
		c.set(narrower(was, next))
		return false, fmt.Errorf("cannot keep the decision: %w", err)
	}
	c.set(next)
	return true, nil
}

func (c *Consent) write(choice Choice) error {
	b, err := encode(choice)
	if err != nil {
		return err
	}
	return c.cfg.DB.Update(func(txn *badger.Txn) error { return txn.Set([]byte(recordKey), b) })
}

func (c *Consent) set(choice Choice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.choice = choice
}

// narrower returns what both allow: it is not known which of them a failed write has left.
func narrower(was, next Choice) Choice {
	c := Choice{Families: was.Families & next.Families, Cadence: was.Cadence}
	for _, k := range was.Kinds {
		if slices.Contains(next.Kinds, k) {
			c.Kinds = append(c.Kinds, k)
		}
	}
	return c
}

// encode returns a choice as the CRC-32C of its CBOR, and the CBOR: a bit that flips must not turn anything on.
func encode(c Choice) ([]byte, error) {
	kinds := c.Kinds
	if kinds == nil {
		kinds = []string{}
	}
	b, err := codec.Encode(record{recordVersion, c.Families, kinds, c.Cadence})
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(nil, checksum(b)), b...), nil
}

func decode(b []byte) (Choice, error) {
	if len(b) < 4 || binary.BigEndian.Uint32(b) != checksum(b[4:]) {
		return Choice{}, errors.New("it does not match its checksum")
	}
	var r record
	if err := codec.Decode(b[4:], &r, maxRecordLen); err != nil {
		return Choice{}, err
	}
	switch {
	case r.Version != recordVersion:
		return Choice{}, fmt.Errorf("it has version %d, this agent reads %d", r.Version, recordVersion)
	case r.Families&^wire.AllFamilies != 0 || r.Cadence.Days() == 0 || r.Kinds == nil || len(r.Kinds) > maxKinds:
		return Choice{}, errors.New("its values cannot be")
	}
	for i, k := range r.Kinds {
		if terms.CheckKind(k) != nil || k == terms.KindMileage || i > 0 && cmp.Compare(r.Kinds[i-1], k) >= 0 {
			return Choice{}, errors.New("its kinds cannot be")
		}
	}
	if len(r.Kinds) == 0 {
		r.Kinds = nil
	}
	return Choice{r.Families, r.Kinds, r.Cadence}, nil
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
