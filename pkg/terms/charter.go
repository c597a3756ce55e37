package terms

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

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
	case u.DeltaPico == 0 || u.DeltaPico > 10_000_000:
		return errors.New("charter's delta is not within 0 to 1e-5")
	case u.Clip == 0 || u.Clip > 100_000:
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

// signedCharter is a charter under a quorum: each board key's COSE_Sign1 over the same payload.
type signedCharter struct {
	_          struct{} `cbor:",toarray"`
	Signatures [][]byte
}

func (s *signedCharter) Validate() error {
	if n := len(s.Signatures); n < 1 || n > maxProgramKeys {
		return fmt.Errorf("charter has %d signatures, want 1 to %d", n, maxProgramKeys)
	}
	return nil
}

// SealCharter signs the charter with each of the board's keys given.
func SealCharter(keys []crypto.Signer, c *Charter) ([]byte, error) {
	b, err := wire.Marshal(c)
	if err != nil {
		return nil, err
	}
	var s signedCharter
	for _, k := range keys {
		m, err := wire.Seal(k, contextCharter, b)
		if err != nil {
			return nil, err
		}
		s.Signatures = append(s.Signatures, m)
	}
	return wire.Marshal(&s)
}

// OpenCharter checks that a quorum of different board keys signed the charter. Its identifier is the hash of its payload, so that
// a further signature does not make another charter of it.
func OpenCharter(p *Program, program wire.Hash, b []byte) (*Charter, wire.Hash, error) {
	var s signedCharter
	if err := wire.Unmarshal(b, &s, maxProgramKeys*maxCharterLen); err != nil {
		return nil, wire.Hash{}, fmt.Errorf("it is not a charter: %w", err)
	}
	var payload []byte
	signers := make(map[wire.KeyID]bool)
	for i, m := range s.Signatures {
		got, id, err := wire.Open(p.Board, contextCharter, m, maxCharterLen)
		if err != nil {
			return nil, wire.Hash{}, err
		}
		if i > 0 && !slices.Equal(got, payload) {
			return nil, wire.Hash{}, errors.New("cannot accept charter: its signatures are over different texts")
		}
		payload, signers[id] = got, true
	}
	if len(signers) < int(p.BoardQuorum) {
		return nil, wire.Hash{}, fmt.Errorf("cannot accept charter: signed by %d of the board, want %d", len(signers), p.BoardQuorum)
	}
	var c Charter
	if err := wire.Unmarshal(payload, &c, maxCharterLen); err != nil {
		return nil, wire.Hash{}, err
	}
	if c.Program != program {
		return nil, wire.Hash{}, errors.New("cannot accept charter: it belongs to another program")
	}
	return &c, wire.ID(payload), nil
}
