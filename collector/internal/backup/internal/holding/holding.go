// Package holding is what a copy of a collector's records says that the ledger holds: enough of it to compare it with a ledger and
// with a checkpoint. It writes nothing but that it brings the schema of SQLite's file up to date.
//
// It keeps 32 bytes of memory for each entry.
package holding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const (
	page = 256
	// maxEntries bounds what the check holds in memory, 32 bytes an entry.
	maxEntries = 1 << 30
)

// A Holding is what records say that the ledger is to hold. The zero value holds nothing.
type Holding struct {
	leaves []wire.Hash // by number; RFC 6962's leaf hashes
}

// Add takes an entry; they may come in any order.
func (h *Holding) Add(e *ledger.Entry) error {
	if e.Number >= maxEntries {
		return fmt.Errorf("the records hold entry %d, at most %d are understood", e.Number, maxEntries)
	}
	b, err := e.Encode()
	if err != nil {
		return err
	}
	if more := int(e.Number) + 1 - len(h.leaves); more > 0 {
		h.leaves = append(h.leaves, make([]wire.Hash, more)...)
	}
	h.leaves[e.Number] = wire.Hash(rfc6962.DefaultHasher.HashLeaf(b))
	return nil
}

// AddDraft passes over what waits for cosignatures: it is no entry yet.
func (h *Holding) AddDraft(outbox.Draft) {}

// Len is how many entries there are, once Whole has returned nil.
func (h *Holding) Len() uint64 { return uint64(len(h.leaves)) }

// Whole refuses records in which a number is left out.
func (h *Holding) Whole() error {
	if n := slices.Index(h.leaves, wire.Hash{}); n >= 0 {
		return fmt.Errorf("the records hold no entry %d and later ones", n)
	}
	return nil
}

// ReadFile reads a copy of SQLite's file, which it may migrate, and calls then with it, when that is set.
func ReadFile(ctx context.Context, path string, then func(*Holding, *store.DB) error) (h *Holding, err error) {
	db, err := store.Open(ctx, store.Config{Path: path, Role: store.Settle})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	h = new(Holding)
	err = db.View(ctx, func(tx *store.Tx) error {
		for {
			entries, err := tx.Entries(ctx, uint64(len(h.leaves)), page)
			if err != nil {
				return err
			}
			for i := range entries {
				if err := h.Add(&entries[i]); err != nil {
					return err
				}
			}
			if len(entries) < page {
				return nil
			}
		}
	})
	if err == nil {
		err = h.Whole()
	}
	if err == nil && then != nil {
		err = then(h, db)
	}
	return h, err
}

// Follow replays the ledger in a directory, whose every entry must be the records', and checks that the documents, when they are given,
// are those that it was written by. Openings may be nil.
func (h *Holding) Follow(ctx context.Context, root wire.PublicKey, dir string, openings audit.Opener, documents []ledger.Entry) error {
	replay, err := audit.NewReplay(root, openings)
	if err != nil {
		return err
	}
	ahead := make(map[ledger.Type]int)
	size := uint64(0)
	err = audit.Read(ctx, dir, root, func(e *ledger.Entry) error {
		size++
		if e.Number >= uint64(len(h.leaves)) {
			ahead[e.Type]++
			return nil
		}
		b, err := e.Encode()
		if err != nil {
			return err
		}
		if h.leaves[e.Number] != wire.Hash(rfc6962.DefaultHasher.HashLeaf(b)) {
			return fmt.Errorf("entry %d of the ledger is not the records': they do not belong together", e.Number)
		}
		return replay.Apply(e)
	})
	if err != nil {
		return err
	}
	if len(ahead) > 0 {
		return fmt.Errorf("the ledger holds %d entries and the records only %d: restore newer records; %s", size, len(h.leaves), rebuildable(ahead))
	}
	if documents == nil {
		return nil
	}
	_, absent, err := replay.NewDocuments(documents)
	if err == nil && len(absent) > 0 {
		err = fmt.Errorf("policy %d is in the ledger and not in program.policies", absent[0])
	}
	return err
}

// rebuildable says what of the entries that the records lack the ledger could give back.
func rebuildable(ahead map[ledger.Type]int) string {
	var can, cannot []string
	for _, t := range slices.Sorted(maps.Keys(ahead)) {
		n := fmt.Sprintf("%d of type %s", ahead[t], t)
		switch t {
		case ledger.TypeCredit, ledger.TypeBinding, ledger.TypeHandover:
			cannot = append(cannot, n)
		default:
			can = append(can, n)
		}
	}
	say := "nothing of what they lack can be rebuilt from the ledger"
	if len(can) > 0 {
		say = "of what they lack, the ledger can give back the entries " + strings.Join(can, ", ")
	}
	if len(cannot) > 0 {
		say += "; whose these are it does not tell, for they are blinded: " + strings.Join(cannot, ", ")
	}
	return say
}
