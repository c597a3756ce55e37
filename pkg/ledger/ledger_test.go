package ledger

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	"rawstone/pkg/codec"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// set returns n validators and what the program says of them.
func set(t testing.TB, n int, quorum uint8) ([]*ValidatorKey, *terms.Program) {
	t.Helper()
	p := &terms.Program{Quorum: quorum}
	var keys []*ValidatorKey
	for i := range n {
		k, err := GenerateValidatorKey(fmt.Sprintf("validator%d.example", i))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
		p.Validators = append(p.Validators, k.Public())
	}
	return keys, p
}

func TestQuorum(t *testing.T) {
	keys, p := set(t, 4, 3)
	program, payload := wire.Hash{7}, []byte("payload")
	seal := func(signers ...int) *Sealed {
		s := &Sealed{Payload: payload}
		for _, i := range signers {
			s.Cosignatures = append(s.Cosignatures, keys[i].Cosign(uint8(i), program, TypeBlock, payload))
		}
		return s
	}
	for _, signers := range [][]int{{0, 1, 2}, {0, 2, 3}, {0, 1, 2, 3}} {
		if err := VerifyQuorum(p, program, TypeBlock, seal(signers...)); err != nil {
			t.Errorf("cosigned by %v: %v", signers, err)
		}
	}
	for _, signers := range [][]int{nil, {0, 1}, {0, 0, 0}, {2, 1, 0}} {
		if err := VerifyQuorum(p, program, TypeBlock, seal(signers...)); err == nil {
			t.Errorf("cosigned by %v: accepted", signers)
		}
	}
	if err := VerifyQuorum(p, program, TypeDay, seal(0, 1, 2)); err == nil {
		t.Error("cosignatures over a block serve for a day")
	}
	if err := VerifyQuorum(p, wire.Hash{8}, TypeBlock, seal(0, 1, 2)); err == nil {
		t.Error("cosignatures of one program serve in another")
	}
	forged := seal(0, 1, 2, 3)
	forged.Cosignatures[3].Signature[5] ^= 1
	if err := VerifyQuorum(p, program, TypeBlock, forged); err == nil || !strings.Contains(err.Error(), "validator3.example") {
		t.Errorf("a false cosignature beyond the quorum: %v", err)
	}
	alien := seal(0, 1, 2)
	alien.Cosignatures[2].Validator = 9
	if err := VerifyQuorum(p, program, TypeBlock, alien); err == nil {
		t.Error("a validator that the program does not name is accepted")
	}
	if PayloadHash(TypeDay, payload) == PayloadHash(TypeBlock, payload) {
		t.Error("hashes of a day and a block coincide")
	}
}

// TestVRFVectors are all examples of RFC 9381 (appendix B.4) for ECVRF-EDWARDS25519-SHA512-ELL2. Each is refused with any one bit of
// its proof, its input or its key flipped.
func TestVRFVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vrf-rfc9381.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Example                 int
			SK, PK, Alpha, Pi, Beta string
		}
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Vectors) != 3 {
		t.Fatalf("%d vectors, %v", len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		bytesOf := func(s string) []byte {
			b, err := hex.DecodeString(s)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		alpha := bytesOf(v.Alpha)
		k := &ValidatorKey{name: "rfc", cosign: make([]byte, 64), vrf: []byte(ed25519.NewKeyFromSeed(bytesOf(v.SK)))}
		public := k.Public()
		if got := hex.EncodeToString(public.VRF[:]); got != v.PK {
			t.Errorf("example %d: public key %s", v.Example, got)
		}
		p := k.Prove(0, alpha)
		if got := hex.EncodeToString(p.Proof[:]); got != v.Pi {
			t.Errorf("example %d: proof %s", v.Example, got)
		}
		out, err := VerifyProof(public, alpha, p)
		if err != nil || hex.EncodeToString(out) != v.Beta || len(out) != sha512.Size {
			t.Errorf("example %d: output %x, %v", v.Example, out, err)
		}
		for bit := range 8 * len(p.Proof) {
			bad := p
			bad.Proof[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyProof(public, alpha, bad); err == nil {
				t.Errorf("example %d: accepted with bit %d of the proof flipped", v.Example, bit)
			}
		}
		for bit := range 8 * len(alpha) {
			bad := bytes.Clone(alpha)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyProof(public, bad, p); err == nil {
				t.Errorf("example %d: accepted with bit %d of the input flipped", v.Example, bit)
			}
		}
		if _, err := VerifyProof(public, append(bytes.Clone(alpha), 0), p); err == nil {
			t.Errorf("example %d: accepted for a longer input", v.Example)
		}
		for bit := range 8 * len(public.VRF) {
			bad := public
			bad.VRF[bit/8] ^= 1 << (bit % 8)
			if _, err := VerifyProof(bad, alpha, p); err == nil {
				t.Errorf("example %d: accepted with bit %d of the key flipped", v.Example, bit)
			}
		}
	}
}

func TestSeed(t *testing.T) {
	keys, p := set(t, 3, 2)
	alpha := DrawAlpha(wire.Hash{1}, 5)
	proofs := []Proof{keys[0].Prove(0, alpha), keys[1].Prove(1, alpha), keys[2].Prove(2, alpha)}
	seed, err := Seed(p.Validators, alpha, proofs)
	if err != nil {
		t.Fatal(err)
	}
	text := "rawstone/seed/v1" + string(alpha)
	for i, proof := range proofs {
		out, err := VerifyProof(p.Validators[i], alpha, proof)
		if err != nil {
			t.Fatal(err)
		}
		text += string([]byte{byte(i)}) + string(out)
	}
	if want := sha256.Sum256([]byte(text)); seed != want {
		t.Errorf("seed is %s, want %x", seed, want)
	}
	for _, other := range [][]Proof{proofs[:2], proofs[1:]} {
		if s, err := Seed(p.Validators, alpha, other); err != nil || s == seed {
			t.Errorf("seed of fewer proofs: %v, %v", s, err)
		}
	}
	if _, err := Seed(p.Validators, DrawAlpha(wire.Hash{1}, 6), proofs); err == nil {
		t.Error("proofs of one drop serve for another")
	}
	if _, err := Seed(p.Validators, OrderAlpha(wire.Hash{1}, 5), proofs); err == nil {
		t.Error("proofs of a drop serve for a day's order")
	}
	swapped := []Proof{{Validator: 0, Proof: proofs[1].Proof}}
	if _, err := Seed(p.Validators, alpha, swapped); err == nil || !strings.Contains(err.Error(), "validator0.example") {
		t.Errorf("a proof of another validator: %v", err)
	}
	if _, err := Seed(p.Validators, alpha, []Proof{{Validator: 7}}); err == nil {
		t.Error("a proof of nobody is accepted")
	}
	// With randomness added the proof differs and the output does not: nobody gets a second seed by proving again.
	again, err := ecvrf.ProveWithAddedRandomness(nil, ed25519.PrivateKey(keys[0].vrf), alpha)
	if err != nil {
		t.Fatal(err)
	}
	varied := append([]Proof{{Validator: 0, Proof: [80]byte(again)}}, proofs[1:]...)
	if s, err := Seed(p.Validators, alpha, varied); err != nil || s != seed || varied[0] == proofs[0] {
		t.Errorf("another proof of the same output: seed %v, %v, want %v", s, err, seed)
	}
}

func TestCheckVRFKey(t *testing.T) {
	keys, p := set(t, 1, 1)
	if err := CheckVRFKey(p.Validators[0].VRF); err != nil {
		t.Error(err)
	}
	// The identity and a point of order 2 in their canonical forms, a point of order 8, the identity with its sign bit set, p+1 which
	// stands for 1, p+3 which stands for 3 on a point of large order, and bytes that are on no point.
	for _, bad := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0200000000000000000000000000000000000000000000000000000000000000",
	} {
		b, err := hex.DecodeString(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckVRFKey([32]byte(b)); err == nil {
			t.Errorf("key %s is accepted", bad)
		}
		v := terms.Validator{Name: "bad", VRF: [32]byte(b)}
		if _, err := VerifyProof(v, nil, keys[0].Prove(0, nil)); err == nil {
			t.Errorf("a proof under key %s is accepted", bad)
		}
	}
}

func TestValidatorKey(t *testing.T) {
	k, err := GenerateValidatorKey("maker.example/validator")
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseValidatorKey(k.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if again.Public() != k.Public() || !bytes.Equal(again.Encode(), k.Encode()) {
		t.Error("a key read back is another one")
	}
	if p := k.Public(); p.Key == p.VRF {
		t.Error("one key serves for cosignatures and VRF")
	}
	for _, bad := range []string{"", "x", string(k.Encode()) + "x", strings.Replace(string(k.Encode()), "Name", "Nome", 1)} {
		if _, err := ParseValidatorKey([]byte(bad)); err == nil {
			t.Errorf("key text %q is accepted", bad)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "a\nb"} {
		if _, err := GenerateValidatorKey(bad); err == nil {
			t.Errorf("name %q is accepted", bad)
		}
	}
}

func samples() (*Leaves, *Day, *Block) {
	proofs := []Proof{{Validator: 0, Proof: [80]byte{1}}, {Validator: 2, Proof: [80]byte{2}}}
	return &Leaves{Day: 3, Count: 2, Weight: 40, Set: wire.Hash{1}, Validators: []byte{0, 1, 2}},
		&Day{Day: 3, Leaves: wire.Hash{2}, Proofs: proofs, Withheld: []byte{1}, Order: wire.Hash{3}, Root: wire.Hash{4}, Count: 2, Weight: 40},
		&Block{Drop: 9, Time: 1700000000, Previous: wire.Hash{5}, Program: wire.Hash{6}, Policies: wire.Hash{7}, Day: 3, Root: wire.Hash{4},
			Count: 2, Weight: 40, CreditFrom: 4, CreditTo: 8, Proofs: proofs, Withheld: []byte{1}, Seed: wire.Hash{8}, Height: 7, Units: 1000,
			Carry: 3, Supply: 4000000, Size: 12, LogRoot: wire.Hash{9}}
}

func TestPayloads(t *testing.T) {
	l, d, k := samples()
	lb, err := EncodePayload(l)
	if err != nil {
		t.Fatal(err)
	}
	db, err := EncodePayload(d)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := EncodePayload(k)
	if err != nil {
		t.Fatal(err)
	}
	l2, err1 := DecodeLeaves(lb)
	d2, err2 := DecodeDay(db)
	k2, err3 := DecodeBlock(kb)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	if diff := cmp.Diff([]any{l, d, k}, []any{l2, d2, k2}); diff != "" {
		t.Error(diff)
	}
	for name, spoil := range map[string]func(l *Leaves, d *Day, k *Block){
		"leaves without weight":    func(l *Leaves, d *Day, k *Block) { l.Weight, d.Weight, k.Weight = 0, 0, 0 },
		"weight without leaves":    func(l *Leaves, d *Day, k *Block) { l.Count, d.Count, k.Count = 0, 0, 0 },
		"leaves lighter than 1 km": func(l *Leaves, d *Day, k *Block) { l.Weight, d.Weight, k.Weight = 1, 1, 1 },
		"no validators":            func(l *Leaves, d *Day, k *Block) { l.Validators, d.Proofs, k.Proofs = nil, nil, nil },
		"validators out of order":  func(l *Leaves, d *Day, k *Block) { l.Validators[0], d.Proofs[0].Validator = 2, 2; k.Proofs = d.Proofs },
		"validator out of bounds": func(l *Leaves, d *Day, k *Block) {
			l.Validators[2], d.Proofs[1].Validator = 16, 16
			k.Proofs = d.Proofs
		},
		"validator gave and did not": func(l *Leaves, d *Day, k *Block) {
			l.Validators, d.Withheld, k.Withheld = []byte{0, 0}, []byte{2}, []byte{0}
		},
		"validator withheld twice": func(l *Leaves, d *Day, k *Block) {
			l.Validators, d.Withheld, k.Withheld = []byte{2, 2}, []byte{1, 1}, []byte{1, 1}
		},
	} {
		l, d, k := samples()
		spoil(l, d, k)
		for _, r := range []record{l, d, k} {
			if _, err := EncodePayload(r); err == nil {
				t.Errorf("%s: %T is accepted", name, r)
			}
		}
	}
	k.CreditFrom = 9
	if _, err := EncodePayload(k); err == nil {
		t.Error("a credit range that ends before it begins is accepted")
	}
}

func TestEntry(t *testing.T) {
	l, _, _ := samples()
	payload, err := EncodePayload(l)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := set(t, 1, 1)
	s := Sealed{payload, []Cosignature{keys[0].Cosign(0, wire.Hash{1}, TypeLeaves, payload)}}
	body, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := Entry{Number: 4, Type: TypeLeaves, Body: body}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := got.Sealed()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&s, sealed); diff != "" {
		t.Error(diff)
	}
	if _, err := (&Entry{Type: TypeCredit, Body: body}).Sealed(); err == nil {
		t.Error("a credit has cosignatures")
	}
	if _, err := got.Credit(); err == nil {
		t.Error("leaves are read as a credit")
	}
	if _, err := (&Entry{Type: TypeCredit, Body: make([]byte, MaxBodyLen+1)}).Encode(); err == nil {
		t.Error("a body that is too long is accepted")
	}
}

// TestHandover holds that a hand-over is read from its own type alone and that its blind is of its own kind.
func TestHandover(t *testing.T) {
	o := HandoverOpening{Salt: [32]byte{1}, ECU: wire.KeyID{2}, Cut: 3, Revoked: true}
	blind, err := o.Blind()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := codec.Encode(&o)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(append([]byte("rawstone/handover/v1"), encoded...)); blind != want {
		t.Errorf("blind is %s, want %x", blind, want)
	}
	for name, other := range map[string]HandoverOpening{
		"salt": {[32]byte{2}, o.ECU, o.Cut, o.Revoked}, "key": {o.Salt, wire.KeyID{3}, o.Cut, o.Revoked},
		"cut": {o.Salt, o.ECU, 4, o.Revoked}, "revocation": {o.Salt, o.ECU, o.Cut, false},
	} {
		if b, err := other.Blind(); err != nil || b == blind {
			t.Errorf("the blind does not tell another %s apart (%v)", name, err)
		}
	}
	body, err := codec.Encode(Handover{Blind: blind})
	if err != nil {
		t.Fatal(err)
	}
	b, err := (&Entry{Number: 5, Type: TypeHandover, Body: body}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	e, err := DecodeEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := e.Handover(); err != nil || h.Blind != blind || e.Type.String() != "hand-over" {
		t.Errorf("%v %+v, %v", e.Type, h, err)
	}
	if _, err := e.Binding(); err == nil {
		t.Error("a hand-over is read as a binding")
	}
	e.Type = TypeBinding
	if _, err := e.Handover(); err == nil {
		t.Error("a binding is read as a hand-over")
	}
	if _, err := e.Sealed(); err == nil {
		t.Error("a binding has cosignatures")
	}
	if b, err = (&Entry{Type: TypeWitness + 1}).Encode(); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeEntry(b); err == nil || !strings.Contains(err.Error(), "unknown type 16") {
		t.Errorf("a type beyond the last: %v", err)
	}
}

func TestChainPolicy(t *testing.T) {
	a, b := ChainPolicy(wire.Hash{}, []byte("a")), ChainPolicy(wire.Hash{}, []byte("b"))
	if a == b || ChainPolicy(a, []byte("b")) == ChainPolicy(b, []byte("a")) {
		t.Error("the chain does not tell documents or their order apart")
	}
}

// FuzzDecode feeds every decoder; what it accepts must encode to the same bytes.
func FuzzDecode(f *testing.F) {
	l, d, k := samples()
	for _, r := range []record{l, d, k} {
		b, err := EncodePayload(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		s, err := (&Sealed{Payload: b, Cosignatures: []Cosignature{{Validator: 1}}}).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s)
		e, err := (&Entry{Number: 1, Type: TypeBlock, Body: s}).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(again []byte, err error) {
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
		}
		if l, err := DecodeLeaves(b); err == nil {
			same(EncodePayload(l))
		}
		if d, err := DecodeDay(b); err == nil {
			same(EncodePayload(d))
		}
		if k, err := DecodeBlock(b); err == nil {
			same(EncodePayload(k))
		}
		if h, err := (&Entry{Type: TypeHandover, Body: b}).Handover(); err == nil {
			same(codec.Encode(h))
		}
		if s, err := (&Entry{Type: TypeBlock, Body: b}).Sealed(); err == nil {
			same(s.Encode())
		}
		if e, err := DecodeEntry(b); err == nil {
			same(e.Encode())
		}
	})
}
