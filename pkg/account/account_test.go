package account

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

func box() *BoxRequest {
	return &BoxRequest{Program: wire.Hash{1}, Account: "anna", Nonce: [16]byte{2}, Offers: 3, Box: "small", Until: 4}
}

func redemption() *RedemptionRequest {
	return &RedemptionRequest{Program: wire.Hash{1}, Account: "anna", Nonce: [16]byte{2}, Offers: 3, Item: "mug", Milli: 1000, Fen: 990, Until: 4}
}

// TestRequests opens what was sealed and nothing that was sealed by, for or as something else. The identifier is of what was signed, not
// of the signature.
func TestRequests(t *testing.T) {
	k, key := newKey(t)
	evil, evilKey := newKey(t)
	seal := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b, again := seal(SealBoxRequest(k, box())), seal(SealBoxRequest(k, box()))
	if bytes.Equal(b, again) {
		t.Fatal("two signatures are one")
	}
	got, id, err := OpenBoxRequest(key, wire.Hash{1}, "anna", b)
	if diff := cmp.Diff(box(), got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if _, same, err := OpenBoxRequest(key, wire.Hash{1}, "anna", again); err != nil || same != id {
		t.Errorf("signed again it is request %s, want %s (%v)", same, id, err)
	}
	other := box()
	other.Nonce[15]++
	if _, another, err := OpenBoxRequest(key, wire.Hash{1}, "anna", seal(SealBoxRequest(k, other))); err != nil || another == id {
		t.Errorf("another nonce makes no other request (%v)", err)
	}
	r := seal(SealRedemptionRequest(k, redemption()))
	spent, _, err := OpenRedemptionRequest(key, wire.Hash{1}, "anna", r)
	if diff := cmp.Diff(redemption(), spent); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	for name, err := range map[string]error{
		"another's key":        second(OpenBoxRequest(evilKey, wire.Hash{1}, "anna", b)),
		"another's signature":  second(OpenBoxRequest(key, wire.Hash{1}, "anna", seal(SealBoxRequest(evil, box())))),
		"another program":      second(OpenBoxRequest(key, wire.Hash{2}, "anna", b)),
		"another account":      second(OpenBoxRequest(key, wire.Hash{1}, "ben", b)),
		"redemption as box":    second(OpenBoxRequest(key, wire.Hash{1}, "anna", r)),
		"box as redemption":    second(OpenRedemptionRequest(key, wire.Hash{1}, "anna", b)),
		"redemption elsewhere": second(OpenRedemptionRequest(key, wire.Hash{2}, "anna", r)),
		"another's redemption": second(OpenRedemptionRequest(key, wire.Hash{1}, "ben", r)),
		"nothing":              second(OpenBoxRequest(key, wire.Hash{1}, "anna", nil)),
		"too long":             second(OpenBoxRequest(key, wire.Hash{1}, "anna", append(b[:len(b):len(b)], make([]byte, MaxRequestLen)...))),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, _, err := OpenBoxRequest(key, wire.Hash{1}, "anna", bad); err == nil {
			t.Errorf("a flipped bit in byte %d is accepted", i)
		}
	}
}

func second[T any](_ T, _ wire.Hash, err error) error { return err }

func TestBounds(t *testing.T) {
	k, _ := newKey(t)
	long := strings.Repeat("x", MaxIDLen)
	for name, spoil := range map[string]func(b *BoxRequest, r *RedemptionRequest){
		"no account":   func(b *BoxRequest, r *RedemptionRequest) { b.Account, r.Account = "", "" },
		"no name":      func(b *BoxRequest, r *RedemptionRequest) { b.Box, r.Item = "", "" },
		"long account": func(b *BoxRequest, r *RedemptionRequest) { b.Account, r.Account = long+"x", long+"x" },
		"long name":    func(b *BoxRequest, r *RedemptionRequest) { b.Box, r.Item = long+"x", long+"x" },
		"no text":      func(b *BoxRequest, r *RedemptionRequest) { b.Account, r.Account = "\xff", "\xff" },
		"no text name": func(b *BoxRequest, r *RedemptionRequest) { b.Box, r.Item = "\xff", "\xff" },
		"no nonce":     func(b *BoxRequest, r *RedemptionRequest) { b.Nonce, r.Nonce = [16]byte{}, [16]byte{} },
		"no end":       func(b *BoxRequest, r *RedemptionRequest) { b.Until, r.Until = 0, 0 },
		"far end":      func(b *BoxRequest, r *RedemptionRequest) { b.Until, r.Until = terms.MaxDay+1, terms.MaxDay+1 },
	} {
		b, r := box(), redemption()
		spoil(b, r)
		if _, err := SealBoxRequest(k, b); err == nil {
			t.Errorf("%s: box accepted", name)
		}
		if _, err := SealRedemptionRequest(k, r); err == nil {
			t.Errorf("%s: redemption accepted", name)
		}
		if wire.Unmarshal(mustEncode(t, b), new(BoxRequest), MaxRequestLen) == nil {
			t.Errorf("%s: box read", name)
		}
		if wire.Unmarshal(mustEncode(t, r), new(RedemptionRequest), MaxRequestLen) == nil {
			t.Errorf("%s: redemption read", name)
		}
	}
	r := redemption()
	r.Milli = 0
	if _, err := SealRedemptionRequest(k, r); err == nil {
		t.Error("a redemption of nothing is accepted")
	}
	// The longest request fits the bound.
	r = redemption()
	r.Account, r.Item, r.Offers, r.Milli, r.Fen, r.Until = long, long, 1<<16-1, 1<<64-1, 1<<64-1, terms.MaxDay
	if b, err := SealRedemptionRequest(k, r); err != nil || len(b) > MaxRequestLen {
		t.Errorf("the longest request has %d bytes, %v", len(b), err)
	}
}

func mustEncode(t *testing.T, m any) []byte {
	t.Helper()
	b, err := codec.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBlinds holds that each kind of opening has a tag of its own, and that its blind tells every field apart.
func TestBlinds(t *testing.T) {
	type blinder interface{ Blind() (wire.Hash, error) }
	seen := make(map[wire.Hash]bool)
	for _, c := range []struct {
		tag   string
		forms []blinder
	}{
		{"rawstone/account/v1", []blinder{&ChangeOpening{}, &ChangeOpening{Salt: [32]byte{1}}, &ChangeOpening{Account: "a"}, &ChangeOpening{Key: wire.PublicKey{1}}, &ChangeOpening{Activated: 1}}},
		{"rawstone/grant/v1", []blinder{&GrantOpening{}, &GrantOpening{Salt: [32]byte{1}}, &GrantOpening{Account: "a"}, &GrantOpening{Task: "a"}, &GrantOpening{Reference: wire.Hash{1}}}},
		{"rawstone/request/v1", []blinder{&RequestOpening{}, &RequestOpening{Salt: [32]byte{1}}, &RequestOpening{Account: "a"}, &RequestOpening{Request: []byte{1}}}},
	} {
		for _, o := range c.forms {
			got, err := o.Blind()
			if err != nil {
				t.Fatal(err)
			}
			b, err := codec.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			if want := sha256.Sum256(append([]byte(c.tag), b...)); got != want || seen[got] {
				t.Errorf("blind of %+v is %s, want %x, once", o, got, want)
			}
			seen[got] = true
		}
	}
}

// FuzzRequests feeds the decoders of entries, openings and requests: what is accepted is within bounds and encodes to the same bytes.
// Whole requests are fed too.
func FuzzRequests(f *testing.F) {
	k, key := newKey(f)
	for _, m := range []wire.Message{box(), redemption()} {
		b, err := wire.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	b, err := SealBoxRequest(k, box())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, body := range []any{Change{}, Grant{Crystals: 1}, Box{Box: "small", Owner: true}, Redemption{Milli: 1}} {
		b, err := codec.Encode(body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, body := range []any{new(Change), new(Grant), new(Box), new(Redemption), new(ChangeOpening), new(GrantOpening), new(RequestOpening)} {
			if codec.Decode(b, body, MaxRequestLen) != nil {
				continue
			}
			if again, err := codec.Encode(body); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
		}
		for _, m := range []wire.Message{new(BoxRequest), new(RedemptionRequest)} {
			if wire.Unmarshal(b, m, MaxRequestLen) != nil {
				continue
			}
			if again, err := wire.Marshal(m); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
		}
		if r, _, err := OpenBoxRequest(key, wire.Hash{1}, "anna", b); err == nil && *r != *box() {
			t.Errorf("%+v is accepted, which nobody signed", r)
		}
		if _, _, err := OpenRedemptionRequest(key, wire.Hash{1}, "anna", b); err == nil {
			t.Error("a redemption is accepted that nobody signed")
		}
	})
}
