package device

import (
	"crypto/ecdsa"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestFileKey(t *testing.T) {
	where := filepath.Join(t.TempDir(), "keys", "device.key")
	if _, err := Open(where); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	key, err := OpenOrCreate(where)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(where); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := OpenOrCreate(where)
	if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(again.Public()) {
		t.Errorf("opened again: %v", err)
	}
	sign(t, again)
	if _, err := Create(where); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over another key: %v", err)
	}
	if err := os.Chmod(where, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenOrCreate(where); err == nil {
		t.Error("used a key that others may read")
	}
}

func TestCheck(t *testing.T) {
	for _, where := range []string{"device.key", "/var/lib/device.key", "tpm:///dev/tpmrm0?handle=0x81010001", "tpm:/dev/tpmrm0?handle=2164326401"} {
		if err := Check(where); err != nil {
			t.Error(err)
		}
	}
	for _, where := range []string{
		"", "tpm:", "tpm:///dev/tpmrm0", "tpm://host/dev/tpmrm0?handle=0x81010001", "tpm:dev/tpmrm0?handle=0x81010001", "tpm:///dev/tpmrm0?handle=",
		"tpm:///dev/tpmrm0?handle=0x81010001&handle=0x81010002", "tpm:///dev/tpmrm0?handle=0x81010001&auth=secret", "tpm:///dev/tpmrm0?handle=0x80ffffff",
		"tpm:///dev/tpmrm0?handle=0x81800000", "tpm:///dev/tpmrm0?handle=0x181010001", "tpm://user@/dev/tpmrm0?handle=0x81010001", "tpm:///dev/tpmrm0?handle=0x81010001#x",
	} {
		if err := Check(where); err == nil {
			t.Errorf("%q is accepted", where)
		}
		if _, err := OpenOrCreate(where); err == nil {
			t.Errorf("%q is opened", where)
		}
	}
}
