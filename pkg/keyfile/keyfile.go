// Package keyfile keeps P-256 private keys in files: PKCS #8 (RFC 5958) in PEM, readable by their owner alone.
//
// It refuses to read a key that others may read and to overwrite one that exists: a replaced key is a lost identity.
package keyfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	blockType  = "PRIVATE KEY"
	maxFileLen = 4 << 10
)

// Create makes a new key and writes it to path, which must not exist. The file is on disk when Create returns.
func Create(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot create key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot create key: %w", err)
	}
	if err := Write(path, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})); err != nil {
		return nil, err
	}
	return key, nil
}

// Write writes a secret in any text form to path, which must not exist, with mode 0600, and syncs file and directory.
func Write(path string, secret []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cannot write key %s: it exists; move it away first if it is to be replaced: %w", path, err)
		}
		return fmt.Errorf("cannot write key: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(secret); err != nil {
		return fmt.Errorf("cannot write key %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("cannot write key %s: %w", path, err)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("cannot write key %s: %w", path, err)
	}
	defer d.Close()
	return d.Sync()
}

// Read returns a file's secret bytes, at most 4 KiB, after checking that only its owner may read it.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("cannot read key %s: mode %04o lets others read it; run chmod 600", path, perm)
	}
	if info.Size() > maxFileLen {
		return nil, fmt.Errorf("cannot read key %s: %d bytes is no key", path, info.Size())
	}
	return os.ReadFile(path)
}

// Load reads a key that Create wrote.
func Load(path string) (*ecdsa.PrivateKey, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != blockType {
		return nil, fmt.Errorf("cannot read key %s: it is not a PEM block of type %s", path, blockType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read key %s: %w", path, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("cannot read key %s: it is not an ECDSA key on P-256", path)
	}
	return key, nil
}
