// Package chain is a long drive with its proofs: snapshots of one invented car, of which each and the next have a proof under a policy.
// Many vehicles take a piece of it each; their own ECUs' keys sign the same commitments.
//
// The drive follows from circuit, key and policy alone, so that what was proven once is proven for good: proofs are kept in a file named
// after the hash of these three, and a file that was cut off, spoilt or made for something else costs no more than the proofs that do not
// hold. No proof is handed out that was not verified in this process. Since anybody could compute its counters, nothing here is secret.
package chain

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"golang.org/x/sync/errgroup"

	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	// MaxLen bounds a chain: its counters stay within 32 bits.
	MaxLen = 10_000
	// longest is the distance in km that a span does not exceed, where the policy's lowest tier lets it.
	longest = 200
	// pace is the speed of the invented car in m/s.
	pace = 20
	// verified is how many proofs are checked together.
	verified = 256
)

// Config says what is proven; every field but Report is required.
type Config struct {
	// Dir is where proofs are kept; it is made when missing.
	Dir string
	// Keys is the directory of circuit and keys, Lock what they must be.
	Keys string
	Lock claim.Lock
	// Policy is under which the proofs are made, of kind mileage.
	Policy *terms.Policy
	// Report is told how many proofs there are; nil means nobody is.
	Report func(done int)
}

// A Chain is a drive of Len spans and one more snapshots.
type Chain struct {
	policy      *terms.Policy
	openings    []wire.Opening
	commitments []wire.Commitment
	tiers       []int
	proofs      []wire.Proof
}

// Open returns a chain of n spans, from the file and, as far as that does not hold them, made on all cores and kept there.
func Open(ctx context.Context, cfg Config, n int) (*Chain, error) {
	c, err := open(ctx, cfg, n)
	if err != nil {
		return nil, fmt.Errorf("cannot make proofs: %w", err)
	}
	return c, nil
}

func open(ctx context.Context, cfg Config, n int) (*Chain, error) {
	if n < 1 || n > MaxLen || cfg.Dir == "" || cfg.Policy == nil {
		return nil, fmt.Errorf("%d of them asked for, want 1 to %d, or no directory or policy given", n, MaxLen)
	}
	if cfg.Report == nil {
		cfg.Report = func(int) {}
	}
	name, err := name(cfg)
	if err != nil {
		return nil, err
	}
	c := drive(cfg.Policy, name, n)
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(cfg.Dir, name.String()), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = c.fill(ctx, cfg, f)
	return c, errors.Join(err, f.Close())
}

// name is the hash of all that the proofs depend on.
func name(cfg Config) (wire.Hash, error) {
	policy, err := wire.Marshal(cfg.Policy)
	if err != nil {
		return wire.Hash{}, err
	}
	l := cfg.Lock
	text := append(append(append([]byte("rawstone fleet 1"), l.Circuit[:]...), l.ProvingKey[:]...), l.VerifyingKey[:]...)
	return sha256.Sum256(append(text, policy...)), nil
}

// drive invents n spans.
func drive(policy *terms.Policy, seed wire.Hash, n int) *Chain {
	rng := rand.New(rand.NewChaCha8(seed))
	tiers := 1 // that spans may reach
	for tiers < len(policy.Tiers) && policy.Tiers[tiers].Km <= min(longest, policy.CapKm) {
		tiers++
	}
	c := &Chain{policy: policy}
	at := wire.Opening{}
	for i := range n + 1 {
		if i > 0 {
			tier := rng.IntN(tiers)
			metres := 1000*policy.Tiers[tier].Km + rng.Uint32N(1000)
			seconds := metres/pace + 1
			for j, growth := range [wire.NumCounters]uint32{
				wire.OdometerM: metres, wire.DriveTimeS: seconds, wire.OverspeedS: seconds / 50, wire.HardBrakeN: rng.Uint32N(4),
				wire.NightTimeS: seconds / 8, wire.AssistedM: metres / 3, wire.EnergyWh: metres / 6,
			} {
				at.Counters[j] += growth
			}
			c.tiers = append(c.tiers, tier)
		}
		for j := range at.Salt {
			at.Salt[j] = byte(rng.Uint32())
		}
		c.openings = append(c.openings, at)
		c.commitments = append(c.commitments, claim.Commit(at))
	}
	return c
}

func (c *Chain) statement(i int) claim.Statement {
	return claim.Statement{From: c.commitments[i], To: c.commitments[i+1], Rows: c.policy.Statement(c.tiers[i])}
}

// fill takes the proofs that hold from the file, and makes and keeps the others.
func (c *Chain) fill(ctx context.Context, cfg Config, f *os.File) error {
	kept, err := io.ReadAll(io.LimitReader(f, int64(len(c.tiers)*len(wire.Proof{}))))
	if err != nil {
		return err
	}
	for ; len(kept) >= len(wire.Proof{}); kept = kept[len(wire.Proof{}):] {
		c.proofs = append(c.proofs, wire.Proof(kept))
	}
	verifier, err := claim.OpenVerifier(cfg.Keys, cfg.Lock)
	if err != nil {
		return err
	}
	bad, err := c.verify(ctx, verifier, 0)
	if err != nil {
		return err
	}
	if len(bad) == 0 && len(c.proofs) == len(c.tiers) {
		cfg.Report(len(c.tiers))
		return nil
	}
	// A spoilt proof is made anew in its place, missing ones at the end.
	for i := len(c.proofs); i < len(c.tiers); i++ {
		bad = append(bad, i)
	}
	c.proofs = append(c.proofs, make([]wire.Proof, len(c.tiers)-len(c.proofs))...)
	if err := c.prove(ctx, cfg, bad, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if bad, err = c.verify(ctx, verifier, bad[0]); err == nil && len(bad) > 0 {
		err = errors.New("a proof does not hold that was just made: circuit and keys do not belong together")
	}
	return err
}

// verify returns the indices from a first one on of proofs that do not hold.
func (c *Chain) verify(ctx context.Context, v *claim.Verifier, first int) (bad []int, err error) {
	var mu sync.Mutex
	ok := make([]bool, len(c.proofs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for at := first; at < len(c.proofs); at += verified {
		g.Go(func() error {
			var items []claim.Item
			for i := at; i < min(at+verified, len(c.proofs)); i++ {
				items = append(items, claim.Item{Statement: c.statement(i), Proof: c.proofs[i]})
			}
			errs := v.VerifyBatch(items)
			mu.Lock()
			defer mu.Unlock()
			for i, err := range errs {
				ok[at+i] = err == nil
			}
			return ctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i := first; i < len(ok); i++ {
		if !ok[i] {
			bad = append(bad, i)
		}
	}
	return bad, nil
}

// prove makes the proofs of some spans and writes each to its place in the file.
func (c *Chain) prove(ctx context.Context, cfg Config, spans []int, f *os.File) error {
	var mu sync.Mutex
	done := len(c.tiers) - len(spans)
	cfg.Report(done)
	next := make(chan int, len(spans))
	for _, i := range spans {
		next <- i
	}
	close(next)
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), len(spans)) {
		g.Go(func() error {
			prover, err := claim.OpenProver(cfg.Keys, cfg.Lock) // each makes one proof at a time
			if err != nil {
				return err
			}
			for i := range next {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				p, err := prover.Prove(c.statement(i), c.openings[i], c.openings[i+1])
				if err != nil {
					return fmt.Errorf("policy %d asks for more than the distance driven at %d m/s: %w", c.policy.Serial, pace, err)
				}
				if _, err := f.WriteAt(p[:], int64(i*len(p))); err != nil {
					return err
				}
				mu.Lock()
				c.proofs[i] = p
				done++
				cfg.Report(done)
				mu.Unlock()
			}
			return nil
		})
	}
	return g.Wait()
}

// Len returns the number of spans.
func (c *Chain) Len() int { return len(c.tiers) }

// Commitment returns that of snapshot i, 0 to Len.
func (c *Chain) Commitment(i int) wire.Commitment { return c.commitments[i] }

// Tier returns the policy's tier that span i reaches.
func (c *Chain) Tier(i int) int { return c.tiers[i] }

// Proof returns a proof of span i. It is as good as the one in the file and made from it by a factor, so that no two vehicles send the same
// bytes: who checks them cannot take one answer for two. A factor of zero counts as one.
func (c *Chain) Proof(i int, factor uint64) (wire.Proof, error) {
	p := c.proofs[i]
	const endA, endB = bn254.SizeOfG1AffineCompressed, bn254.SizeOfG1AffineCompressed + bn254.SizeOfG2AffineCompressed
	var a bn254.G1Affine
	var b bn254.G2Affine
	if _, err := a.SetBytes(p[:endA]); err != nil {
		return p, fmt.Errorf("cannot vary proof: %w", err)
	}
	if _, err := b.SetBytes(p[endA:endB]); err != nil {
		return p, fmt.Errorf("cannot vary proof: %w", err)
	}
	// e(r·A, r⁻¹·B) = e(A, B), the one place where the equation of a Groth16 proof has either.
	r := fr.NewElement(max(factor, 1))
	a.ScalarMultiplication(&a, r.BigInt(new(big.Int)))
	r.Inverse(&r)
	b.ScalarMultiplication(&b, r.BigInt(new(big.Int)))
	left, right := a.Bytes(), b.Bytes()
	copy(p[:endA], left[:])
	copy(p[endA:endB], right[:])
	return p, nil
}
