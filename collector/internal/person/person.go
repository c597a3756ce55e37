// Package person does what a person may ask of a collector with what it keeps of them: hand it over whole, and destroy it.
//
// Both go by the account. An export is one JSON document with everything that Erase would destroy; it is secret, for it holds what opens the
// account's entries. Erasing is for good: stones and crystals that the account has are nobody's from then on, and never come back. What
// the records do not hold is none of the package's business: backups, files that an auditor was given, and validators' copies (package feed
// tells those).
package person

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/store"
)

// ErrNoAccount is for an account that is not there.
var ErrNoAccount = errors.New("there is no such account: `collector account list` prints them")

// Config says where the records are. Both are required, and of one set of records; on SQLite one database may be both.
type Config struct {
	// Reader is opened for the role Person and Writer, which an export can do without, for the role Admin.
	Reader, Writer *store.DB
}

// Erased says what came of an erasure.
type Erased struct {
	// Entries counts the ledger's entries that have lost their openings.
	Entries uint64
}

// Erase destroys what the records hold of an account's person. It refuses while a car is bound to the account or may connect for it, and while the
// ledger is not done with what the account has asked for.
func Erase(ctx context.Context, c Config, account string) (e Erased, err error) {
	var leaves []erasure.Leaf
	err = c.Reader.View(ctx, func(tx *store.Tx) error {
		secret, err := tx.AccountSecret(ctx, account)
		if err != nil {
			return err
		}
		km, err := tx.Earned(ctx, account)
		leaves = erasure.Leaves(secret, km)
		return err
	})
	if err == nil {
		err = c.Writer.Update(ctx, func(tx *store.Tx) error {
			o, err := tx.Obstacles(ctx, account)
			if err != nil {
				return err
			}
			if err := refuse(o); err != nil {
				return err
			}
			e.Entries, err = tx.Erase(ctx, account, leaves)
			return err
		})
	}
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNoAccount
	}
	if err != nil {
		return Erased{}, fmt.Errorf("cannot erase account %s: %w", account, err)
	}
	return e, nil
}

// refuse says what is to be done first.
func refuse(o erasure.Obstacles) error {
	switch {
	case len(o.Bound) > 0:
		return fmt.Errorf("vehicle %s is bound to it: give the car to another account with `collector vehicle transfer`, or take its ECU out with `collector ecu release`", strings.Join(o.Bound, ", "))
	case len(o.Connecting) > 0:
		return fmt.Errorf("vehicle %s may still connect for it: `collector vehicle revoke`, or give the car to another account before its ECU is released", strings.Join(o.Connecting, ", "))
	case o.Waiting > 0:
		return fmt.Errorf("%d of its entries or mine boxes wait for the ledger: try again after the next drop", o.Waiting)
	case o.Full > 0:
		return fmt.Errorf("%d accounts that counted on day %d, as it did, are erased already: validators of this version take no more of one day, so update them and the collector first", erasure.MaxLeaves, o.Full)
	}
	return nil
}
