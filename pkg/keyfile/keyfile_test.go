package keyfile

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCreateLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Equal(key) {
		t.Error("loaded another key")
	}
	if _, err := Create(path); err == nil {
		t.Error("overwrote a key")
	}
	if again, err := Load(path); err != nil || !again.Equal(key) {
		t.Errorf("a refused Create changed the key: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open.pem")
	if _, err := Create(open); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(open); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: %v", err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ed)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"text":    []byte("hello"),
		"type":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"ed25519": pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}),
		"long":    make([]byte, maxFileLen+1),
	} {
		path := filepath.Join(dir, name)
		if err := Write(path, text); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := Load(filepath.Join(dir, "none")); err == nil {
		t.Error("loaded a missing file")
	}
}
