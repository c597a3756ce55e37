// Package counter holds a budget ledger's number of charges against a monotone counter, which tells of an older copy of the ledger.
//
// A record beside the chain ties the two: the count was so much when the chain had so many charges. Invariants: the counter is
// incremented at most once for a charge, after the charge is on flash, so that it stands where the chain does, or one behind where a
// crash came between; it is never taken for this ledger's own unless it was new, or this ledger had recorded that it was about to begin.
// The package refuses a counter that is new, or behind, where the record says that it counted before.
package counter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
)

// Counter is a monotone counter that no copy of the flash brings along, such as an NV counter of a TPM.
type Counter interface {
	// Value returns the count. fresh says that it was never incremented since it was made: then n means nothing, and the count after
	// the first Increment is the counter's to choose.
	Value() (n uint64, fresh bool, err error)
	// Increment adds one, which is durable when it returns nil. After an error it may have been added or not.
	Increment() error
}

// Key is where the record that ties a counter to the chain lies.
const Key = "budget/counter"

const (
	domain = "rawstone/budget/counter/v1\x00"
	size   = 1 + 1 + 8 + 8 + sha256.Size
)

// binding is the record: the count was value when the chain had index charges. Before bound, the counter was new and is about to be
// incremented for the first time.
type binding struct {
	bound        bool
	index, value uint64
}

func (b binding) encode() []byte {
	e := make([]byte, 2, size)
	e[0] = charge.Version
	if b.bound {
		e[1] = 1
	}
	e = binary.BigEndian.AppendUint64(e, b.index)
	e = binary.BigEndian.AppendUint64(e, b.value)
	sum := charge.Digest(domain, e)
	return append(e, sum[:]...)
}

func decode(e []byte) (b binding, err error) {
	if len(e) == size {
		b = binding{bound: e[1] == 1, index: binary.BigEndian.Uint64(e[2:]), value: binary.BigEndian.Uint64(e[10:])}
	}
	if !bytes.Equal(b.encode(), e) {
		return binding{}, charge.Corrupt("what ties it to its counter does not match its hash")
	}
	return b, nil
}

func (b binding) write(db chain.DB) error {
	if err := chain.Put(db, []byte(Key), b.encode()); err != nil {
		return fmt.Errorf("cannot tie ledger to its counter: %w", err)
	}
	return nil
}

// Settle holds a chain of last charges against c, nil where there is none, and lets the counter catch up where it is one behind. older
// says what shows that the chain is an older copy, and is empty where nothing does. Errors: charge.ErrCorrupt for another counter than
// the ledger's, a counter that does not answer, and one that is missing although the ledger had one.
func Settle(db chain.DB, c Counter, last uint64) (older string, err error) {
	e, found, err := chain.Get(db, []byte(Key))
	if err != nil {
		return "", fmt.Errorf("cannot read what ties it to its counter: %w", err)
	}
	if c == nil {
		if found {
			return "", errors.New("it counts its charges in a counter and none is given; configure the same one as before")
		}
		return "", nil
	}
	var b binding
	if found {
		if b, err = decode(e); err != nil {
			return "", err
		}
	}
	n, fresh, err := c.Value()
	if err != nil {
		return "", fmt.Errorf("cannot read counter of charges: %w", err)
	}
	switch {
	case !found && fresh, found && !b.bound && last == b.index:
		return "", begin(db, c, last, n, fresh)
	case !found:
		return "its counter of charges was used before and the ledger knows nothing of that", nil
	case !b.bound || fresh || last < b.index:
		return "", charge.Corrupt("it is tied to another counter of charges than this one")
	}
	switch want := b.value + (last - b.index); {
	case n == want:
		return "", nil
	case n > want:
		return fmt.Sprintf("its counter has seen %d charges beyond its last", n-want), nil
	case n == want-1 && last > b.index:
		return "", increment(c)
	default:
		return "", charge.Corrupt("its counter has seen %d charges fewer than it holds: it is another counter", want-n)
	}
}

// begin ties the chain to a new counter. That it is about to is recorded first: a crash after the first increment leaves a counter that
// is no longer new and that this ledger may still take for its own.
func begin(db chain.DB, c Counter, last, n uint64, fresh bool) error {
	if err := (binding{index: last}).write(db); err != nil {
		return err
	}
	if fresh {
		if err := increment(c); err != nil {
			return err
		}
		var err error
		if n, _, err = c.Value(); err != nil {
			return fmt.Errorf("cannot read counter of charges: %w", err)
		}
	}
	return binding{bound: true, index: last, value: n}.write(db)
}

func increment(c Counter) error {
	if err := c.Increment(); err != nil {
		return fmt.Errorf("cannot increment counter of charges: %w", err)
	}
	return nil
}
