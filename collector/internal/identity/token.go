package identity

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rawstone/collector/internal/store"
	"rawstone/pkg/enroll"
)

// Token returns a new token with which a vehicle may enrol, once, until the returned time: the first time or again, with another device
// key. A token from before is good no more; a certificate is until the vehicle enrols.
func (r *Registry) Token(ctx context.Context, vehicle string) (token string, expires time.Time, err error) {
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		if err := mayConnect(ctx, tx, vehicle); err != nil {
			return err
		}
		if token, err = r.newToken(ctx, tx, vehicle); err != nil {
			return err
		}
		e, err := tx.Enrolment(ctx, vehicle)
		expires = e.Expires
		return err
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("cannot make token for vehicle %s: %w", vehicle, err)
	}
	return token, expires, nil
}

// newToken keeps the hash of a fresh token.
func (r *Registry) newToken(ctx context.Context, tx *store.Tx, vehicle string) (string, error) {
	token := enroll.NewToken()
	return token, tx.SetToken(ctx, vehicle, enroll.HashToken(token), r.cfg.Clock.Now().Add(r.cfg.TokenLife))
}

// mayConnect refuses vehicles that are not registered or are revoked.
func mayConnect(ctx context.Context, tx *store.Tx, vehicle string) error {
	if e, err := tx.Enrolment(ctx, vehicle); errors.Is(err, store.ErrNotFound) {
		return errors.New("it is not registered: add it first")
	} else if err != nil {
		return err
	} else if e.Revoked {
		return errors.New("it is revoked")
	}
	return nil
}

// RevokeVehicle keeps a vehicle from connecting and from getting a certificate, for good. A running collector cuts its connection within
// seconds. What it has sent stays as it is; its ECU's key is not revoked and may be released for another vehicle.
func (r *Registry) RevokeVehicle(ctx context.Context, vehicle string) error {
	err := r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		if err := mayConnect(ctx, tx, vehicle); err != nil {
			return err
		}
		return tx.RevokeVehicle(ctx, vehicle)
	})
	if err != nil {
		return fmt.Errorf("cannot revoke vehicle %s: %w", vehicle, err)
	}
	return nil
}

// Enrolments returns how all vehicles may connect, in the order of their names.
func (r *Registry) Enrolments(ctx context.Context) (all []store.Enrolment, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		all, err = tx.Enrolments(ctx)
		return err
	})
	return all, err
}
