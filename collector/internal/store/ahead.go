package store

import (
	"context"
	"strings"
	"unicode/utf8"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/inbox"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// A Want says what the decision about a submission reads: for a claim also of which ECU key, and where the claim ends; ECU is zero for
// others.
type Want struct {
	Submission wire.Hash
	Vehicle    string
	Kind       wire.Kind
	ECU        wire.KeyID
	To         uint64
}

// end is where a span ends, which identifies it.
type end struct {
	ecu wire.KeyID
	to  uint64
}

// ahead is what a transaction has read before it was asked. A nil is what is not there.
type ahead struct {
	tried       bool
	submissions map[inbox.Key]*Submission
	vehicles    map[string]*Vehicle
	bindings    map[wire.KeyID][]Binding
	spans       map[end]*Span
	blocks      []ledger.Entry
	hasBlocks   bool
}

func found[T any](v *T) (T, error) {
	if v == nil {
		var none T
		return none, ErrNotFound
	}
	return *v, nil
}

// Ahead reads at once what decisions about submissions will read one by one: their vehicles, earlier answers, bindings and spans. From then
// on the transaction knows them, and of what changes them AddSubmission, AddSpan and SetSeen; it is for transactions that call
// no other method that does. A second call does nothing. What cannot be read is left to be read when it is asked for: the error is
// that one decision's.
func (t *Tx) Ahead(ctx context.Context, wants []Want) {
	if t.ahead.tried {
		return
	}
	t.ahead.tried = true
	if a, err := t.readAhead(ctx, wants); err == nil {
		t.ahead = a
	}
}

func (t *Tx) readAhead(ctx context.Context, wants []Want) (ahead, error) {
	a := ahead{
		true, make(map[inbox.Key]*Submission), make(map[string]*Vehicle), make(map[wire.KeyID][]Binding), make(map[end]*Span), nil, false,
	}
	var submissions []inbox.Key
	var vehicles, keys, ends [][]any
	for _, w := range wants {
		if !utf8.ValidString(w.Vehicle) || strings.IndexByte(w.Vehicle, 0) >= 0 {
			continue // whoever asks for it gets the error, and not all others
		}
		key := inbox.Key{ID: w.Submission, Vehicle: w.Vehicle, Kind: w.Kind}
		if once(a.submissions, key, nil) {
			submissions = append(submissions, key)
		}
		if once(a.vehicles, w.Vehicle, nil) {
			vehicles = append(vehicles, []any{w.Vehicle})
		}
		if w.ECU == (wire.KeyID{}) {
			continue
		}
		if once(a.bindings, w.ECU, nil) {
			keys = append(keys, []any{w.ECU[:]})
		}
		if once(a.spans, end{w.ECU, w.To}, nil) {
			ends = append(ends, []any{w.ECU[:], int64(w.To)})
		}
	}
	answered, err := t.Submissions(ctx, submissions)
	if err != nil {
		return ahead{}, err
	}
	for i, s := range answered {
		a.submissions[inbox.Key{ID: s.ID, Vehicle: s.Vehicle, Kind: s.Kind}] = &answered[i]
	}
	vs, err := database.ListOf(ctx, t.tx, vehicle(), scanVehicle, vehicles)
	if err != nil {
		return ahead{}, err
	}
	for i, v := range vs {
		a.vehicles[v.ID] = &vs[i]
	}
	bs, err := database.ListOf(ctx, t.tx, keyBindings(), scanBindings, keys)
	if err != nil {
		return ahead{}, err
	}
	for _, b := range bs {
		a.bindings[b.ECU.ID()] = append(a.bindings[b.ECU.ID()], b)
	}
	spans, err := database.ListOf(ctx, t.tx, readSpan(), scanSpan, ends)
	if err != nil {
		return ahead{}, err
	}
	for i, s := range spans {
		a.spans[end{s.ECU, s.To.Seq}] = &spans[i]
	}
	return a, nil
}

// once adds a key to a map and reports whether it was not there.
func once[K comparable, V any](m map[K]V, key K, v V) bool {
	if _, there := m[key]; there {
		return false
	}
	m[key] = v
	return true
}

// Submission returns what was answered to the same bytes, of the same vehicle, before, or ErrNotFound.
func (t *Tx) Submission(ctx context.Context, id wire.Hash, vehicle string, kind wire.Kind) (Submission, error) {
	if s, ok := t.ahead.submissions[inbox.Key{ID: id, Vehicle: vehicle, Kind: kind}]; ok {
		return found(s)
	}
	return t.Inbox.Submission(ctx, id, vehicle, kind)
}

// AddSubmission keeps a submission of a registered vehicle, its receipt to be published.
func (t *Tx) AddSubmission(ctx context.Context, s *Submission) error {
	delete(t.ahead.submissions, inbox.Key{ID: s.ID, Vehicle: s.Vehicle, Kind: s.Kind})
	return t.Inbox.AddSubmission(ctx, s)
}

// LastBlock returns the last numbered block, or ErrNotFound. After Ahead it is read once.
func (t *Tx) LastBlock(ctx context.Context) (ledger.Entry, error) {
	blocks, err := t.ahead.blocks, error(nil)
	if !t.ahead.hasBlocks {
		if blocks, err = t.LastEntries(ctx, ledger.TypeBlock, 1); err != nil {
			return ledger.Entry{}, err
		}
	}
	if t.ahead.submissions != nil {
		t.ahead.blocks, t.ahead.hasBlocks = blocks, true
	}
	if len(blocks) == 0 {
		return ledger.Entry{}, ErrNotFound
	}
	return blocks[0], nil
}
