// Package batch verifies many Groth16 proofs over BN254 under one key for the price of a few pairings.
//
// Proof i holds when e(Aᵢ, Bᵢ) = e(α, β)·e(Kᵢ, γ)·e(Cᵢ, δ), Kᵢ being the combination of the key's points by the public inputs. A
// batch draws a random scalar rᵢ for each proof and checks the product of these equations raised to rᵢ:
//
//	∏ e(rᵢAᵢ, Bᵢ) · e(−Σrᵢα, β) · e(−ΣrᵢKᵢ, γ) · e(−ΣrᵢCᵢ, δ) = 1
//
// with one Miller pair a proof, three more, and one final exponentiation.
//
// Soundness: all points are in groups of prime order r, so that proof i fails its equation by some gᵢ of order r in the target
// group, or holds. A scalar is Σ dⱼ·4ʲ with 32 digits dⱼ, drawn uniformly from representatives of ℤ[λ] modulo 4, λ being a primitive
// third root of one. Different digits give different elements of ℤ[λ] (compare them modulo 4, then 16, and so on), and different
// elements different residues mod r: digits are at most 2 in absolute value as complex numbers, so that two scalars differ by
// x + yλ of the norm x²−xy+y² ≤ (4·4³²/3)² < r; if it were zero mod r, r would divide the norm, (x+yλ)(x+yλ²) mod r, which is
// therefore zero, and so are x and y. Hence there are 2¹²⁸ scalars, equally likely. Where gᵢ is not one, at most one rᵢ mod r makes
// the product one, whatever the other scalars are. They are drawn from crypto/rand when the proofs are already fixed; hence a set of
// proofs with a bad one among them passes with a probability of at most 2⁻¹²⁸. A search for bad ones asks this of sets that were
// fixed with the order of the proofs, fewer than two a proof, and may keep the scalars: the probability that any of the answers errs
// is below 2·1024·2⁻¹²⁸ (union bound). A good proof is refused if its scalar is zero: once in 2¹²⁸.
//
// The package refuses nothing on its own account but points B outside G2. Of proofs that a search has isolated, the caller's own
// check of a single proof decides.
package batch

import (
	"crypto/rand"
	"math/big"
	"slices"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	groth16 "github.com/consensys/gnark/backend/groth16/bn254"
)

const (
	// MaxProofs is how many proofs Verify looks at together: beyond it, more save less than they hold in memory, 2 KiB each.
	MaxProofs = 1024
	// maxPart is how many proofs share the squarings and divisions of one Miller loop. A search goes through a part's proofs anew.
	maxPart = 64
)

// A Proof is a proof as received. A and C are on the curve, and B is on the twist and may be outside G2; none is infinity.
type Proof struct {
	A, C   bn254.G1Affine
	B      bn254.G2Affine
	Inputs fr.Vector // the key's public inputs, without the constant one
}

// A Verifier holds one verifying key. It is safe for concurrent use.
type Verifier struct {
	alpha        bn254.G1Affine
	k            []bn254.G1Affine
	lines        [3]lines // of β, γ, δ
	endomorphism endomorphism
}

type lines = [2][len(bn254.LoopCounter)]bn254.LineEvaluationAff

// New returns a Verifier for a key without Groth16 commitments, whose points are in their groups.
func New(key *groth16.VerifyingKey) *Verifier {
	return &Verifier{
		alpha:        key.G1.Alpha,
		k:            key.G1.K,
		lines:        [3]lines{bn254.PrecomputeLines(key.G2.Beta), bn254.PrecomputeLines(key.G2.Gamma), bn254.PrecomputeLines(key.G2.Delta)},
		endomorphism: newEndomorphism(),
	}
}

// Verify reports which proofs hold. Of a proof that a search has isolated, single decides by its index; a proof with B outside G2
// is refused unasked.
func (v *Verifier) Verify(proofs []Proof, single func(int) bool) []bool {
	s := search{verifier: v, single: single, ok: make([]bool, len(proofs))}
	for low := 0; low < len(proofs); low += MaxProofs {
		s.run(v.parts(proofs, low, min(low+MaxProofs, len(proofs))), false)
	}
	return s.ok
}

// parts draws the scalars of some proofs.
func (v *Verifier) parts(proofs []Proof, low, high int) (parts []*part) {
	random := make([]byte, len(scalar{})*(high-low))
	rand.Read(random) // never fails
	for ; low < high; low += maxPart {
		p := new(part)
		for i := low; i < min(low+maxPart, high); i++ {
			s := scalar(random[:len(scalar{})])
			random = random[len(s):]
			p.members = append(p.members, member{index: i, proof: &proofs[i], scalar: s, weight: v.endomorphism.element(&s)})
		}
		parts = append(parts, p)
	}
	return parts
}

// A member is a proof of a batch with its scalar.
type member struct {
	index  int
	proof  *Proof
	scalar scalar
	weight fr.Element // the scalar mod r
	rA     bn254.G1Affine
}

// A part is some members and, once summed, what they contribute to the equation.
type part struct {
	members []member
	summed  bool
	miller  bn254.GT     // ∏ f(rᵢAᵢ, Bᵢ)
	c       bn254.G1Jac  // ΣrᵢCᵢ
	inputs  []fr.Element // Σrᵢ and Σrᵢxᵢ for each input x
}

// sum works the contribution out. Members whose B is outside G2 leave: they are refused.
func (v *Verifier) sum(p *part) {
	if p.summed {
		return
	}
	p.summed = true
	v.scale(p.members)
	for {
		as, bs := make([]bn254.G1Affine, len(p.members)), make([]bn254.G2Affine, len(p.members))
		for i := range p.members {
			as[i], bs[i] = p.members[i].rA, p.members[i].proof.B
		}
		var outside []bool
		if p.miller, outside = millerLoop(as, bs); !slices.Contains(outside, true) {
			break
		}
		var inside []member
		for i, m := range p.members {
			if !outside[i] {
				inside = append(inside, m)
			}
		}
		p.members = inside
	}
	cs, scalars := make([]bn254.G1Affine, len(p.members)), make([]scalar, len(p.members))
	p.inputs = make([]fr.Element, len(v.k))
	for i := range p.members {
		m := &p.members[i]
		cs[i], scalars[i] = m.proof.C, m.scalar
		p.inputs[0].Add(&p.inputs[0], &m.weight)
		for j := range m.proof.Inputs {
			var x fr.Element
			x.Mul(&m.weight, &m.proof.Inputs[j])
			p.inputs[j+1].Add(&p.inputs[j+1], &x)
		}
	}
	p.c = combine(v.endomorphism.tables(cs), scalars)
}

// scale works out rA of members that have none yet.
func (v *Verifier) scale(members []member) {
	if len(members) == 0 || !members[0].rA.IsInfinity() {
		return // members of one part are scaled together
	}
	as := make([]bn254.G1Affine, len(members))
	for i := range members {
		as[i] = members[i].proof.A
	}
	tables, products := v.endomorphism.tables(as), make([]bn254.G1Jac, len(members))
	for i := range members {
		products[i] = combine(tables[i:i+1], []scalar{members[i].scalar})
	}
	for i, a := range bn254.BatchJacobianToAffineG1(products) {
		members[i].rA = a
	}
}

// holds reports whether the equation holds for the members of all parts together.
func (v *Verifier) holds(parts []*part) bool {
	var c, k, alpha bn254.G1Jac
	var f bn254.GT
	f.SetOne()
	inputs := make([]fr.Element, len(v.k))
	c.FromAffine(new(bn254.G1Affine))
	for _, p := range parts {
		v.sum(p)
		f.Mul(&f, &p.miller)
		c.AddAssign(&p.c)
		for j := range inputs {
			inputs[j].Add(&inputs[j], &p.inputs[j])
		}
	}
	if _, err := k.MultiExp(v.k, inputs, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
		return false
	}
	alpha.FromAffine(&v.alpha)
	alpha.ScalarMultiplication(&alpha, inputs[0].BigInt(new(big.Int)))
	fixed := bn254.BatchJacobianToAffineG1([]bn254.G1Jac{alpha, k, c})
	for i := range fixed {
		fixed[i].Neg(&fixed[i])
	}
	copied := v.lines // MillerLoopFixedQ overwrites them
	g, err := bn254.MillerLoopFixedQ(fixed, copied[:])
	if err != nil {
		return false
	}
	f = bn254.FinalExponentiation(&f, &g)
	return f.IsOne()
}

// A search finds the proofs of a batch that hold.
type search struct {
	verifier *Verifier
	single   func(int) bool
	ok       []bool
}

// run accepts the members of parts when the equation holds for all of them, and otherwise splits them. Bad says that it is known
// not to hold, which saves asking. It reports whether it accepted all.
func (s *search) run(parts []*part, bad bool) bool {
	if !bad && s.verifier.holds(parts) {
		for _, p := range parts {
			for _, m := range p.members {
				s.ok[m.index] = true
			}
		}
		return true
	}
	if len(parts) == 1 {
		members := parts[0].members
		if len(members) == 0 {
			return true
		}
		if len(members) == 1 {
			i := members[0].index
			s.ok[i] = s.single(i)
			return s.ok[i]
		}
		half := len(members) / 2
		parts = []*part{{members: members[:half]}, {members: members[half:]}}
	}
	half := len(parts) / 2
	left := s.run(parts[:half], false)
	right := s.run(parts[half:], left) // a bad whole with a good half has a bad one
	return left && right
}
