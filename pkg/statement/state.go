package statement

import (
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/statement/internal/chain"
	"rawstone/pkg/statement/internal/holding"
	"rawstone/pkg/wire"
)

// MaxStateLen bounds an encoded state in bytes.
const MaxStateLen = 1 << 20

// A State is what is kept of a verified statement, so that the next need only hold what is newer: the last block, the balances, the credits
// that still count. It holds the account's secret. Whoever keeps it trusts it like the program root: nothing in it can be checked again.
type State struct{ s stateDocument }

type stateDocument struct {
	Version uint8         `cbor:"0,keyasint"`
	Program wire.Hash     `cbor:"1,keyasint"`
	Chain   chain.State   `cbor:"2,keyasint"`
	Holding holding.State `cbor:"3,keyasint"`
}

// Next returns the drop with which the next statement must begin.
func (s *State) Next() uint64 { return s.s.Chain.Next }

// Account returns whose state it is.
func (s *State) Account() string { return s.s.Holding.Account }

// Encode returns the state's bytes, at most MaxStateLen.
func (s *State) Encode() ([]byte, error) {
	b, err := codec.Encode(&s.s)
	if err == nil && len(b) > MaxStateLen {
		return nil, fmt.Errorf("cannot encode state: %d bytes, at most %d allowed", len(b), MaxStateLen)
	}
	return b, err
}

// DecodeState reads what Encode returned.
func DecodeState(b []byte) (*State, error) {
	var s State
	if err := codec.Decode(b, &s.s, MaxStateLen); err != nil {
		return nil, errors.New("cannot accept state: it is damaged, or something else than a state")
	}
	if s.s.Version != Version {
		return nil, fmt.Errorf("cannot accept state: version %d, want %d: verify a whole statement anew", s.s.Version, Version)
	}
	if s.s.Chain.Next == 0 || s.s.Holding.Account == "" {
		return nil, errors.New("cannot accept state: it holds no account or no block")
	}
	return &s, nil
}
