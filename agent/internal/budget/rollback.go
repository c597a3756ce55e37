package budget

import (
	"bytes"
	"errors"
	"fmt"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
	"rawstone/agent/internal/budget/internal/counter"
)

// Counter is a monotone counter that no copy of the flash brings along, such as an NV counter of a TPM: Value() (n uint64, fresh bool,
// err error), where fresh says that it was never incremented since it was made, and Increment() error, durable when it returns nil.
type Counter = counter.Counter

const (
	// rolledKey is where the ledger records that it was found to be an older copy, and why. Whatever lies there counts.
	rolledKey = "budget/rolled-back"
	maxReason = 512
)

// Compare holds the ledger against what somebody outside remembers of it: that charge number index had the hash head. index 0 says
// that nothing is remembered. A ledger that has fewer charges, or another one at that place, is an older copy, or went on from one:
// that is ErrRolledBack, durably. Any other error says that it could not be compared and marks nothing.
func (l *Ledger) Compare(index uint64, head [32]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.rolled != nil:
		return l.rolled
	case index == 0:
		return nil
	case index > l.last.Index:
		return l.mark(fmt.Sprintf("it holds %d charges and reports came with %d", l.last.Index, index))
	}
	hash, err := l.hashAt(index)
	if err != nil {
		return fmt.Errorf("cannot compare budget ledger: %w", err)
	}
	if hash != head {
		return l.mark(fmt.Sprintf("its charge %d is another than a report came with", index))
	}
	return nil
}

// hashAt returns the hash of a charge of the chain, 1 <= index <= last.Index.
func (l *Ledger) hashAt(index uint64) (hash [32]byte, err error) {
	if first := l.recent[0].Index; index >= first {
		return l.recent[index-first].Hash, nil
	}
	found := false
	err = chain.Walk(l.db, func(_ []byte, c charge.Charge) bool {
		if c.Index == index {
			hash, found = c.Hash, true
		}
		return !found
	})
	if err == nil && !found {
		err = charge.Corrupt("charge %d is gone", index)
	}
	return hash, err
}

// MarkRolledBack records durably that somebody outside has refused the ledger as an older copy, as a collector does that has seen a
// later charge, or the same one with another report. why is a clause for the driver, of at most 512 bytes. Compare, Charge and Err
// say it from then on. The error is that of writing; nothing is charged after it either, until the ledger is opened again.
func (l *Ledger) MarkRolledBack(why string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rolled != nil {
		return nil
	}
	if err := l.mark(why); !errors.Is(err, ErrRolledBack) {
		return fmt.Errorf("cannot mark budget ledger: %w", err)
	}
	return nil
}

// mark makes the refusal durable and returns it.
func (l *Ledger) mark(why string) error {
	value := []byte(why)
	value = value[:min(len(value), maxReason)]
	if err := chain.Put(l.db, []byte(rolledKey), value); err != nil {
		l.failed = fmt.Errorf("cannot record that the ledger was rolled back (%s): %w", why, err)
		return l.failed
	}
	l.rolled = rolledBack(value)
	return l.rolled
}

// rolledBack wraps ErrRolledBack with what was found and what follows from it.
func rolledBack(why []byte) error {
	return fmt.Errorf("%w: %s; no report may be drawn until the vehicle is enrolled anew", ErrRolledBack, bytes.ToValidUTF8(why, []byte("?")))
}

// recall sets rolled where the ledger was marked before.
func (l *Ledger) recall() error {
	why, found, err := chain.Get(l.db, []byte(rolledKey))
	if err != nil {
		return charge.Corrupt("whether it was rolled back cannot be read: %v", err)
	}
	if found {
		l.rolled = rolledBack(why[:min(len(why), maxReason)])
	}
	return nil
}

// settle holds the chain against the counter.
func (l *Ledger) settle() error {
	older, err := counter.Settle(l.db, l.counter, l.last.Index)
	if err != nil {
		return err
	}
	if older != "" {
		return l.mark(older)
	}
	return nil
}

// Err says why nothing is charged, whatever the epoch and the cost: the error wraps ErrRolledBack, or tells of a failed write after
// which the ledger must be opened again. It is nil for a ledger in order.
func (l *Ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rolled != nil {
		return l.rolled
	}
	return l.failed
}
