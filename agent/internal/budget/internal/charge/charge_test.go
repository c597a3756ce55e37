package charge

import (
	"bytes"
	"testing"
)

func FuzzDecode(f *testing.F) {
	f.Add(Charge{Epoch: 2, MicroEpsilon: 1_000_000, PicoDelta: 1_000_000, Nano: 3}.Follow(Charge{}).Encode())
	f.Add(Charge{}.Encode())
	f.Add([]byte{})
	f.Add(make([]byte, Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatalf("%x decodes and encodes as %x", b, c.Encode())
		}
	})
}

// TestFollow: every field of a charge and all before it enter its hash.
func TestFollow(t *testing.T) {
	first := Charge{Epoch: 1, MicroEpsilon: 2, PicoDelta: 3, Nano: 4}.Follow(Charge{})
	second := Charge{Epoch: 5, MicroEpsilon: 6, PicoDelta: 7, Nano: 8}.Follow(first)
	if first.Index != 1 || second.Index != 2 || second.Prev != first.Hash || first.Prev != [32]byte{} {
		t.Errorf("%+v, %+v", first, second)
	}
	got, err := Decode(second.Encode())
	if err != nil || got != second {
		t.Fatalf("%+v, %v; want %+v", got, err, second)
	}
	seen := map[[32]byte]bool{second.Hash: true}
	for i, change := range []func(*Charge){
		func(c *Charge) { c.Epoch++ }, func(c *Charge) { c.MicroEpsilon++ }, func(c *Charge) { c.PicoDelta++ }, func(c *Charge) { c.Nano++ },
	} {
		c := second
		change(&c)
		if c = c.Follow(first); seen[c.Hash] {
			t.Errorf("change %d leaves the hash as it is", i)
		}
		seen[c.Hash] = true
	}
	other := first
	other.Epoch++
	if c := second.Follow(other.Follow(Charge{})); seen[c.Hash] {
		t.Error("another charge before leaves the hash as it is")
	}
	if _, err := Decode(Charge{}.Encode()); err == nil {
		t.Error("the chain's beginning is a record")
	}
}
