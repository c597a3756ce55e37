package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// fixedKey returns the key whose secret is the SHA-256 of name, as the vector of this package has it.
func fixedKey(t testing.TB, name string) vectortest.Signer {
	t.Helper()
	return vectortest.KeyOf(t, sha256.Sum256([]byte(name)))
}

func fixedMessage() Message {
	m := Message{Opening: wire.Opening{Counters: wire.Counters{158_910_600, 9_876_543, 0, 42, 1 << 31, 1, 1<<32 - 1}}}
	for i := range m.Opening.Salt {
		m.Opening.Salt[i] = byte(i)
	}
	m.Snapshot = wire.Snapshot{Seq: 1 << 40, Day: 20_000}
	for i := range m.Snapshot.Commitment {
		m.Snapshot.Commitment[i] = byte(0x20 + i)
	}
	return m
}

func fixedProgram() wire.Hash { return sha256.Sum256([]byte("program")) }

func fixedIdentity(t testing.TB) (vectortest.Signer, Identity) {
	t.Helper()
	key, m := fixedKey(t, "ecu"), fixedMessage()
	s, err := Sign(key, fixedProgram(), m.Snapshot.Seq, m.Snapshot.Day, m.Snapshot.Commitment)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return key, Identity{Key: pub, Program: fixedProgram(), Snapshot: s}
}

// TestSignedBytesByHand spells the text under the signature out, so that the struct's layout cannot drift with its vector.
func TestSignedBytesByHand(t *testing.T) {
	key, id := fixedIdentity(t)
	got, err := signedBytes(key.Public(), id.Program, wire.Head{Seq: 7, Day: 256, Commitment: id.Snapshot.Commitment})
	if err != nil {
		t.Fatal(err)
	}
	kid := id.Key.ID()
	want := append([]byte{0x86, 0x74}, "rawstone/snapshot/v1"...)
	want = append(append(want, 0x58, 32), id.Program[:]...)
	want = append(append(want, 0x50), kid[:]...)
	want = append(want, 0x07, 0x19, 0x01, 0x00)
	want = append(append(want, 0x58, 32), id.Snapshot.Commitment[:]...)
	if !bytes.Equal(got, want) {
		t.Errorf("signed bytes\n%x, want\n%x", got, want)
	}
}

func TestVerifyRefuses(t *testing.T) {
	key, id := fixedIdentity(t)
	pub := &key.PublicKey
	if err := Verify(pub, id.Program, id.Snapshot); err != nil {
		t.Fatalf("the good snapshot: %v", err)
	}
	n := elliptic.P256().Params().N
	for name, alter := range map[string]func(pub **ecdsa.PublicKey, program *wire.Hash, s *wire.Snapshot){
		"wrong key":          func(p **ecdsa.PublicKey, _ *wire.Hash, _ *wire.Snapshot) { *p = &fixedKey(t, "other").PublicKey },
		"wrong program":      func(_ **ecdsa.PublicKey, p *wire.Hash, _ *wire.Snapshot) { p[31] ^= 1 },
		"altered seq":        func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Seq++ },
		"altered day":        func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Day-- },
		"altered commitment": func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Commitment[0] ^= 0x80 },
		"altered r":          func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Signature[31] ^= 1 },
		"altered s":          func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Signature[63] ^= 1 },
		"no signature":       func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) { s.Signature = wire.Signature{} },
		"high S": func(_ **ecdsa.PublicKey, _ *wire.Hash, s *wire.Snapshot) {
			v := new(big.Int).SetBytes(s.Signature[32:])
			v.Sub(n, v).FillBytes(s.Signature[32:])
		},
		"key of another curve": func(p **ecdsa.PublicKey, _ *wire.Hash, _ *wire.Snapshot) {
			k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			*p = &k.PublicKey
		},
	} {
		t.Run(name, func(t *testing.T) {
			pub, program, s := pub, id.Program, id.Snapshot
			alter(&pub, &program, &s)
			if err := Verify(pub, program, s); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// TestKeyIDIsSigned keeps a signature from serving under another key that it also happens to verify under: the text differs.
func TestKeyIDIsSigned(t *testing.T) {
	a, b := fixedKey(t, "a"), fixedKey(t, "b")
	var h wire.Head
	x, err := signedBytes(a.Public(), wire.Hash{}, h)
	if err != nil {
		t.Fatal(err)
	}
	y, err := signedBytes(b.Public(), wire.Hash{}, h)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(x, y) {
		t.Error("the signed text does not depend on the key")
	}
}

func TestDecodeRefuses(t *testing.T) {
	good, err := fixedMessage().Encode()
	if err != nil {
		t.Fatal(err)
	}
	altered := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty":           {},
		"truncated":       good[:len(good)-1],
		"trailing byte":   append(bytes.Clone(good), 0),
		"version 2":       altered(1, 2),
		"version 1 long":  append([]byte{0x83, 0x18, 0x01}, good[2:]...),
		"four elements":   append(altered(0, 0x84), 0),
		"too long":        append(bytes.Clone(good), make([]byte, MaxMessageLen)...),
		"snapshot null":   {0x83, 0x01, 0xf6, 0xf6},
		"indefinite form": append([]byte{0x9f}, append(bytes.Clone(good[1:]), 0xff)...),
	} {
		if m, err := DecodeMessage(b); err == nil {
			t.Errorf("message %s: accepted as %+v", name, m)
		}
	}
	for name, b := range map[string][]byte{
		"empty":          {},
		"zero snapshots": {0x82, 0x01, 0x00},
		"33 snapshots":   {0x82, 0x01, 0x18, 33},
		"version 0":      {0x82, 0x00, 0x01},
		"long form":      {0x82, 0x01, 0x18, 0x01},
		"trailing byte":  {0x82, 0x01, 0x01, 0x00},
		"not an array":   {0x01},
	} {
		if r, err := DecodeRequest(b); err == nil {
			t.Errorf("request %s: accepted as %+v", name, r)
		}
	}
	if _, err := DecodeMessage(make([]byte, MaxMessageLen+1)); err == nil || !strings.Contains(err.Error(), "at most 512 allowed") {
		t.Errorf("message of %d bytes: error %v, want its length refused first", MaxMessageLen+1, err)
	}
	for _, last := range []uint8{0, MaxLast + 1} {
		if _, err := (Request{Last: last}).Encode(); err == nil {
			t.Errorf("request for %d snapshots encoded", last)
		}
	}
}

func TestLargestMessageFits(t *testing.T) {
	m := fixedMessage()
	m.Snapshot.Seq, m.Snapshot.Day = 1<<64-1, 1<<32-1
	for i := range m.Opening.Counters {
		m.Opening.Counters[i] = 1<<32 - 1
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeMessage(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, *got); d != "" {
		t.Error(d)
	}
	if len(b) > 256 {
		t.Errorf("largest message takes %d bytes, expected at most 256", len(b))
	}
}

func TestIdentityRefuses(t *testing.T) {
	_, id := fixedIdentity(t)
	good, err := EncodeIdentity(id)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseIdentity(good)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(id, *got); d != "" {
		t.Error(d)
	}
	block, _ := pem.Decode(good)
	forged := id
	forged.Snapshot.Seq++
	if _, err := EncodeIdentity(forged); err == nil {
		t.Error("identity with a wrong signature encoded")
	}
	raw, err := codec.Encode(fileIdentity{Version: 1, Key: forged.Key, Program: forged.Program, Snapshot: forged.Snapshot})
	if err != nil {
		t.Fatal(err)
	}
	offCurve, err := codec.Encode(fileIdentity{Version: 1, Key: wire.PublicKey{2, 0, 1}, Program: id.Program, Snapshot: id.Snapshot})
	if err != nil {
		t.Fatal(err)
	}
	version2 := bytes.Clone(block.Bytes)
	version2[1] = 2
	for part, text := range map[string][]byte{
		"at most 1024 allowed":                    append(bytes.Clone(good), make([]byte, MaxIdentityLen)...),
		"no RAWSTONE ECU IDENTITY block found":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"pass the file as the ECU wrote it":       append([]byte("hello\n"), good...),
		"it does not match":                       armour(raw),
		"not a point of P-256 in compressed form": armour(offCurve),
	} {
		if _, err := ParseIdentity(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v, want one with %q", err, part)
		}
	}
	for name, text := range map[string][]byte{
		"empty":           {},
		"another type":    []byte(strings.ReplaceAll(string(good), "ECU IDENTITY", "ECU")),
		"text before":     append([]byte("hello\n"), good...),
		"text after":      append(bytes.Clone(good), '\n'),
		"two blocks":      append(bytes.Clone(good), good...),
		"headers":         pem.EncodeToMemory(&pem.Block{Type: identityType, Headers: map[string]string{"A": "b"}, Bytes: block.Bytes}),
		"truncated":       good[:len(good)/2],
		"trailing byte":   armour(append(bytes.Clone(block.Bytes), 0)),
		"unknown version": armour(version2),
	} {
		if id, err := ParseIdentity(text); err == nil {
			t.Errorf("%s: accepted as %+v", name, id)
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	good, err := fixedMessage().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		if again, err := m.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x, %v", b, again, err)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add([]byte{0x82, 0x01, 0x01})
	f.Add([]byte{0x82, 0x01, 0x18, 0x20})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		if err != nil {
			return
		}
		if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x, %v", b, again, err)
		}
	})
}

func FuzzParseIdentity(f *testing.F) {
	_, id := fixedIdentity(f)
	good, err := EncodeIdentity(id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := ParseIdentity(b)
		if err != nil {
			return
		}
		if again, err := EncodeIdentity(*id); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q re-encodes as %q, %v", b, again, err)
		}
	})
}
