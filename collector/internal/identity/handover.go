package identity

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// A Handover says how a binding ended.
type Handover struct {
	ECU     wire.KeyID
	Vehicle string
	// Head is how far the binding was credited, Cut how far its vehicle may still claim. When they are equal, what was not claimed is lost.
	Head, Cut uint64
}

// Bind binds an ECU to a registered vehicle that has none: a new one, or one that was released.
func (r *Registry) Bind(ctx context.Context, vehicle string, e ECU) error {
	err := r.checkECU(e)
	if err == nil {
		err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
			v, err := registered(ctx, tx, vehicle)
			if err != nil {
				return err
			}
			return bind(ctx, tx, v, e)
		})
	}
	if err != nil {
		return fmt.Errorf("cannot bind ECU to vehicle %s: %w", vehicle, err)
	}
	return nil
}

// Release ends a vehicle's binding. The final identity is the ECU's current one, read when it was taken out: the vehicle may claim up to
// its snapshot. It is nil when the ECU is dead; then the binding ends at its head.
func (r *Registry) Release(ctx context.Context, vehicle string, final *attest.Identity) (h Handover, err error) {
	if err = r.checkFinal(final); err == nil {
		err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
			h, err = release(ctx, tx, vehicle, final)
			return err
		})
	}
	if err != nil {
		return Handover{}, fmt.Errorf("cannot release ECU of vehicle %s: %w", vehicle, err)
	}
	return h, nil
}

// Replace ends a vehicle's binding as Release does and binds another ECU: both or none.
func (r *Registry) Replace(ctx context.Context, vehicle string, final *attest.Identity, e ECU) (h Handover, err error) {
	if err = errors.Join(r.checkFinal(final), r.checkECU(e)); err == nil {
		err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
			if h, err = release(ctx, tx, vehicle, final); err != nil {
				return err
			}
			if h.ECU == e.Identity.Key.ID() {
				return errors.New("the new ECU has the old one's key")
			}
			v, err := registered(ctx, tx, vehicle)
			if err != nil {
				return err
			}
			return bind(ctx, tx, v, e)
		})
	}
	if err != nil {
		return Handover{}, fmt.Errorf("cannot replace ECU of vehicle %s: %w", vehicle, err)
	}
	return h, nil
}

// Revoke revokes a key for good: it earns nothing more under any of its bindings, and is bound never again. Where the ECU is sound and
// only leaves the vehicle, Release keeps what was driven with it.
func (r *Registry) Revoke(ctx context.Context, key wire.KeyID) (h Handover, err error) {
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		all, err := tx.KeyBindings(ctx, key)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return errors.New("it is not registered: `collector ecu list` prints the keys")
		}
		last := all[len(all)-1]
		if last.Revoked {
			return errors.New("it is revoked already")
		}
		h, err = end(ctx, tx, last, nil, true)
		return err
	})
	if err != nil {
		return Handover{}, fmt.Errorf("cannot revoke ECU key %s: %w", key, err)
	}
	return h, nil
}

func (r *Registry) checkFinal(final *attest.Identity) error {
	if final == nil {
		return nil
	}
	return r.checkIdentity(*final)
}

// belowErased refuses an identity from before the cut of a binding that was erased: what it covers has earned already.
func belowErased(ctx context.Context, tx *store.Tx, i attest.Identity) error {
	id := i.Key.ID()
	cut, err := tx.ErasedCut(ctx, id[:])
	if err != nil || i.Snapshot.Seq >= cut {
		return err
	}
	return fmt.Errorf("its ECU's identity is snapshot %d, and its key was handed over at snapshot %d: make its identity again", i.Snapshot.Seq, cut)
}

func registered(ctx context.Context, tx *store.Tx, vehicle string) (store.Vehicle, error) {
	v, err := tx.Vehicle(ctx, vehicle)
	if errors.Is(err, store.ErrNotFound) {
		return v, errors.New("it is not registered: add it first")
	}
	return v, err
}

func release(ctx context.Context, tx *store.Tx, vehicle string, final *attest.Identity) (h Handover, err error) {
	if _, err := registered(ctx, tx, vehicle); err != nil {
		return h, err
	}
	b, err := bound(ctx, tx, vehicle)
	if err != nil {
		return h, err
	}
	return end(ctx, tx, b, final, false)
}

// bound returns the open binding of a registered vehicle.
func bound(ctx context.Context, tx *store.Tx, vehicle string) (store.Binding, error) {
	b, err := tx.OpenBinding(ctx, vehicle)
	if errors.Is(err, store.ErrNotFound) {
		return b, errors.New("no ECU is bound to it: bind one with `collector ecu bind`")
	}
	return b, err
}

// end closes a key's last binding at its head, or at the snapshot of the key's final identity.
func end(ctx context.Context, tx *store.Tx, b store.Binding, final *attest.Identity, revoked bool) (h Handover, err error) {
	h = Handover{ECU: b.ECU.ID(), Vehicle: b.Vehicle, Head: b.Head.Seq, Cut: b.Head.Seq}
	if final != nil {
		h.Cut = final.Snapshot.Seq
		switch {
		case final.Key != b.ECU:
			return h, fmt.Errorf("the hand-over's identity is of key %s, not of key %s, which is bound to vehicle %s: give the identity of the ECU that was taken out", final.Key.ID(), h.ECU, b.Vehicle)
		case h.Cut < h.Head:
			return h, fmt.Errorf("the hand-over's identity is snapshot %d, and snapshot %d is credited already: make the identity again", h.Cut, h.Head)
		}
	}
	return h, tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: h.ECU, Cut: h.Cut, Revoked: revoked})
}

// A State says what an ECU key may do.
type State string

// The states of a key. A released key waits to be bound again; a revoked one is out for good.
const (
	Bound    State = "bound"
	Released State = "released"
	Revoked  State = "revoked"
)

// A Key is an ECU key in the registry.
type Key struct {
	ID    wire.KeyID
	State State
	// Certified reports whether the registry holds its certificate: keys from before there were any have none.
	Certified bool
	// Bindings are all it ever had, in the order in which they were made; at least one.
	Bindings []store.Binding
}

// Keys returns all ECU keys in the order of their identifiers.
func (r *Registry) Keys(ctx context.Context) (keys []Key, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Bindings(ctx)
		if err != nil {
			return err
		}
		for _, b := range all {
			if n := len(keys); n == 0 || keys[n-1].ID != b.ECU.ID() {
				e, err := tx.ECU(ctx, b.ECU.ID())
				if err != nil {
					return err
				}
				keys = append(keys, Key{ID: b.ECU.ID(), Certified: len(e.Certificate) > 0})
			}
			k := &keys[len(keys)-1]
			k.Bindings = append(k.Bindings, b)
			switch {
			case b.Revoked:
				k.State = Revoked
			case b.Closed:
				k.State = Released
			default:
				k.State = Bound
			}
		}
		return nil
	})
	return keys, err
}
