package quorum

import (
	"bytes"
	"crypto"
	"slices"
	"testing"

	"rawstone/pkg/codec"
	"rawstone/pkg/key"
	"rawstone/pkg/vectortest"
)

const (
	context = "rawstone/test/v1"
	limit   = 1 << 10
)

func board(t testing.TB) (signers []crypto.Signer, set key.KeySet) {
	t.Helper()
	for _, name := range []string{"a", "b", "c"} {
		k := vectortest.Key(t, name)
		p, err := key.NewPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		signers, set = append(signers, k), append(set, p)
	}
	return signers, set
}

func must(t testing.TB) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// TestOneAfterAnother: signatures that are added one by one make the document that all make at once.
func TestOneAfterAnother(t *testing.T) {
	signers, set := board(t)
	text := []byte("text")
	b := must(t)(Seal(signers[:1], context, text))
	for i := range signers {
		if i > 0 {
			b = must(t)(Add(signers[i], context, b, limit))
		}
		if all := must(t)(Seal(signers[:i+1], context, text)); !bytes.Equal(b, all) {
			t.Errorf("%d signatures one by one are %x, at once %x", i+1, b, all)
		}
		for want := range len(set) + 1 {
			got, err := Open(set, want, context, b, limit)
			if (err == nil) != (want <= i+1) || err == nil && !bytes.Equal(got, text) {
				t.Errorf("%d of %d signatures: %q, %v", i+1, want, got, err)
			}
		}
		got, ids, err := Read(b, limit)
		if err != nil || !bytes.Equal(got, text) || len(ids) != i+1 || ids[i] != set[i].ID() {
			t.Errorf("read %q signed by %v, %v", got, ids, err)
		}
		if _, err := Add(signers[i], context, b, limit); err == nil {
			t.Errorf("key %d signed a second time", i)
		}
	}
}

// TestRefused: no quorum comes of one key, of keys that are not asked for, of two texts or of another document's signatures.
func TestRefused(t *testing.T) {
	signers, set := board(t)
	one := must(t)(key.Seal(signers[0], context, []byte("text")))
	two := must(t)(key.Seal(signers[1], context, []byte("text")))
	other := must(t)(key.Seal(signers[1], context, []byte("another")))
	foreign := must(t)(key.Seal(signers[1], "rawstone/other/v1", []byte("text")))
	forged := slices.Clone(two)
	forged[len(forged)-1] ^= 1
	of := func(list ...[]byte) []byte { return must(t)(codec.Encode(&signatures{List: list})) }
	if _, err := Open(set, 2, context, of(one, two), limit); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"one twice": of(one, one), "two texts": of(one, other), "another document's": of(one, foreign), "forged": of(one, two, forged), "forged first": of(forged, one),
		"none": of(), "one alone": of(one), "too many": of(slices.Repeat([][]byte{one}, Max+1)...), "trailing": append(of(one, two), 0), "no array": one,
		"nothing": nil, "not signed": of([]byte("text"), one), "too long": of(one, two, must(t)(key.Seal(signers[2], context, make([]byte, limit)))),
	} {
		if _, err := Open(set, 2, context, b, limit); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Open(set[:1], 1, context, of(one, two), limit); err == nil {
		t.Error("accepted a signature of a key that is not asked for")
	}
	if _, _, err := Read(of(one, other), limit); err == nil {
		t.Error("read two texts as one")
	}
	if _, _, err := Read(of(one, two, one), limit); err == nil {
		t.Error("read one signer as two")
	}
	if _, err := Seal(nil, context, []byte("text")); err == nil {
		t.Error("sealed with no key")
	}
	full := of(slices.Repeat([][]byte{one}, Max)...)
	if _, err := Add(signers[1], context, full, limit); err == nil {
		t.Error("added one too many")
	}
}

// FuzzOpen: what opens was signed by all of its signers over the same text, and encodes to the same bytes.
func FuzzOpen(f *testing.F) {
	signers, set := board(f)
	good := must(f)(Seal(signers, context, []byte("text")))
	f.Add(good)
	f.Add(must(f)(Seal(signers[:1], context, []byte("text"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := Open(set, 3, context, b, limit); err == nil && (string(text) != "text" || len(b) < len(good)) {
			t.Fatalf("opened %x to %q", b, text)
		}
		if list, err := decode(b, limit); err == nil {
			if again, err := encode(list); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("accepted %x and encodes as %x, %v", b, again, err)
			}
		}
		_, _, _ = Read(b, limit) // whatever it says, it does not panic
	})
}
