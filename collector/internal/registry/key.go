package registry

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Rekeying says which keys an account had and has.
type Rekeying struct {
	// From is zero for none.
	From, To wire.KeyID
	// Activated is the program day on which the account was activated, 0 for not yet.
	Activated uint32
}

// Rekey gives an account another key without the consent of the one in force, for an owner who has lost that: a compressed point in
// hexadecimal, or a file with that or with a public key in PEM (RFC 7468 §13). The change is an entry of the ledger and an event of the
// account's history, as any. Where the key is in force already it fails.
func (d *Desk) Rekey(ctx context.Context, id, key string) (done Rekeying, err error) {
	k, err := readKey(key)
	if err != nil {
		return done, err
	}
	err = d.db.Update(ctx, func(tx *store.Tx) error {
		before, after, err := tx.Estate(d.rules).Rekey(ctx, id, k)
		switch {
		case errors.Is(err, estate.ErrNoAccount):
			return errors.New("it is not there: `collector account list` prints those that are")
		case err != nil:
			return err
		case before.Key == after.Key:
			return fmt.Errorf("its key is %s already", k.ID())
		}
		done = Rekeying{To: after.Key.ID(), Activated: after.Activated}
		if before.Key != (wire.PublicKey{}) {
			done.From = before.Key.ID()
		}
		return nil
	})
	if err != nil {
		return Rekeying{}, fmt.Errorf("cannot change key of account %s: %w", id, err)
	}
	return done, nil
}

// readKey reads an account's public key: what is not a key in hexadecimal is the name of a file.
func readKey(key string) (wire.PublicKey, error) {
	k, err := parseKey([]byte(key))
	if err == nil {
		return k, nil
	}
	text, err := terms.ReadDocument(key)
	if err != nil {
		return k, fmt.Errorf("cannot use account key: it is no public key in hexadecimal, nor a file: %w", err)
	}
	if k, err = parseKey(text); err != nil {
		return k, fmt.Errorf("cannot use account key %s: %w", key, err)
	}
	return k, nil
}

func parseKey(text []byte) (k wire.PublicKey, err error) {
	if block, _ := pem.Decode(text); block != nil {
		if block.Type != "PUBLIC KEY" {
			return k, fmt.Errorf("it holds a %s: give the public key alone", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return k, err
		}
		return wire.NewPublicKey(parsed)
	}
	b, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(b) != len(k) {
		return k, errors.New("it holds neither a compressed point in hexadecimal nor a public key in PEM")
	}
	k = wire.PublicKey(b)
	_, err = k.Key()
	return k, err
}
