package credit

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// The attacks that have no place of their own: the other tests of the package name theirs.

// where the points of a proof end.
const (
	endA = bn254.SizeOfG1AffineCompressed
	endB = endA + bn254.SizeOfG2AffineCompressed
)

// rerandomised returns the proof (k·A, B/k, C): as good as the first, and no key is needed to make it.
func rerandomised(t testing.TB, p wire.Proof, k uint64) wire.Proof {
	t.Helper()
	var a bn254.G1Affine
	var b bn254.G2Affine
	_, err := a.SetBytes(p[:endA])
	_, err2 := b.SetBytes(p[endA:endB])
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	scalar := fr.NewElement(k)
	a.ScalarMultiplication(&a, scalar.BigInt(new(big.Int)))
	scalar.Inverse(&scalar)
	b.ScalarMultiplication(&b, scalar.BigInt(new(big.Int)))
	left, right := a.Bytes(), b.Bytes()
	out := p
	copy(out[:], left[:])
	copy(out[endA:], right[:])
	return out
}

// TestRerandomisedProof makes other proofs of one that was seen: they hold, and get the credit of the first, which is given once.
func TestRerandomisedProof(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	c := r.span(e, birth, e.at(t, 1, 98, 1_020_000))
	first := r.encode(c)
	var all []sent
	all = append(all, sent{"first", "V1", first, "", 10})
	again := func(k uint64) []byte {
		other := *c
		other.Proofs = []wire.ClaimProof{{Policy: 1, Tier: 1, Proof: rerandomised(t, c.Proofs[0].Proof, k)}}
		if other.Proofs[0].Proof == c.Proofs[0].Proof {
			t.Fatal("the proof is the same")
		}
		return r.encode(&other)
	}
	for k := range uint64(3) {
		all = append(all, sent{fmt.Sprint("with ", k+2), "V1", again(k + 2), "", 10})
	}
	r.sendAll(all...)
	late, _ := r.submit("V1", wire.KindClaim, again(99))
	r.accepted(late, 10)
	if id := wire.ID(first); late.Original == nil || *late.Original != id {
		t.Error("the receipt does not name the claim that was credited")
	}
	if s := r.summary(); s.KmProven != 10 || s.Credits != 1 {
		t.Errorf("%d km in %d credits, want 10 in 1", s.KmProven, s.Credits)
	}
	if h := r.head(e); h.Seq != 1 {
		t.Errorf("head %+v", h)
	}
}

// TestHighS gives a signature its other spelling.
func TestHighS(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	good := r.span(e, birth, e.at(t, 1, 99, 1_020_000))
	flip := func(s []byte) {
		v := new(big.Int).SetBytes(s[32:64])
		v.Sub(elliptic.P256().Params().N, v).FillBytes(s[32:64])
	}
	end, begin := *good, *good
	flip(end.To.Signature[:])
	begin.From.Signature = bytes.Clone(begin.From.Signature)
	flip(begin.From.Signature)
	for _, c := range []*wire.Claim{&end, &begin} {
		r.refused(r.send("V1", c), wire.ReasonSignature, 0)
	}
	r.accepted(r.send("V1", good), 10)
}

// TestCommitmentSwapped exchanges what the two snapshots hide, with the proof of the way back or of the way there.
func TestCommitmentSwapped(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	good := r.span(e, birth, to)
	p := good.Proofs[0].Proof
	a, b := birth, to
	a.Commitment, b.Commitment = b.Commitment, a.Commitment
	same := to
	same.Commitment = birth.Commitment
	// The ECU itself would have to sign a snapshot that takes back what it counted.
	back, err := attest.Sign(e.key, testProgram, 2, 100, birth.Commitment)
	if err != nil {
		t.Fatal(err)
	}
	r.sendAll(
		sent{"both", "V1", r.encode(r.forge(e, a, b, 1, 1, p)), wire.ReasonSignature, 0},
		sent{"end", "V1", r.encode(r.forge(e, birth, same, 1, 1, p)), wire.ReasonSignature, 0},
		sent{"signed", "V1", r.encode(r.forge(e, birth, back, 1, 1, p)), wire.ReasonProof, 0},
		sent{"untouched", "V1", r.encode(good), "", 10},
		sent{"back", "V1", r.encode(r.forge(e, to, back, 1, 1, p)), wire.ReasonProof, 0},
	)
}

// TestCountersThatDecreaseOrWrap: there is no proof of them, and those of other spans do not serve.
func TestCountersThatDecreaseOrWrap(t *testing.T) {
	r, e, other := newRig(t), newECU(t), newECU(t)
	r.add("V1", e)
	birth, _ := r.add("V2", other)
	good := r.span(other, birth, other.at(t, 1, 99, 1_020_000))
	k, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	for name, metres := range map[string][2]uint32{"decrease": {1_000_000, 980_000}, "wrap": {1<<32 - 10_000, 10_000}} {
		r, e := newRig(t), newECU(t)
		_, device := newKey(t)
		r.register("V1", device)
		first, last := e.at(t, 0, 50, metres[0]), e.at(t, 1, 99, metres[1])
		r.bind("V1", e, first)
		s := claim.Statement{From: first.Commitment, To: last.Commitment, Rows: r.cfg.Policies[0].Statement(0)}
		if _, err := k.prover.Prove(s, e.openings[first.Commitment], e.openings[last.Commitment]); err == nil {
			t.Errorf("%s: proved", name)
		}
		r.refused(r.send("V1", r.forge(e, first, last, 1, 0, good.Proofs[0].Proof)), wire.ReasonProof, 0)
	}
	r.accepted(r.send("V2", good), 10)
}

// TestSaltReuse: an ECU that salts two snapshots alike may betray that nothing moved, and proves nothing false.
func TestSaltReuse(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	o := e.openings[birth.Commitment]
	o.Counters[wire.OdometerM], o.Counters[wire.DriveTimeS] = 1_039_999, 51_999
	c := claim.Commit(o)
	e.openings[c] = o
	to, err := attest.Sign(e.key, testProgram, 1, 99, c)
	if err != nil {
		t.Fatal(err)
	}
	r.sendAll(
		sent{"tier one higher", "V1", r.encode(r.span(e, birth, to, proof{1, 3})), wire.ReasonProof, 0},
		sent{"the tier that is true", "V1", r.encode(r.span(e, birth, to, proof{1, 2})), "", 20},
	)
}

// TestSameSnapshotTwice: a span from a snapshot to itself is none, and a snapshot ends one span only.
func TestSameSnapshotTwice(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 97, 1_020_000), e.at(t, 2, 98, 1_040_000)
	good := r.span(e, birth, a)
	p := good.Proofs[0].Proof
	for _, from := range []wire.Origin{wire.NewOrigin(a), {Seq: 1}} {
		c := r.forge(e, birth, a, 1, 1, p)
		c.From = from
		if _, err := c.Encode(); err == nil {
			t.Error("a span of nothing was encoded")
		}
	}
	// The decoder is asked too: a claim whose end has the number of its begin.
	itself := r.encode(r.claim(e, wire.Origin{Seq: 0}, b, birth))
	at := bytes.Index(itself, []byte{0x02, 0xa1, 0x00, 0x00}) // From: {0: 0}
	if at < 0 {
		t.Fatal("no origin found")
	}
	itself[at+3] = 2
	r.sendAll(
		sent{"to itself", "V1", itself, wire.ReasonMalformed, 0},
		sent{"good", "V1", r.encode(good), "", 10},
		sent{"its end from elsewhere", "V1", r.encode(r.forge(e, e.at(t, 0, 50, 1), a, 1, 1, p)), wire.ReasonStale, 0},
	)
}

// TestPolicyNotInTheLog proves the tier of a policy that fits and that nobody published: the collector's policies are the log's.
func TestPolicyNotInTheLog(t *testing.T) {
	r, e := newRig(t), newECU(t)
	own := *r.cfg.Policies[0]
	own.Serial, own.CapKm = 5, 10_000
	own.Tiers = append(own.Tiers[:0:0], own.Tiers...)
	own.Tiers[0].Km = 9
	birth, _ := r.add("V1", e)
	judged := r.cfg.Policies
	r.cfg.Policies = append(judged[:len(judged):len(judged)], &own)
	c := r.span(e, birth, e.at(t, 1, 99, 1_020_000), proof{5, 0})
	r.cfg.Policies = judged
	r.refused(r.send("V1", c), wire.ReasonPolicy, 0)
	both := r.span(e, birth, e.at(t, 2, 99, 1_020_000), proof{1, 1})
	both.Proofs = append(both.Proofs, c.Proofs[0])
	r.refused(r.send("V1", both), wire.ReasonPolicy, 0)
}

// TestTwoPoliciesOfAKind: of a kind's policies one is in force on a day, so that a claim under two is refused whole, whether they are of
// other times or one succeeds the other.
func TestTwoPoliciesOfAKind(t *testing.T) {
	r, e := newRig(t), newECU(t)
	successor := *r.cfg.Policies[0]
	successor.Serial, successor.FromDay = 5, 97
	r.cfg.Policies = append(r.cfg.Policies, &successor)
	r.restart()
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	for _, ps := range [][]proof{{{1, 1}, {5, 1}}, {{1, 0}, {5, 1}}, {{1, 1}, {3, 1}}, {{3, 1}, {5, 1}}, {{1, 1}, {2, 0}, {5, 1}}} {
		r.refused(r.send("V1", r.span(e, birth, to, ps...)), wire.ReasonPolicy, 0)
	}
	twice := r.span(e, birth, to, proof{5, 1})
	twice.Proofs = append(twice.Proofs, twice.Proofs[0])
	if _, err := twice.Encode(); err == nil {
		t.Error("one policy stands twice in a claim")
	}
	r.accepted(r.send("V1", r.span(e, birth, to, proof{5, 1})), 10)
}

// TestPolicyNotYetOrNoLongerValid ends claims a day beside a policy's first and last.
func TestPolicyNotYetOrNoLongerValid(t *testing.T) {
	for day, want := range map[uint32]wire.Reason{79: wire.ReasonPolicy, 80: "", 90: "", 91: wire.ReasonPolicy} {
		r, e := newRig(t), newECU(t)
		r.cfg.Policies[0].FromDay, r.cfg.Policies[0].ToDay = 80, 90
		r.restart()
		birth, _ := r.add("V1", e)
		got := r.send("V1", r.span(e, birth, e.at(t, 1, day, 1_020_000)))
		if got.Accepted != (want == "") || got.Reason != want {
			t.Errorf("day %d: accepted %v for %q, want %q", day, got.Accepted, got.Reason, want)
		}
	}
}

// TestPointsOffTheCurve puts points into a proof that are none, or of another group, beside good proofs.
func TestPointsOffTheCurve(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	good := r.span(e, birth, to)
	p := good.Proofs[0].Proof
	with := func(at int, part []byte) []byte {
		bad := p
		copy(bad[at:], part)
		return r.encode(r.forge(e, birth, to, 1, 1, bad))
	}
	const smallest, infinity, mask = 0x80, 0x40, 0xc0
	var off []byte
	for x := uint64(1); off == nil; x++ {
		coordinate := fp.NewElement(x)
		b := coordinate.Bytes()
		b[0] |= smallest
		if _, err := new(bn254.G1Affine).SetBytes(b[:]); err != nil {
			off = b[:]
		}
	}
	var outside []byte
	for x := uint64(1); outside == nil; x++ {
		var q bn254.G2Affine
		q.X.A0.SetUint64(x)
		b := q.Bytes()
		if bn254.NewDecoder(bytes.NewReader(b[:]), bn254.NoSubgroupChecks()).Decode(&q) == nil && q.IsOnCurve() && !q.IsInSubGroup() {
			b = q.Bytes()
			outside = b[:]
		}
	}
	none := append([]byte{infinity}, make([]byte, 31)...)
	above := func(at int) []byte { // the coordinate's other spelling: with the modulus added
		b := bytes.Clone(p[at : at+32])
		flag := b[0] & mask
		b[0] &^= mask
		v := new(big.Int).SetBytes(b)
		v.Add(v, fp.Modulus())
		if v.BitLen() > 254 {
			return off // there is no such spelling of this one
		}
		v.FillBytes(b)
		b[0] |= flag
		return b
	}
	r.sendAll(
		sent{"A off the curve", "V1", with(0, off), wire.ReasonProof, 0},
		sent{"C off the curve", "V1", with(endB, off), wire.ReasonProof, 0},
		sent{"B outside its subgroup", "V1", with(endA, outside), wire.ReasonProof, 0},
		sent{"A infinite", "V1", with(0, none), wire.ReasonProof, 0},
		sent{"A without compression", "V1", with(0, []byte{p[0] &^ mask}), wire.ReasonProof, 0},
		sent{"A not canonical", "V1", with(0, above(0)), wire.ReasonProof, 0},
		sent{"C not canonical", "V1", with(endB, above(endB)), wire.ReasonProof, 0},
		sent{"good", "V1", r.encode(good), "", 10},
	)
}

// TestNonCanonicalCommitment has an ECU sign a commitment's other spelling: it is no field element.
func TestNonCanonicalCommitment(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	good := r.span(e, birth, to)
	var other wire.Commitment
	new(big.Int).Add(new(big.Int).SetBytes(to.Commitment[:]), fr.Modulus()).FillBytes(other[:])
	spelled, err := attest.Sign(e.key, testProgram, 1, 99, other)
	if err != nil {
		t.Fatal(err)
	}
	bad := r.forge(e, birth, spelled, 1, 1, good.Proofs[0].Proof)
	r.refused(r.send("V1", bad), wire.ReasonProof, 0)
	r.accepted(r.send("V1", good), 10)
}

// TestTrailingBytes adds to a claim what is not of it.
func TestTrailingBytes(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	good := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	r.sendAll(
		sent{"a zero", "V1", append(bytes.Clone(good), 0), wire.ReasonMalformed, 0},
		sent{"itself", "V1", append(bytes.Clone(good), good...), wire.ReasonMalformed, 0},
		sent{"good", "V1", good, "", 10},
	)
}

// TestMutatedClaims judges 10,000 random changes of a valid claim, in batches with the valid one among them: none is accepted.
func TestMutatedClaims(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	good := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000), proof{1, 1}, proof{2, 0}))
	random := rand.New(rand.NewPCG(1, 2))
	const batch = 250
	for range 10_000 / batch {
		subs := []Submission{{"V1", good}}
		for range batch {
			b := bytes.Clone(good)
			for range 1 + random.IntN(3) {
				switch at := random.IntN(len(b)); random.IntN(6) {
				case 0:
					b = append(b[:at], b[at+1:]...)
				case 1:
					b = append(b[:at], append([]byte{byte(random.Uint32())}, b[at:]...)...)
				case 2:
					b[at] = byte(random.Uint32())
				default:
					b[at] ^= 1 << random.IntN(8)
				}
			}
			subs = append(subs, Submission{"V1", b})
		}
		candidates, err := r.judge.prepare(t.Context(), wire.KindClaim, subs, &checks{judge: r.judge})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range candidates {
			if accepted := x.err == nil && x.verdict.reason == ""; accepted != bytes.Equal(x.body, good) {
				t.Fatalf("submission %d: %q: %x", i, x.verdict.reason, x.body)
			}
		}
	}
}
