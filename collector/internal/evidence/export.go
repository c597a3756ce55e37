package evidence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// exportPage bounds the claims that are in memory, and read in one transaction, while they are exported.
const exportPage = 1024

// ExportClaims writes each accepted claim in a collector's records, or only a vehicle's when one is named, to a file in dir under its
// identifier: HEX.claim. It makes dir when it is missing, leaves files that are there already, refuses one that holds something else, and
// returns how many claims dir now holds of those asked for. The records are opened for the role Audit. It may be called while the collector
// runs.
func ExportClaims(ctx context.Context, records store.Config, dir, vehicle string) (n int, err error) {
	if vehicle != "" {
		if err := wire.CheckVehicle(vehicle); err != nil {
			return 0, fmt.Errorf("cannot export claims: %w", err)
		}
	}
	db, err := store.Open(ctx, records)
	if err != nil {
		return 0, fmt.Errorf("cannot export claims: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if vehicle != "" {
		known := false
		err := db.View(ctx, func(tx *store.Tx) (err error) {
			known, err = tx.HasVehicle(ctx, vehicle)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("cannot export claims: %w", err)
		}
		if !known {
			return 0, fmt.Errorf("cannot export claims: vehicle %s is not registered: `collector vehicle list` prints those that are", vehicle)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, fmt.Errorf("cannot export claims: %w", err)
	}
	for after := int64(0); ; {
		page, last, err := claimsAfter(ctx, db, after, vehicle)
		if err != nil {
			return n, fmt.Errorf("cannot export claims: %w", err)
		}
		if last == after {
			return n, nil
		}
		after = last
		for _, c := range page {
			if err := writeClaim(dir, c); err != nil {
				return n, fmt.Errorf("cannot export claims: %w", err)
			}
			n++
		}
	}
}

type keptClaim struct {
	id   wire.Hash
	body []byte
}

// claimsAfter returns those of the next claims that are a vehicle's, or all, and the serial that it came to.
func claimsAfter(ctx context.Context, db *store.DB, after int64, vehicle string) (page []keptClaim, last int64, err error) {
	full := errors.New("page full")
	last = after
	err = db.View(ctx, func(tx *store.Tx) error {
		read := 0
		err := tx.EachClaim(ctx, after, func(serial int64, id wire.Hash, body []byte) error {
			if read == exportPage {
				return full
			}
			read++
			last = serial
			page = append(page, keptClaim{id, bytes.Clone(body)})
			return nil
		})
		if err != nil && !errors.Is(err, full) {
			return err
		}
		if vehicle == "" {
			return nil
		}
		kept := page[:0]
		for _, c := range page {
			s, err := tx.Submission(ctx, c.id, vehicle, wire.KindClaim)
			if err == nil && s.Accepted {
				kept = append(kept, c)
			} else if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		page = kept
		return nil
	})
	return page, last, err
}

// writeClaim writes a claim to its file, whole or not at all, unless it is there.
func writeClaim(dir string, c keptClaim) (err error) {
	path := filepath.Join(dir, c.id.String()+".claim")
	old, err := os.ReadFile(path)
	if err == nil {
		if !bytes.Equal(old, c.body) {
			return fmt.Errorf("%s exists and is not the claim of that name; remove it or choose another directory", path)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(dir, ".claim-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(c.body)
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
