// Package keyring keeps the keys that recorded usage lies encrypted under, in a small file of its own.
//
// Invariants: a new key is on flash before it is used; after Settle no key of before is in the file. It refuses nothing: a file that is not
// as it writes it has no keys, and what lay under them is lost.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
)

const (
	keySize = 32   // AES-256
	keySlot = 4096 // bytes from slot to slot: a write that is torn spoils one
	numKeys = 2
	domain  = "rawstone/trip/usage"
)

// A Keyring is what usage lies encrypted under in the store. Badger keeps what was overwritten and deleted until it gets round to it; without
// its key it tells nothing. A key is replaced by writing the new one, then the usage under it, then zeros over the old one: usage can be read
// in between, whichever step is the last before the power goes.
type Keyring struct {
	path  string
	slots [numKeys][]byte // nil for none
	now   int             // the slot whose key is written under
}

// Open reads the file, or makes it. One that is not as this package writes it has no keys.
func Open(path string) (*Keyring, error) {
	k := &Keyring{path: path}
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(b) != numKeys*keySlot {
		b = make([]byte, numKeys*keySlot)
		if err := k.write(b, 0); err != nil {
			return nil, err
		}
		return k, durable.SyncDir(filepath.Dir(path))
	}
	for i := range k.slots {
		if key := b[i*keySlot:][:keySize]; [keySize]byte(key) != [keySize]byte{} {
			k.slots[i] = key
		}
	}
	return k, nil
}

// write puts b at an offset of the file, synced.
func (k *Keyring) write(b []byte, at int64) error {
	f, err := os.OpenFile(k.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (k *Keyring) set(slot int, key []byte) error {
	page := make([]byte, keySlot)
	copy(page, key)
	return k.write(page, int64(slot)*keySlot)
}

// Unsettled reports whether a replacement was cut short, or never was.
func (k *Keyring) Unsettled() bool { return (k.slots[0] == nil) == (k.slots[1] == nil) }

// Renew has the next be encrypted under a new key. The one before it stays until Settle.
func (k *Keyring) Renew() error {
	key := make([]byte, keySize)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	next := (k.now + 1) % numKeys
	if err := k.set(next, key); err != nil {
		return err
	}
	k.slots[next], k.now = key, next
	return nil
}

// Settle forgets the key before: what lies under it cannot be read any more.
func (k *Keyring) Settle() error {
	old := (k.now + 1) % numKeys
	if err := k.set(old, nil); err != nil {
		return err
	}
	k.slots[old] = nil
	return nil
}

// Seal encrypts, after a first Renew or Open.
func (k *Keyring) Seal(b []byte) ([]byte, error) {
	aead, err := newAEAD(k.slots[k.now])
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, b, []byte(domain)), nil
}

// Open decrypts what lies under one of the keys, which is the one to write under then.
func (k *Keyring) Open(b []byte) ([]byte, error) {
	for i, key := range k.slots {
		if key == nil {
			continue
		}
		aead, err := newAEAD(key)
		if err != nil {
			return nil, err
		}
		if plain, err := aead.Open(nil, nil, b, []byte(domain)); err == nil {
			k.now = i
			return plain, nil
		}
	}
	return nil, fmt.Errorf("no key in %s opens it", k.path)
}

// newAEAD puts a random nonce before each message.
func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
