package ledger

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"rawstone/pkg/codec"
)

const (
	maxOpeningsLen = 1 << 30 // of a file
	maxOpeningLen  = 1 << 10
)

// Openings are what an auditor is given beside the log: what its blinded entries hide. The zero value is empty.
type Openings struct {
	secrets  map[string][32]byte
	credits  map[uint64]CreditOpening
	bindings map[uint64]BindingOpening
	handed   map[uint64]HandoverOpening
}

// AddAccount adds an account's secret, which its pseudonyms are made from.
func (o *Openings) AddAccount(id string, secret [32]byte) { put(&o.secrets, id, secret) }

// AddCredit adds the opening of the credit of that number.
func (o *Openings) AddCredit(number uint64, c CreditOpening) { put(&o.credits, number, c) }

// AddBinding adds the opening of the binding of that number.
func (o *Openings) AddBinding(number uint64, b BindingOpening) { put(&o.bindings, number, b) }

// AddHandover adds the opening of the hand-over of that number.
func (o *Openings) AddHandover(number uint64, h HandoverOpening) { put(&o.handed, number, h) }

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// Credit returns the opening of the credit of that number, and whether there is one.
func (o *Openings) Credit(number uint64) (CreditOpening, bool) {
	c, ok := o.credits[number]
	return c, ok
}

// Binding returns the opening of the binding of that number, and whether there is one.
func (o *Openings) Binding(number uint64) (BindingOpening, bool) {
	b, ok := o.bindings[number]
	return b, ok
}

// Handover returns the opening of the hand-over of that number, and whether there is one.
func (o *Openings) Handover(number uint64) (HandoverOpening, bool) {
	h, ok := o.handed[number]
	return h, ok
}

// Secret returns an account's secret, and whether there is one.
func (o *Openings) Secret(account string) ([32]byte, bool) {
	s, ok := o.secrets[account]
	return s, ok
}

// The file is JSON with bytes in hexadecimal. An entry's opening is the deterministic CBOR that its blind hashes.
type (
	openingsFile struct {
		Accounts []openedAccount `json:"accounts"`
		Credits  []openedEntry   `json:"credits"`
		Bindings []openedEntry   `json:"bindings"`
		// Files of logs without hand-overs leave it out.
		Handovers []openedEntry `json:"handovers,omitempty"`
	}
	openedAccount struct {
		ID     string `json:"id"`
		Secret string `json:"secret"`
	}
	openedEntry struct {
		Number  uint64 `json:"number"`
		Opening string `json:"opening"`
	}
)

// Write writes the openings as JSON. They are secret: they tell who earned what.
func (o *Openings) Write(w io.Writer) error {
	var f openingsFile
	for _, id := range slices.Sorted(maps.Keys(o.secrets)) {
		s := o.secrets[id]
		f.Accounts = append(f.Accounts, openedAccount{id, hex.EncodeToString(s[:])})
	}
	var err error
	if f.Credits, err = encodeOpenings(o.credits); err != nil {
		return err
	}
	if f.Bindings, err = encodeOpenings(o.bindings); err != nil {
		return err
	}
	if f.Handovers, err = encodeOpenings(o.handed); err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("cannot write openings: %w", err)
	}
	return nil
}

func encodeOpenings[V any](m map[uint64]V) (out []openedEntry, err error) {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		b, err := codec.Encode(m[n])
		if err != nil {
			return nil, err
		}
		out = append(out, openedEntry{n, hex.EncodeToString(b)})
	}
	return out, nil
}

func decodeOpenings[V any](what string, m *map[uint64]V, entries []openedEntry) error {
	for _, e := range entries {
		var v V
		b, err := hex.DecodeString(e.Opening)
		if err == nil {
			err = codec.Decode(b, &v, maxOpeningLen)
		}
		if err != nil {
			return fmt.Errorf("cannot read openings: %s %d: %w", what, e.Number, err)
		}
		if _, twice := (*m)[e.Number]; twice {
			return fmt.Errorf("cannot read openings: %s %d stands twice", what, e.Number)
		}
		put(m, e.Number, v)
	}
	return nil
}

// ReadOpenings reads what Write wrote, at most 1 GiB. Unknown keys, openings in another form and an account or number named twice are
// refused.
func ReadOpenings(r io.Reader) (*Openings, error) {
	var f openingsFile
	dec := json.NewDecoder(io.LimitReader(r, maxOpeningsLen))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("cannot read openings: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("cannot read openings: something follows them")
	}
	o := new(Openings)
	for _, a := range f.Accounts {
		secret, err := hex.DecodeString(a.Secret)
		if err != nil || len(secret) != 32 {
			return nil, fmt.Errorf("cannot read openings: the secret of account %q is not 32 bytes in hexadecimal", a.ID)
		}
		if _, twice := o.secrets[a.ID]; twice {
			return nil, fmt.Errorf("cannot read openings: account %q stands twice", a.ID)
		}
		o.AddAccount(a.ID, [32]byte(secret))
	}
	if err := decodeOpenings("credit", &o.credits, f.Credits); err != nil {
		return nil, err
	}
	if err := decodeOpenings("binding", &o.bindings, f.Bindings); err != nil {
		return nil, err
	}
	return o, decodeOpenings("hand-over", &o.handed, f.Handovers)
}
