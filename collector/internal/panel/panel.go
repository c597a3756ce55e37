// Package panel asks the validators of a ledger, all at once and each for a bounded time. Whom it asks has seen all entries first.
//
// It does not count whether the answers are enough, nor does it believe them: both are the caller's.
package panel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rawstone/pkg/ledger"
)

// A Follower is given the entries of a ledger.
type Follower interface {
	// Next returns the number of the entry that it wants next.
	Next(ctx context.Context) (uint64, error)
	// Follow gives it entries in order.
	Follow(ctx context.Context, entries ...ledger.Entry) error
}

// A Panel is the validators of a ledger in the order of the program's list, at most 256.
type Panel[V Follower] struct {
	Validators []V
	// Patience is how long a validator may take.
	Patience time.Duration
	// Entries returns some of the ledger's entries from a number on. It is called from several goroutines.
	Entries func(ctx context.Context, from uint64) ([]ledger.Entry, error)
}

// Ask brings validators up to the entry before number next and calls them at once, each for as long as the panel's patience. Without a
// list of indices it asks all. Answers and reasons are by validator; who has no answer has a reason, which names it.
func Ask[V Follower, T any](ctx context.Context, p Panel[V], next uint64, list []byte, call func(context.Context, uint8, V) (T, error)) ([]T, []error) {
	answers, reasons := make([]T, len(p.Validators)), make([]error, len(p.Validators))
	var wg sync.WaitGroup
	for i, v := range p.Validators {
		if list != nil && !slices.Contains(list, byte(i)) {
			reasons[i] = errors.New("not asked")
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, p.Patience)
			defer cancel()
			err := p.bring(ctx, v, next)
			if err == nil {
				answers[i], err = call(ctx, uint8(i), v)
			}
			if err != nil {
				reasons[i] = fmt.Errorf("validator %d: %w", i, err)
			}
		})
	}
	wg.Wait()
	return answers, reasons
}

// bring gives a validator the entries before number to that it has not seen.
func (p Panel[V]) bring(ctx context.Context, v V, to uint64) error {
	next, err := v.Next(ctx)
	if err != nil {
		return err
	}
	for next < to {
		entries, err := p.Entries(ctx, next)
		if err != nil {
			return err
		}
		entries = entries[:min(uint64(len(entries)), to-next)]
		if len(entries) == 0 {
			return fmt.Errorf("cannot read entry %d", next)
		}
		if err := v.Follow(ctx, entries...); err != nil {
			return err
		}
		next += uint64(len(entries))
	}
	if next > to {
		return fmt.Errorf("it has seen %d entries, the records hold %d", next, to)
	}
	return nil
}
