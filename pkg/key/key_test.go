package key

import (
	"bytes"
	"slices"
	"testing"

	"rawstone/pkg/vectortest"
)

const context = "rawstone/test/v1"

// TestPeek: what Peek says of a document is what Open confirms, also where nobody confirms it.
func TestPeek(t *testing.T) {
	k := vectortest.Key(t, "key")
	public, err := NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Seal(k, context, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	forged := slices.Clone(b)
	forged[len(b)-1] ^= 1
	if _, _, err := Open(KeySet{public}, context, forged, 1000); err == nil {
		t.Error("opened what the key did not sign")
	}
	for _, b := range [][]byte{b, forged} {
		if text, id, err := Peek(b); err != nil || string(text) != "text" || id != public.ID() {
			t.Errorf("%q by %s, %v", text, id, err)
		}
	}
	for _, bad := range [][]byte{nil, {0xd2}, b[1:], b[:len(b)-1], append(slices.Clone(b), 0), []byte("text")} {
		if _, _, err := Peek(bad); err == nil {
			t.Errorf("read %x", bad)
		}
	}
	anonymous := bytes.Replace(b, []byte{0x04, 0x50}, []byte{0x05, 0x50}, 1) // another header in the place of the key id
	if _, _, err := Peek(anonymous); err == nil {
		t.Error("read a document that names no key")
	}
}
