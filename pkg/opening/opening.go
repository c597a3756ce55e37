// Package opening is what validators, the auditor and owners are given beside the log: what its blinded entries hide, and the secrets that
// accounts' pseudonyms are made from. Of what was destroyed because a person asked for it there is the number of the entry, and for each day a
// pseudonym and a weight.
//
// The file is JSON with bytes in hexadecimal; an entry's opening in it is the deterministic CBOR that its blind hashes. Unknown keys, other
// forms and what stands twice are refused. Openings are secret: they tell who earned what. Whether one is that of its entry is for whoever
// replays the log.
package opening

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"rawstone/pkg/account"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

const (
	maxSetLen     = 1 << 30 // of a file
	maxOpeningLen = 1 << 10
)

// A Set holds openings by the numbers of their entries, and secrets by accounts. The zero value is empty.
type Set struct {
	secrets  map[string][32]byte
	credits  map[uint64]ledger.CreditOpening
	bindings map[uint64]ledger.BindingOpening
	handed   map[uint64]ledger.HandoverOpening
	changes  map[uint64]account.ChangeOpening
	grants   map[uint64]account.GrantOpening
	requests map[uint64]account.RequestOpening
	erased   map[uint64]struct{}
	leaves   map[uint32]map[wire.Hash]uint64 // weights of erased accounts' leaves by day and pseudonym
	keys     map[wire.Hash]ledger.ErasedKey
}

// AddErased notes that the opening of the entry of that number was destroyed because a person asked for it.
func (s *Set) AddErased(number uint64) { put(&s.erased, number, struct{}{}) }

// AddErasedLeaf adds what the tree of a day holds of an erased account.
func (s *Set) AddErasedLeaf(day uint32, l reward.Leaf) {
	leaves := s.leaves[day]
	put(&leaves, l.Pseudonym, l.Weight)
	put(&s.leaves, day, leaves)
}

// AddErasedKey adds what is kept of an ECU key whose last binding was erased.
func (s *Set) AddErasedKey(k ledger.ErasedKey) { put(&s.keys, k.Mark, k) }

// ErasedKey returns what is kept of an ECU key, if its last binding was erased.
func (s *Set) ErasedKey(id wire.KeyID) (ledger.ErasedKey, bool) {
	k, ok := s.keys[ledger.KeyMark(id)]
	return k, ok
}

// Erased reports whether the opening of the entry of that number was destroyed.
func (s *Set) Erased(number uint64) bool {
	_, ok := s.erased[number]
	return ok
}

// ErasedLeaves returns what the tree of a day holds of erased accounts, in the order of pseudonyms.
func (s *Set) ErasedLeaves(day uint32) (out []reward.Leaf) {
	for p, weight := range s.leaves[day] {
		out = append(out, reward.Leaf{Pseudonym: p, Weight: weight})
	}
	slices.SortFunc(out, func(a, b reward.Leaf) int { return bytes.Compare(a.Pseudonym[:], b.Pseudonym[:]) })
	return out
}

// AddAccount adds an account's secret, which its pseudonyms are made from.
func (s *Set) AddAccount(id string, secret [32]byte) { put(&s.secrets, id, secret) }

// AddCredit adds the opening of the credit of that number.
func (s *Set) AddCredit(number uint64, o ledger.CreditOpening) { put(&s.credits, number, o) }

// AddBinding adds the opening of the binding of that number.
func (s *Set) AddBinding(number uint64, o ledger.BindingOpening) { put(&s.bindings, number, o) }

// AddHandover adds the opening of the hand-over of that number.
func (s *Set) AddHandover(number uint64, o ledger.HandoverOpening) { put(&s.handed, number, o) }

// AddChange adds the opening of the change of an account of that number.
func (s *Set) AddChange(number uint64, o account.ChangeOpening) { put(&s.changes, number, o) }

// AddGrant adds the opening of the grant of that number.
func (s *Set) AddGrant(number uint64, o account.GrantOpening) { put(&s.grants, number, o) }

// AddRequest adds the opening of the box or redemption of that number.
func (s *Set) AddRequest(number uint64, o account.RequestOpening) { put(&s.requests, number, o) }

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

func get[K comparable, V any](m map[K]V, k K) (V, bool) {
	v, ok := m[k]
	return v, ok
}

// Credit, Binding, Handover, Change, Grant and Request return the opening of the entry of that number, and whether there is one.
func (s *Set) Credit(number uint64) (ledger.CreditOpening, bool) { return get(s.credits, number) }

// Binding returns the opening of the binding of that number.
func (s *Set) Binding(number uint64) (ledger.BindingOpening, bool) { return get(s.bindings, number) }

// Handover returns the opening of the hand-over of that number.
func (s *Set) Handover(number uint64) (ledger.HandoverOpening, bool) { return get(s.handed, number) }

// Change returns the opening of the change of an account of that number.
func (s *Set) Change(number uint64) (account.ChangeOpening, bool) { return get(s.changes, number) }

// Grant returns the opening of the grant of that number.
func (s *Set) Grant(number uint64) (account.GrantOpening, bool) { return get(s.grants, number) }

// Request returns the opening of the box or redemption of that number.
func (s *Set) Request(number uint64) (account.RequestOpening, bool) { return get(s.requests, number) }

// Secret returns an account's secret, and whether there is one.
func (s *Set) Secret(id string) ([32]byte, bool) { return get(s.secrets, id) }

type (
	file struct {
		Accounts []openedAccount `json:"accounts"`
		Credits  []openedEntry   `json:"credits"`
		Bindings []openedEntry   `json:"bindings"`
		// Files of logs without these leave them out.
		Handovers []openedEntry `json:"handovers,omitempty"`
		Changes   []openedEntry `json:"changes,omitempty"`
		Grants    []openedEntry `json:"grants,omitempty"`
		Requests  []openedEntry `json:"requests,omitempty"`
		Erased    *erased       `json:"erased,omitempty"`
	}
	// erased is what is left of entries whose openings were destroyed.
	erased struct {
		Entries []uint64     `json:"entries"`
		Leaves  []erasedLeaf `json:"leaves"`
		Keys    []erasedKey  `json:"keys,omitempty"`
	}
	erasedLeaf struct {
		Day       uint32 `json:"day"`
		Pseudonym string `json:"pseudonym"`
		Weight    uint64 `json:"weight"`
	}
	erasedKey struct {
		Mark    string `json:"mark"`
		Since   uint64 `json:"since"`
		Cut     uint64 `json:"cut"`
		Revoked bool   `json:"revoked,omitempty"`
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

// A table is one kind of openings on its way between a Set and a file.
type table struct {
	name   string
	list   *[]openedEntry
	encode func() ([]openedEntry, error)
	decode func(string, []openedEntry) error
}

func (s *Set) tables(f *file) []table {
	return []table{
		tableOf("credit", &f.Credits, &s.credits), tableOf("binding", &f.Bindings, &s.bindings), tableOf("hand-over", &f.Handovers, &s.handed),
		tableOf("change", &f.Changes, &s.changes), tableOf("grant", &f.Grants, &s.grants), tableOf("request", &f.Requests, &s.requests),
	}
}

func tableOf[V any](name string, list *[]openedEntry, m *map[uint64]V) table {
	return table{name, list, func() ([]openedEntry, error) { return encode(*m) }, func(what string, e []openedEntry) error { return decode(what, m, e) }}
}

// Write writes the openings as JSON.
func (s *Set) Write(w io.Writer) error {
	var f file
	for _, id := range slices.Sorted(maps.Keys(s.secrets)) {
		secret := s.secrets[id]
		f.Accounts = append(f.Accounts, openedAccount{id, hex.EncodeToString(secret[:])})
	}
	for _, t := range s.tables(&f) {
		var err error
		if *t.list, err = t.encode(); err != nil {
			return err
		}
	}
	f.Erased = s.listErased()
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("cannot write openings: %w", err)
	}
	return nil
}

func (s *Set) listErased() *erased {
	if len(s.erased) == 0 && len(s.leaves) == 0 && len(s.keys) == 0 {
		return nil
	}
	e := &erased{Entries: slices.Sorted(maps.Keys(s.erased))}
	for _, k := range slices.SortedFunc(maps.Values(s.keys), func(a, b ledger.ErasedKey) int { return bytes.Compare(a.Mark[:], b.Mark[:]) }) {
		e.Keys = append(e.Keys, erasedKey{hex.EncodeToString(k.Mark[:]), k.Since, k.Cut, k.Revoked})
	}
	for _, day := range slices.Sorted(maps.Keys(s.leaves)) {
		for _, l := range s.ErasedLeaves(day) {
			e.Leaves = append(e.Leaves, erasedLeaf{day, hex.EncodeToString(l.Pseudonym[:]), l.Weight})
		}
	}
	return e
}

func (s *Set) readErased(e *erased) error {
	for _, n := range e.Entries {
		if s.Erased(n) {
			return fmt.Errorf("cannot read openings: erased entry %d stands twice", n)
		}
		s.AddErased(n)
	}
	for _, k := range e.Keys {
		b, err := hex.DecodeString(k.Mark)
		if err != nil || len(b) != len(wire.Hash{}) {
			return errors.New("cannot read openings: an erased key has no mark of 32 bytes in hexadecimal")
		}
		if _, twice := s.keys[wire.Hash(b)]; twice {
			return fmt.Errorf("cannot read openings: erased key %s stands twice", k.Mark)
		}
		s.AddErasedKey(ledger.ErasedKey{Mark: wire.Hash(b), Since: k.Since, Cut: k.Cut, Revoked: k.Revoked})
	}
	for _, l := range e.Leaves {
		b, err := hex.DecodeString(l.Pseudonym)
		if err != nil || len(b) != len(wire.Hash{}) || l.Weight == 0 {
			return fmt.Errorf("cannot read openings: an erased leaf of day %d has no pseudonym of 32 bytes in hexadecimal, or no weight", l.Day)
		}
		if _, twice := s.leaves[l.Day][wire.Hash(b)]; twice {
			return fmt.Errorf("cannot read openings: an erased leaf of day %d stands twice", l.Day)
		}
		s.AddErasedLeaf(l.Day, reward.Leaf{Pseudonym: wire.Hash(b), Weight: l.Weight})
	}
	return nil
}

func encode[V any](m map[uint64]V) (out []openedEntry, err error) {
	for _, n := range slices.Sorted(maps.Keys(m)) {
		b, err := codec.Encode(m[n])
		if err != nil {
			return nil, err
		}
		out = append(out, openedEntry{n, hex.EncodeToString(b)})
	}
	return out, nil
}

func decode[V any](what string, m *map[uint64]V, entries []openedEntry) error {
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

// Read reads what Write wrote, at most 1 GiB.
func Read(r io.Reader) (*Set, error) {
	var f file
	dec := json.NewDecoder(io.LimitReader(r, maxSetLen))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("cannot read openings: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("cannot read openings: something follows them")
	}
	s := new(Set)
	for _, a := range f.Accounts {
		secret, err := hex.DecodeString(a.Secret)
		if err != nil || len(secret) != 32 {
			return nil, fmt.Errorf("cannot read openings: the secret of account %q is not 32 bytes in hexadecimal", a.ID)
		}
		if _, twice := s.secrets[a.ID]; twice {
			return nil, fmt.Errorf("cannot read openings: account %q stands twice", a.ID)
		}
		s.AddAccount(a.ID, [32]byte(secret))
	}
	for _, t := range s.tables(&f) {
		if err := t.decode(t.name, *t.list); err != nil {
			return nil, err
		}
	}
	if f.Erased != nil {
		return s, s.readErased(f.Erased)
	}
	return s, nil
}
