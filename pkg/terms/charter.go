package terms

import (
	"crypto"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"rawstone/pkg/key/quorum"
	"rawstone/pkg/wire"
)

const (
	contextCharter = "rawstone/charter/v1"
	maxCharterLen  = 8 << 10
)

// Usage fixes how usage reports are noised.
type Usage struct {
	// Families are the families that may be collected at all.
	Families wire.Family `cbor:"0,keyasint"`
	// EpsilonMicro is ε of one dispatch in millionths, DeltaPico δ in units of 1e-12.
	EpsilonMicro uint32 `cbor:"1,keyasint"`
	DeltaPico    uint32 `cbor:"2,keyasint"`
	// Clip is the largest L2 norm of a scaled vector.
	Clip uint32 `cbor:"3,keyasint"`
	// Scale multiplies each family's values, in the order of Layouts, so that their sizes compare.
	Scale []uint16 `cbor:"4,keyasint"`
	// YearlyDispatches bounds the reports in 365 program days.
	YearlyDispatches uint16 `cbor:"5,keyasint"`
	// Mechanism says what a report holds.
	Mechanism Mechanism `cbor:"6,keyasint,omitempty"`
}

// A Mechanism says what a report holds and how it is noised (package dp).
type Mechanism uint8

// The mechanisms. The categorical ones, for small budgets, are pure: DeltaPico and Clip are 0, every scale is 1 and Families is one family,
// of which a report tells the bin with the largest total, or that all were zero.
const (
	GaussianVector     Mechanism = iota // the clipped vector of all families under Gaussian noise
	SubsetSelection                     // one bin among several
	RandomizedResponse                  // one bin, at times another one
)

// String is the mechanism's name in a charter's source; empty for an unknown one.
func (m Mechanism) String() string {
	switch m {
	case GaussianVector:
		return "gaussian"
	case SubsetSelection:
		return "subset-selection"
	case RandomizedResponse:
		return "randomised-response"
	}
	return ""
}

// A Charter is the data charter: the only fields, policy kinds and tier ratios that may ever be used.
type Charter struct {
	Version uint8     `cbor:"0,keyasint"`
	Program wire.Hash `cbor:"1,keyasint"`
	Serial  uint16    `cbor:"2,keyasint"`
	// Kinds are the kinds of policy an agent may prove.
	Kinds []string `cbor:"3,keyasint"`
	// TierRatioMilli is the smallest allowed ratio between a kilometre tier from 5 km on and the one before it, in thousandths:
	// finer tiers would tell more about the distance.
	TierRatioMilli uint16 `cbor:"4,keyasint"`
	Usage          Usage  `cbor:"5,keyasint"`
}

// Validate checks bounds.
func (c *Charter) Validate() error {
	if err := wire.CheckVersion(c.Version); err != nil {
		return err
	}
	if len(c.Kinds) > 32 || !slices.IsSorted(c.Kinds) {
		return errors.New("charter's kinds are more than 32 or not in order")
	}
	for i, k := range c.Kinds {
		if err := CheckKind(k); err != nil {
			return err
		}
		if i > 0 && k == c.Kinds[i-1] {
			return fmt.Errorf("charter names kind %q twice", k)
		}
	}
	if c.TierRatioMilli < 1100 {
		return errors.New("charter allows tiers closer than a ratio of 1.1")
	}
	u := c.Usage
	switch {
	case u.Families&^wire.AllFamilies != 0:
		return errors.New("charter names an unknown family")
	case u.EpsilonMicro < 10_000 || u.EpsilonMicro > 10_000_000:
		return errors.New("charter's epsilon is not within 0.01 to 10")
	case u.Mechanism > RandomizedResponse:
		return fmt.Errorf("charter's mechanism %d is unknown", u.Mechanism)
	case u.Mechanism != GaussianVector && (bits.OnesCount16(uint16(u.Families)) != 1 || u.DeltaPico != 0 || u.Clip != 0 || slices.ContainsFunc(u.Scale, func(s uint16) bool { return s != 1 })):
		return errors.New("charter's mechanism is categorical: that has one family, no delta, no clip and scales of 1")
	case u.Mechanism == GaussianVector && (u.DeltaPico == 0 || u.DeltaPico > 10_000_000):
		return errors.New("charter's delta is not within 0 to 1e-5")
	case u.Mechanism == GaussianVector && (u.Clip == 0 || u.Clip > 100_000):
		return errors.New("charter's clip is not within 1 to 100,000") // beyond, noise would no longer fit the report's 32 bits
	case len(u.Scale) != len(wire.Layouts()) || slices.Contains(u.Scale, 0):
		return fmt.Errorf("charter has %d scales, want %d, none of them 0", len(u.Scale), len(wire.Layouts()))
	case u.YearlyDispatches == 0 || u.YearlyDispatches > 366:
		return errors.New("charter's yearly dispatches are not within 1 to 366")
	}
	return nil
}

// Covers says why a policy may not be used under the charter, or nil.
func (c *Charter) Covers(p *Policy) error {
	if c.Program != p.Program {
		return errors.New("policy and charter belong to different programs")
	}
	if !slices.Contains(c.Kinds, p.Kind) {
		return fmt.Errorf("the charter does not allow policies of kind %q", p.Kind)
	}
	for i := 1; i < len(p.Tiers); i++ {
		a, b := p.Tiers[i-1].Km, p.Tiers[i].Km
		if b >= 5 && uint64(b)*1000 < uint64(a)*uint64(c.TierRatioMilli) {
			return fmt.Errorf("tiers of %d and %d km are closer than the charter allows", a, b)
		}
	}
	return nil
}

// SealCharter signs the charter with each of the board's keys given.
func SealCharter(keys []crypto.Signer, c *Charter) ([]byte, error) {
	b, err := wire.Marshal(c)
	if err != nil {
		return nil, err
	}
	return quorum.Seal(keys, contextCharter, b)
}

// ReadCharter returns what a charter's bytes say, signed or not yet, its identifier, and the keys that they say signed it. It checks no
// signature: nothing that it returns may be believed.
func ReadCharter(b []byte) (c *Charter, id wire.Hash, signers []wire.KeyID, err error) {
	text := b
	if !unsigned(b) {
		if text, signers, err = quorum.Read(b, maxCharterLen); err != nil {
			return nil, id, nil, fmt.Errorf("it is not a charter: %w", err)
		}
	}
	if c, err = decodeCharter(text); err != nil {
		return nil, id, nil, fmt.Errorf("it is not a charter: %w", err)
	}
	return c, wire.ID(text), signers, nil
}

// unsigned says whether a charter's bytes are its text, a map (CBOR's major type 5, RFC 8949 §3.1); a signed one is an array.
func unsigned(b []byte) bool { return len(b) > 0 && b[0]>>5 == 5 }

// CosignCharter adds the signature of one of the board's keys to a charter that ReadCharter reads.
func CosignCharter(key crypto.Signer, b []byte) ([]byte, error) {
	if unsigned(b) {
		return quorum.Seal([]crypto.Signer{key}, contextCharter, b)
	}
	return quorum.Add(key, contextCharter, b, maxCharterLen)
}

func decodeCharter(text []byte) (*Charter, error) {
	var c Charter
	if err := wire.Unmarshal(text, &c, maxCharterLen); err != nil {
		return nil, err
	}
	return &c, nil
}

// OpenCharter checks that a quorum of different board keys signed the charter. Its identifier is the hash of its payload, so that
// a further signature does not make another charter of it.
func OpenCharter(p *Program, program wire.Hash, b []byte) (*Charter, wire.Hash, error) {
	if _, _, signers, err := ReadCharter(b); err != nil {
		return nil, wire.Hash{}, err
	} else if len(signers) == 0 {
		return nil, wire.Hash{}, fmt.Errorf("cannot accept charter: %w", wire.ErrNotSigned)
	}
	text, err := quorum.Open(p.Board, int(p.BoardQuorum), contextCharter, b, maxCharterLen)
	if err != nil {
		return nil, wire.Hash{}, fmt.Errorf("cannot accept charter: %w", err)
	}
	c, err := decodeCharter(text)
	if err != nil {
		return nil, wire.Hash{}, err
	}
	if c.Program != program {
		return nil, wire.Hash{}, errors.New("cannot accept charter: it belongs to another program")
	}
	return c, wire.ID(text), nil
}
