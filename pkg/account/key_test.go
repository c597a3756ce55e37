package account

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func keyRequest(key wire.PublicKey) *KeyRequest {
	return &KeyRequest{Program: wire.Hash{1}, Account: "anna", Nonce: [16]byte{2}, Key: key}
}

// TestKeyRequest opens a request that its own new key has signed and, where it replaces one, that one: for the program, the account and the
// key in force, and no other.
func TestKeyRequest(t *testing.T) {
	k, key := newKey(t)
	evil, evilKey := newKey(t)
	o, old := newKey(t)
	none := wire.PublicKey{}
	seal := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := seal(SealKeyRequest(k, keyRequest(key)))
	if got, err := OpenKeyRequest(wire.Hash{1}, "anna", none, first, nil); err != nil || got != key {
		t.Fatalf("the first key is %x, %v", got, err)
	}
	r := keyRequest(key)
	r.Replaces = old.ID()
	next, agreed := seal(SealKeyRequest(k, r)), seal(SealFormer(o, r))
	if got, err := OpenKeyRequest(wire.Hash{1}, "anna", old, next, agreed); err != nil || got != key {
		t.Fatalf("the next key is %x, %v", got, err)
	}
	// The contents and the signature of one cannot be put together with those of another: a key that was seen is not possessed.
	stolen := seal(SealKeyRequest(evil, keyRequest(key)))
	moved := bytes.Replace(seal(SealKeyRequest(evil, keyRequest(evilKey))), evilKey[:], key[:], 1)
	b := box()
	box := seal(SealBoxRequest(k, b))
	payload := seal(wire.Marshal(keyRequest(key)))
	// Whoever may ask for the account, and has seen what its key signed, does not replace that.
	takeover := keyRequest(evilKey)
	takeover.Replaces = old.ID()
	taken := seal(SealKeyRequest(evil, takeover))
	again := *r
	again.Nonce[0]++
	for name, c := range map[string]struct {
		program wire.Hash
		account string
		inForce wire.PublicKey
		b       []byte
		former  []byte
		want    string
	}{
		"another program":            {wire.Hash{2}, "anna", none, first, nil, "another program"},
		"another account":            {wire.Hash{1}, "ben", none, first, nil, "another account"},
		"first, of one that has one": {wire.Hash{1}, "anna", old, first, agreed, "replaces another key"},
		"again, after the change":    {wire.Hash{1}, "anna", key, next, agreed, "replaces another key"},
		"next, of one that has none": {wire.Hash{1}, "anna", none, next, agreed, "replaces another key"},
		"signed with another key":    {wire.Hash{1}, "anna", none, stolen, nil, "may not sign"},
		"signed as another key":      {wire.Hash{1}, "anna", none, moved, nil, "cannot"},
		"signed as a box request":    {wire.Hash{1}, "anna", none, seal(wire.Seal(k, contextBox, payload)), nil, "cannot"},
		"a box request":              {wire.Hash{1}, "anna", none, box, nil, "cannot"},
		"not signed":                 {wire.Hash{1}, "anna", none, payload, nil, "COSE_Sign1"},
		"nothing":                    {wire.Hash{1}, "anna", none, nil, nil, "COSE_Sign1"},
		"too long":                   {wire.Hash{1}, "anna", none, make([]byte, MaxRequestLen+1), nil, "at most 512 allowed"},
		"first, with a former":       {wire.Hash{1}, "anna", none, first, agreed, "no key in force"},

		"not agreed":                      {wire.Hash{1}, "anna", old, next, nil, ErrFormer.Error()},
		"agreed by the new key":           {wire.Hash{1}, "anna", old, next, seal(SealFormer(k, r)), ErrFormer.Error()},
		"agreed by somebody":              {wire.Hash{1}, "anna", old, next, seal(SealFormer(evil, r)), ErrFormer.Error()},
		"agreed in the other's context":   {wire.Hash{1}, "anna", old, next, seal(SealKeyRequest(o, r)), ErrFormer.Error()},
		"agreed to another nonce":         {wire.Hash{1}, "anna", old, next, seal(SealFormer(o, &again)), "another request"},
		"agreed to another key":           {wire.Hash{1}, "anna", old, taken, agreed, "another request"},
		"taken over with the new one's":   {wire.Hash{1}, "anna", old, taken, seal(SealFormer(evil, takeover)), ErrFormer.Error()},
		"taken over with the request's":   {wire.Hash{1}, "anna", old, taken, taken, ErrFormer.Error()},
		"agreed with something else":      {wire.Hash{1}, "anna", old, next, seal(SealBoxRequest(o, b)), ErrFormer.Error()},
		"agreed by somebody, too long":    {wire.Hash{1}, "anna", old, next, make([]byte, MaxRequestLen+1), ErrFormer.Error()},
		"the former for both of the two":  {wire.Hash{1}, "anna", old, agreed, agreed, "cannot"},
		"the request where the former is": {wire.Hash{1}, "anna", old, next, next, ErrFormer.Error()},
	} {
		if got, err := OpenKeyRequest(c.program, c.account, c.inForce, c.b, c.former); err == nil || !strings.Contains(err.Error(), c.want) || got != (wire.PublicKey{}) {
			t.Errorf("%s: got %x, %v, want %s", name, got, err, c.want)
		}
	}
	for i := range agreed {
		bad := bytes.Clone(agreed)
		bad[i] ^= 1
		if _, err := OpenKeyRequest(wire.Hash{1}, "anna", old, next, bad); !errors.Is(err, ErrFormer) {
			t.Errorf("a flipped bit in byte %d of what the former signed: %v", i, err)
		}
	}
	for i := range first {
		bad := bytes.Clone(first)
		bad[i] ^= 1
		if _, err := OpenKeyRequest(wire.Hash{1}, "anna", none, bad, nil); err == nil {
			t.Errorf("a flipped bit in byte %d is accepted", i)
		}
	}
}

func TestKeyBounds(t *testing.T) {
	k, key := newKey(t)
	long := strings.Repeat("x", MaxIDLen)
	for name, spoil := range map[string]func(r *KeyRequest){
		"no program":   func(r *KeyRequest) { r.Program = wire.Hash{} },
		"no account":   func(r *KeyRequest) { r.Account = "" },
		"long account": func(r *KeyRequest) { r.Account = long + "x" },
		"no text":      func(r *KeyRequest) { r.Account = "\xff" },
		"no nonce":     func(r *KeyRequest) { r.Nonce = [16]byte{} },
		"no key":       func(r *KeyRequest) { r.Key = wire.PublicKey{} },
		"no point":     func(r *KeyRequest) { r.Key[0] = 5 },
	} {
		r := keyRequest(key)
		spoil(r)
		if r.Validate() == nil {
			t.Errorf("%s: valid", name)
		}
		if _, err := SealKeyRequest(k, r); err == nil {
			t.Errorf("%s: accepted", name)
		}
		// Whoever does not check before signing is refused when it is read.
		b, err := wire.Seal(k, contextKey, mustEncode(t, r))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKeyRequest(r.Program, r.Account, wire.PublicKey{}, b, nil); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	r := keyRequest(key)
	r.Account, r.Replaces = long, wire.KeyID(bytes.Repeat([]byte{255}, len(r.Replaces)))
	for _, seal := range []func(crypto.Signer, *KeyRequest) ([]byte, error){SealKeyRequest, SealFormer} {
		if b, err := seal(k, r); err != nil || len(b) > MaxRequestLen {
			t.Errorf("the longest request has %d bytes, %v", len(b), err)
		}
	}
}

// FuzzKeyRequest feeds requests whole, and as the payload of a good signature: what is accepted is what was signed, with the key that it
// names, and is within bounds.
func FuzzKeyRequest(f *testing.F) {
	k := vectortest.Key(f, "account") // the same in each of the fuzzer's processes: whoever signs with a new key is right to be accepted
	key, err := wire.NewPublicKey(k.Public())
	if err != nil {
		f.Fatal(err)
	}
	b, err := SealKeyRequest(k, keyRequest(key))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	if b, err = wire.Marshal(keyRequest(key)); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	r := keyRequest(key)
	r.Replaces = key.ID()
	next, err := SealKeyRequest(k, r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(next)
	f.Add(binary.BigEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := OpenKeyRequest(wire.Hash{1}, "anna", wire.PublicKey{}, b, nil); err == nil && got != key {
			t.Errorf("%x is accepted, whose owner has signed nothing", got)
		}
		r := new(KeyRequest)
		if wire.Unmarshal(b, r, MaxRequestLen) == nil {
			if again, err := wire.Marshal(r); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
		}
		sealed, err := wire.Seal(k, contextKey, b)
		if err != nil || len(sealed) > MaxRequestLen {
			return
		}
		if got, err := OpenKeyRequest(wire.Hash{1}, "anna", wire.PublicKey{}, sealed, nil); err == nil && got != key {
			t.Errorf("%x is accepted, which its signer does not possess", got)
		}
		if got, err := OpenKeyRequest(wire.Hash{1}, "anna", key, next, b); err == nil || got != (wire.PublicKey{}) {
			t.Errorf("%x replaces a key that has signed nothing", got)
		}
	})
}
