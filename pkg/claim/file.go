package claim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rawstone/pkg/wire"
)

// maxLockLen bounds a lock file in bytes.
const maxLockLen = 4 << 10

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

// parseLock reads the exact text that encode makes.
func parseLock(b []byte) (Lock, error) {
	if len(b) > maxLockLen {
		return Lock{}, fmt.Errorf("%d bytes, at most %d allowed", len(b), maxLockLen)
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
	b, err := readBounded(dir, lockFile, maxLockLen)
	if err != nil {
		return Lock{}, err
	}
	l, err := parseLock(b)
	if err != nil {
		return Lock{}, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, lockFile), err)
	}
	return l, nil
}

// readHashed returns the content of dir's file name, whose SHA-256 must be want.
func readHashed(dir, name string, want wire.Hash) ([]byte, error) {
	if want.IsZero() {
		return nil, fmt.Errorf("cannot use %s: no hash wanted of it", name)
	}
	b, err := readBounded(dir, name, maxFileLen)
	if err != nil {
		return nil, err
	}
	if got := wire.ID(b); got != want {
		return nil, fmt.Errorf("cannot use %s: its SHA-256 is %s, want %s: fetch the file that the policy names",
			filepath.Join(dir, name), got, want)
	}
	return b, nil
}

func readBounded(dir, name string, limit int64) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("cannot read %s: not a regular file of at most %d bytes", path, limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return b, nil
}

// writeNew writes dir's file name whole or not at all, on disk when it returns. A file of that name is never replaced: a link,
// unlike a rename, refuses to.
func writeNew(dir, name string, b []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", filepath.Join(dir, name), err)
		}
	}()
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
