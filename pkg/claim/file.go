package claim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"rawstone/pkg/claim/internal/file"
	"rawstone/pkg/wire"
)

// MaxLockLen bounds a lock file in bytes.
const MaxLockLen = 4 << 10

// A Lock names the files of one setup by their SHA-256 and says how they came about.
type Lock struct {
	// Environment is Development for the keys that Setup makes, Production for those of a sealed ceremony.
	Environment wire.Environment
	// Transcript is the hash of the ceremony's transcript in production, zero in development.
	Transcript   wire.Hash
	Circuit      wire.Hash
	ProvingKey   wire.Hash
	VerifyingKey wire.Hash
}

// lockText is a lock as its file spells it: hashes in lower-case hexadecimal.
type lockText struct {
	Environment  wire.Environment `json:"environment"`
	Transcript   string           `json:"transcript,omitempty"`
	Circuit      string           `json:"circuit"`
	ProvingKey   string           `json:"proving_key"`
	VerifyingKey string           `json:"verifying_key"`
}

func (l Lock) encode() ([]byte, error) {
	t := lockText{
		Environment: l.Environment, Circuit: l.Circuit.String(), ProvingKey: l.ProvingKey.String(), VerifyingKey: l.VerifyingKey.String(),
	}
	if !l.Transcript.IsZero() {
		t.Transcript = l.Transcript.String()
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("cannot encode lock: %w", err)
	}
	return append(b, '\n'), nil
}

// ID returns the SHA-256 of the lock's file, by which policies refer to it.
func (l Lock) ID() wire.Hash {
	b, err := l.encode()
	if err != nil {
		return wire.Hash{} // which no policy may name
	}
	return wire.ID(b)
}

// ParseLock reads a lock's file: the exact text that setups write.
func ParseLock(b []byte) (Lock, error) {
	l, err := parseLock(b)
	if err != nil {
		return Lock{}, fmt.Errorf("cannot read lock: %w", err)
	}
	return l, nil
}

func parseLock(b []byte) (Lock, error) {
	if len(b) > MaxLockLen {
		return Lock{}, fmt.Errorf("%d bytes, at most %d allowed", len(b), MaxLockLen)
	}
	var t lockText
	if err := json.Unmarshal(b, &t); err != nil {
		return Lock{}, err
	}
	if t.Environment != wire.Development && t.Environment != wire.Production {
		return Lock{}, fmt.Errorf("environment %q is neither development nor production", t.Environment)
	}
	if production := t.Environment == wire.Production; production != (t.Transcript != "") {
		return Lock{}, errors.New("keys for production come with the transcript of their ceremony, development keys without one")
	}
	l := Lock{Environment: t.Environment}
	for _, h := range []struct {
		text string
		hash *wire.Hash
	}{{t.Transcript, &l.Transcript}, {t.Circuit, &l.Circuit}, {t.ProvingKey, &l.ProvingKey}, {t.VerifyingKey, &l.VerifyingKey}} {
		if h.hash == &l.Transcript && h.text == "" {
			continue
		}
		raw, err := hex.DecodeString(h.text)
		if err != nil || len(raw) != len(h.hash) {
			return Lock{}, errors.New("a hash is not 64 hexadecimal digits")
		}
		copy(h.hash[:], raw)
	}
	if again, err := l.encode(); err != nil || !bytes.Equal(again, b) {
		return Lock{}, errors.New("it differs from the form in which setups write it: restore the original file")
	}
	return l, nil
}

// ReadLock reads dir's lock file. Callers refuse a development lock where production is asked for.
func ReadLock(dir string) (Lock, error) {
	b, err := file.Read(dir, lockFile, MaxLockLen)
	if err != nil {
		return Lock{}, err
	}
	l, err := parseLock(b)
	if err != nil {
		return Lock{}, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, lockFile), err)
	}
	return l, nil
}
