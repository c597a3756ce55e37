package claim

import (
	"math/big"
	"path/filepath"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// A commitVector is one entry of testdata/commitment.json.
type commitVector struct {
	Counters   wire.Counters `json:"counters"`
	Salt       octets        `json:"salt"`
	Packed     octets        `json:"packed"`
	Commitment octets        `json:"commitment"`
}

type commitVectors struct {
	Comment string         `json:"comment"`
	Tag     octets         `json:"tag"`
	Vectors []commitVector `json:"vectors"`
}

func TestCommitVector(t *testing.T) {
	_, from, to := week()
	var ones wire.Opening
	for j := range ones.Counters {
		ones.Counters[j] = 1<<32 - 1
	}
	for i := range ones.Salt {
		ones.Salt[i] = 0xff
	}
	first := tag()
	tagBytes := first.Bytes()
	got := commitVectors{
		Comment: "Commitment = Poseidon2(tag, packed, salt) over BN254's scalar field: width 2, 6 full and 50 partial rounds, x^5, " +
			"gnark-crypto's default round keys, Merkle-Damgard with compression P(state, block)[1] + block from state 0.",
		Tag: tagBytes[:],
	}
	for _, o := range []wire.Opening{{}, {Counters: wire.Counters{1, 2, 3, 4, 5, 6, 7}}, from, to, ones} {
		c, e := Commit(o), pack(o.Counters)
		packed := e.Bytes()
		got.Vectors = append(got.Vectors, commitVector{o.Counters, o.Salt[:], packed[:], c[:]})
	}
	vector := filepath.Join("testdata", "commitment.json")
	if vectortest.Update() {
		vectortest.Write(t, vector, got)
	}
	var want commitVectors
	vectortest.Read(t, vector, &want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("vector differs (-stored +made):\n%s", d)
	}
}

// TestCommitByHand computes the commitment with nothing but integers and the round keys, as another implementation would.
func TestCommitByHand(t *testing.T) {
	_, o, _ := week()
	packed := new(big.Int)
	for _, c := range o.Counters {
		packed.Add(packed.Lsh(packed, 32), big.NewInt(int64(c)))
	}
	state := new(big.Int)
	for _, block := range []*big.Int{new(big.Int).SetBytes([]byte("rawstone/claim/v1")), packed, new(big.Int).SetBytes(o.Salt[:])} {
		state = compressByHand(state, block)
	}
	var want wire.Commitment
	state.FillBytes(want[:])
	if got := Commit(o); got != want {
		t.Errorf("commitment %x, want %x", got, want)
	}
}

// compressByHand is Poseidon2's permutation of width 2 (https://eprint.iacr.org/2023/323, §5 and §6) in gnark-crypto's compression
// mode: the second word plus the second input.
func compressByHand(a, b *big.Int) *big.Int {
	r := fr.Modulus()
	params := poseidon2.GetDefaultParameters()
	x, y := new(big.Int).Set(a), new(big.Int).Set(b)
	key := func(round, i int) *big.Int {
		return params.RoundKeys[round][i].BigInt(new(big.Int))
	}
	sbox := func(v *big.Int) { v.Exp(v, big.NewInt(5), r) }
	// mix maps (x, y) to (2x + y, x + d·y): d is 2 in external rounds, 3 in internal ones.
	mix := func(d int64) {
		sum := new(big.Int).Add(x, y)
		x.Mod(x.Add(x, sum), r)
		y.Mod(sum.Add(sum, y.Mul(y, big.NewInt(d-1))), r)
	}
	mix(2)
	for round := range params.NbFullRounds + params.NbPartialRounds {
		external := round < params.NbFullRounds/2 || round >= params.NbFullRounds/2+params.NbPartialRounds
		x.Add(x, key(round, 0))
		sbox(x)
		if external {
			y.Add(y, key(round, 1))
			sbox(y)
			mix(2)
		} else {
			mix(3)
		}
	}
	return y.Mod(y.Add(y, b), r)
}

// TestCommitDependsOnEverything changes each counter and each byte of the salt by the least.
func TestCommitDependsOnEverything(t *testing.T) {
	_, o, _ := week()
	seen := map[wire.Commitment]bool{Commit(o): true}
	add := func(o wire.Opening) {
		t.Helper()
		c := Commit(o)
		if seen[c] {
			t.Errorf("two openings of one commitment, the second %+v", o)
		}
		seen[c] = true
	}
	for j := range o.Counters {
		other := o
		other.Counters[j]++
		add(other)
	}
	for i := range o.Salt {
		other := o
		other.Salt[i] ^= 1
		add(other)
	}
	other := o
	other.Counters[0], other.Counters[1] = o.Counters[1], o.Counters[0]
	add(other)
}
