package store

import (
	"context"
	"errors"
)

// Known reports whether a vehicle is registered.
func (d *DB) Known(ctx context.Context, vehicle string) (is bool, err error) {
	err = d.View(ctx, func(tx *Tx) error {
		_, err := tx.Vehicle(ctx, vehicle)
		if is = err == nil; errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
	return is, err
}
