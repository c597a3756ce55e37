package envelope

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/veraison/go-cose"

	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func TestRead(t *testing.T) {
	key := vectortest.Key(t, "envelope")
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := wire.Seal(key, "context", []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	nameless := cose.NewSign1Message()
	nameless.Payload, nameless.Signature = []byte("text"), make([]byte, 64)
	nobody, err := nameless.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	nameless.Headers.Protected[cose.HeaderLabelKeyID] = []byte("short")
	short, err := nameless.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file, payload []byte
		signed, right bool
	}{
		"signed":   {sealed, []byte("text"), true, true},
		"unsigned": {[]byte("text"), []byte("text"), false, true},
		"empty":    {nil, nil, false, true},
		"cut":      {sealed[:len(sealed)-1], nil, false, false},
		"nameless": {nobody, nil, false, false},
		"short":    {short, nil, false, false},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, c.file, 0o600); err != nil {
			t.Fatal(err)
		}
		payload, signer, err := Read(path)
		if (err == nil) != c.right || !bytes.Equal(payload, c.payload) || (signer != nil) != c.signed {
			t.Errorf("%s: %q, %v, %v", name, payload, signer, err)
		}
		if signer != nil && *signer != public.ID() {
			t.Errorf("%s: signed by %s", name, signer)
		}
	}
	if _, _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file is read")
	}
}
