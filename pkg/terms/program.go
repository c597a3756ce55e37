// Package terms is what a program promises and allows, as signed documents: the program document, which names the clock and every key
// that may sign anything else; the policies, which say what may be proven and what it credits; and the data charter, which bounds both
// policies and usage statistics for good.
//
// Documents are wire messages under COSE signatures. One pinned key, the program root, is the origin of all trust: it signs the
// program, the program's policy keys sign policies, and a quorum of its board keys signs the charter. Nothing is accepted that its
// signer was not named for, and nothing that breaks its own bounds.
//
// The package holds no private keys and decides nothing about vehicles. It reads files, each within a bound, and never writes one.
package terms

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"rawstone/pkg/wire"
)

const (
	contextProgram   = "rawstone/program/v1"
	maxProgramLen    = 16 << 10
	maxProgramKeys   = 16
	maxValidators    = 16
	maxLogKeyLen     = 256
	productionDayS   = 86400
	productionDropS  = 600
	maxOffsetS       = 86400 * 366
	maxClockUnixSecs = 1 << 40
)

// Timing turns instants into program days and drops.
type Timing struct {
	// GenesisS is the instant of drop 0, in Unix seconds.
	GenesisS int64 `cbor:"0,keyasint"`
	// OffsetS moves the day boundary: program day = floor((unix_s + OffsetS) / DayS).
	OffsetS int64 `cbor:"1,keyasint"`
	// DayS is the length of a program day in seconds; 86400 in production.
	DayS uint32 `cbor:"2,keyasint"`
	// DropS is the time between drops in seconds; 600 in production. It divides DayS.
	DropS uint32 `cbor:"3,keyasint"`
}

func (t Timing) validate() error {
	switch {
	case t.DayS == 0 || t.DropS == 0 || t.DayS%t.DropS != 0:
		return fmt.Errorf("a day of %d s is not a whole number of drops of %d s", t.DayS, t.DropS)
	case t.OffsetS < -maxOffsetS || t.OffsetS > maxOffsetS:
		return errors.New("offset_s is beyond a year")
	case t.GenesisS < 0 || t.GenesisS > maxClockUnixSecs:
		return errors.New("genesis_s is not a plausible Unix time")
	}
	return nil
}

// Day returns the program day of an instant; instants before day 0 give 0.
func (t Timing) Day(at time.Time) uint32 {
	s := at.Unix() + t.OffsetS
	if s < 0 {
		return 0
	}
	return uint32(s / int64(t.DayS))
}

// DayStart returns the first instant of a program day.
func (t Timing) DayStart(day uint32) time.Time {
	return time.Unix(int64(day)*int64(t.DayS)-t.OffsetS, 0).UTC()
}

// Date spells a program day for people, with the UTC date on which it begins.
func (t Timing) Date(day uint32) string {
	return fmt.Sprintf("program day %d (%s)", day, t.DayStart(day).Format(time.DateOnly))
}

// Drop returns the number of the last drop due at an instant, counted from 0 at genesis, or -1 before it.
func (t Timing) Drop(at time.Time) int64 {
	s := at.Unix() - t.GenesisS
	if s < 0 {
		return -1
	}
	return s / int64(t.DropS)
}

// DropTime returns the instant at which a drop is due.
func (t Timing) DropTime(drop uint64) time.Time {
	return time.Unix(t.GenesisS+int64(drop)*int64(t.DropS), 0).UTC()
}

// A Clock is the program clock: the timing that all processes share, over one source of time.
type Clock struct {
	Timing
	// Now is the source of time, time.Now outside tests.
	Now func() time.Time
}

// Today returns the current program day.
func (c Clock) Today() uint32 { return c.Day(c.Now()) }

// A Validator is one of the parties that replay the ledger and cosign its blocks.
type Validator struct {
	// Name is the validator's name in cosignatures, for example `maker.example/validator`.
	Name string `cbor:"0,keyasint"`
	// Key is its Ed25519 public key for cosignatures.
	Key [32]byte `cbor:"1,keyasint"`
	// VRF is its public key for seeds (RFC 9381, edwards25519).
	VRF [32]byte `cbor:"2,keyasint"`
}

// A Program is the root policy: the document that every process pins. It is signed by the program root and names the clock and
// every key that may sign anything else.
type Program struct {
	Version     uint8            `cbor:"0,keyasint"`
	Name        string           `cbor:"1,keyasint"`
	Environment wire.Environment `cbor:"2,keyasint"`
	Timing      Timing           `cbor:"3,keyasint"`
	// Receipt, Policy and Board are the keys that may sign receipts, policies and the data charter.
	Receipt wire.KeySet `cbor:"4,keyasint"`
	Policy  wire.KeySet `cbor:"5,keyasint"`
	Board   wire.KeySet `cbor:"6,keyasint"`
	// BoardQuorum is how many board keys must sign the charter.
	BoardQuorum uint8 `cbor:"7,keyasint"`
	// Validators is the genesis set, and Quorum how many of them make a block final.
	Validators []Validator `cbor:"8,keyasint"`
	Quorum     uint8       `cbor:"9,keyasint"`
	// LogKey is the ledger's checkpoint key as a note verifier (C2SP signed-note).
	LogKey string `cbor:"10,keyasint"`
}

// Validate checks bounds and the rule that production keeps the real day and drop.
func (p *Program) Validate() error {
	if err := wire.CheckVersion(p.Version); err != nil {
		return err
	}
	if p.Name == "" || len(p.Name) > 64 {
		return errors.New("program name must be 1 to 64 bytes")
	}
	if err := p.Timing.validate(); err != nil {
		return err
	}
	switch p.Environment {
	case wire.Development:
	case wire.Production:
		if p.Timing.DayS != productionDayS || p.Timing.DropS != productionDropS {
			return fmt.Errorf("a production program has days of %d s and drops of %d s", productionDayS, productionDropS)
		}
	default:
		return fmt.Errorf("environment %q is neither development nor production", p.Environment)
	}
	for _, s := range []struct {
		name string
		keys wire.KeySet
	}{{"receipt", p.Receipt}, {"policy", p.Policy}, {"board", p.Board}} {
		if len(s.keys) < 1 || len(s.keys) > maxProgramKeys {
			return fmt.Errorf("program has %d %s keys, want 1 to %d", len(s.keys), s.name, maxProgramKeys)
		}
		for i, k := range s.keys {
			if _, err := k.Key(); err != nil {
				return fmt.Errorf("%s key %d: %w", s.name, i, err)
			}
			for _, other := range s.keys[:i] {
				if k == other {
					return fmt.Errorf("%s key %d stands twice: one key would count as two", s.name, i)
				}
			}
		}
	}
	if p.BoardQuorum < 1 || int(p.BoardQuorum) > len(p.Board) {
		return fmt.Errorf("board quorum %d of %d keys cannot be met", p.BoardQuorum, len(p.Board))
	}
	if n := len(p.Validators); n < 1 || n > maxValidators || p.Quorum < 1 || int(p.Quorum) > n {
		return fmt.Errorf("quorum %d of %d validators cannot be met", p.Quorum, n)
	}
	for i, v := range p.Validators {
		if v.Name == "" || len(v.Name) > 64 {
			return fmt.Errorf("validator %d: name must be 1 to 64 bytes", i)
		}
		for _, other := range p.Validators[:i] {
			if v.Name == other.Name || v.Key == other.Key || v.VRF == other.VRF {
				return fmt.Errorf("validator %d shares its name or a key with another: one party would count as two", i)
			}
		}
	}
	if p.LogKey == "" || len(p.LogKey) > maxLogKeyLen {
		return errors.New("program names no ledger key")
	}
	return nil
}

// SealProgram signs the program with the root key.
func SealProgram(root crypto.Signer, p *Program) ([]byte, error) {
	b, err := wire.Marshal(p)
	if err != nil {
		return nil, err
	}
	return wire.Seal(root, contextProgram, b)
}

// OpenProgram checks a signed program under the pinned root. The program's identifier is the hash of its signed bytes.
func OpenProgram(root wire.PublicKey, b []byte) (*Program, wire.Hash, error) {
	payload, _, err := wire.Open(wire.KeySet{root}, contextProgram, b, maxProgramLen)
	if err != nil {
		return nil, wire.Hash{}, err
	}
	var p Program
	if err := wire.Unmarshal(payload, &p, maxProgramLen); err != nil {
		return nil, wire.Hash{}, err
	}
	return &p, wire.ID(b), nil
}
