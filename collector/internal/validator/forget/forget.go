// Package forget has a validator destroy what it was told of one account, when the collector has erased it.
//
// The validator goes by what it holds: the entries must be all that named the account, with the hand-overs of its keys, so that the rest of its
// copy still follows by itself, and the account's leaves it makes from its own copy. It refuses a list that would leave a part behind.
// What it has in memory goes when it is started the next time.
package forget

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/validator/archive"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// MaxEntries bounds the entries of one erasure: those of a car that claims every day for a lifetime are fewer.
const MaxEntries = 1 << 17

// A Copy is a validator's; *archive.Archive is one.
type Copy interface {
	Durable() uint64
	Entry(number uint64) (disclosure.Entry, error)
	Erase(archive.Erasure) error
}

// Memory is what was replayed; *opener.Opener is one.
type Memory interface {
	Secret(account string) ([32]byte, bool)
	Count(account string) uint64
	// Forget notes that the account was erased: another may have its name.
	Forget(account string)
}

// Erase destroys what is behind the entries of those numbers, which ascend, as far as the copy has them, and returns how many had something left. It
// returns disclosure.ErrStale when it has not followed all of them: then it must be started again before it goes on.
func Erase(c Copy, m Memory, numbers []uint64) (erased int, err error) {
	if len(numbers) > MaxEntries {
		return 0, fmt.Errorf("cannot erase %d entries at once: at most %d allowed", len(numbers), MaxEntries)
	}
	var e archive.Erasure
	account, named, beyond := "", uint64(0), 0
	keys := make(map[wire.KeyID]int) // open bindings so far
	km := make(map[uint32]uint64)
	marks := make(map[wire.KeyID]ledger.ErasedKey)
	for i, n := range numbers {
		if i > 0 && n <= numbers[i-1] {
			return 0, errors.New("cannot erase entries: their numbers do not ascend")
		}
		if n >= c.Durable() {
			beyond++
			continue
		}
		it, err := c.Entry(n)
		if err != nil {
			return 0, err
		}
		switch {
		case !disclosure.Hides(it.Type):
			return 0, fmt.Errorf("cannot erase entry %d: it is of type %v and hides nothing", n, it.Type)
		case it.Erased:
			continue
		}
		e.Numbers = append(e.Numbers, n)
		if o, ok := disclosure.Opened[ledger.HandoverOpening](&it, ledger.TypeHandover); ok {
			if keys[o.ECU] == 0 {
				return 0, fmt.Errorf("cannot erase hand-over %d: no binding of its key before it is erased", n)
			}
			k := ledger.ErasedKey{Mark: ledger.KeyMark(o.ECU), Since: c.Durable(), Cut: o.Cut, Revoked: o.Revoked}
			marks[o.ECU] = k.Join(marks[o.ECU])
			continue
		}
		id, ok := it.Named()
		if !ok || account != "" && id != account {
			return 0, fmt.Errorf("cannot erase entry %d: it is of another account than the others", n)
		}
		account, named = id, named+1
		if o, ok := disclosure.Opened[ledger.BindingOpening](&it, ledger.TypeBinding); ok {
			keys[o.ECU.ID()]++
		}
		entry := it.Ledger()
		if credit, err := entry.Credit(); it.Type == ledger.TypeCredit && err == nil && credit.Km > 0 {
			km[credit.Effective] += uint64(credit.Km)
		}
	}
	if len(e.Numbers) == 0 {
		return 0, nil
	}
	if have := m.Count(account); named != have {
		return 0, fmt.Errorf("cannot erase an account: %d of its entries are named, and the copy holds %d", named, have)
	}
	secret, ok := m.Secret(account)
	if !ok {
		return 0, errors.New("cannot erase an account: its secret was never disclosed")
	}
	e.Leaves, e.Keys = erasure.Leaves(secret, km), slices.Collect(maps.Values(marks))
	if err := c.Erase(e); err != nil {
		return 0, err
	}
	m.Forget(account)
	if beyond > 0 {
		return len(e.Numbers), disclosure.ErrStale
	}
	return len(e.Numbers), nil
}
