package identity

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/store"
)

// A Token is what a vehicle may enrol with.
type Token struct{ Vehicle, Token string }

// AddMany registers vehicles in one transaction, all or none, and passes over those that are registered with the same ECU already. keep
// gets the new ones' tokens before they count: one that was lost could not be told again, and one that is kept for nothing does no harm. It
// may be called again with other tokens when the transaction is; the last ones count. Refusals name the vehicle.
func (r *Registry) AddMany(ctx context.Context, vs []Vehicle, keep func([]Token) error) (added int, err error) {
	for _, v := range vs {
		if err := r.check(v); err != nil {
			return 0, fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
		}
	}
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		var tokens []Token
		for _, v := range vs {
			there, err := registeredWith(ctx, tx, v)
			if err == nil && !there {
				t := Token{Vehicle: v.ID}
				_, t.Token, err = r.add(ctx, tx, v)
				tokens = append(tokens, t)
			}
			if err != nil {
				return fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
			}
		}
		if added = len(tokens); added == 0 {
			return nil
		}
		if err := tx.Flush(ctx); err != nil {
			return fmt.Errorf("cannot add vehicles: %w", err)
		}
		return keep(tokens)
	})
	if err != nil {
		return 0, err
	}
	return added, nil
}

// registeredWith reports whether a vehicle is registered with the ECU that it names, and refuses one that is with another.
func registeredWith(ctx context.Context, tx *store.Tx, v Vehicle) (bool, error) {
	if _, err := tx.Vehicle(ctx, v.ID); errors.Is(err, store.ErrNotFound) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	all, err := tx.KeyBindings(ctx, v.Identity.Key.ID())
	if err != nil {
		return false, err
	}
	for _, b := range all {
		if b.Vehicle == v.ID {
			return true, nil
		}
	}
	return false, errors.New("it is already registered, with another ECU: to give it this one, `collector ecu replace`")
}
