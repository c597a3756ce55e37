package ledger

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"rawstone/pkg/wire"
)

// TestCheckpointSigner: what cosigns checkpoints signs nothing that counts elsewhere.
func TestCheckpointSigner(t *testing.T) {
	k, err := GenerateValidatorKey("validator.example")
	if err != nil {
		t.Fatal(err)
	}
	s, public := k.CheckpointSigner(), k.Public()
	message := []byte("cosignature/v1\ntime 1\nlog.example\n1\nAAAA\n")
	b, err := s.Sign(rand.Reader, message, crypto.Hash(0))
	if err != nil || !ed25519.Verify(public.Key[:], message, b) || !bytes.Equal(s.Public().(ed25519.PublicKey), public.Key[:]) {
		t.Errorf("its signature does not hold: %v", err)
	}
	for _, bad := range [][]byte{cosigned(wire.Hash{1}, TypeBlock, []byte{1}), []byte("cosignature/v1"), []byte("validator.example\n1\nAAAA\n"), nil} {
		if _, err := s.Sign(rand.Reader, bad, crypto.Hash(0)); err == nil {
			t.Errorf("it signs %q", bad)
		}
	}
}
