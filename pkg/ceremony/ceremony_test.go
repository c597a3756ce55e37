package ceremony

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	constraint "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// power is a small circuit: Y is the n-th power of X.
type power struct {
	X frontend.Variable
	Y frontend.Variable `gnark:",public"`
	n int
}

func (p *power) Define(api frontend.API) error {
	y := p.X
	for range p.n - 1 {
		y = api.Mul(y, p.X)
	}
	api.AssertIsEqual(y, p.Y)
	return nil
}

// small returns a ceremony for a circuit of n constraints.
func small(t testing.TB, n int) *Ceremony {
	t.Helper()
	if _, err := claim.Compile(); err != nil { // turns off gnark's logger
		t.Fatal(err)
	}
	system, err := frontend.Compile(ecc.BN254.ScalarField(), r1cs.NewBuilder, &power{n: n})
	if err != nil {
		t.Fatal(err)
	}
	c, err := forCircuit(system.(*constraint.R1CS))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func beacon(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

// begin leaves a transcript with n contributions to phase 1.
func begin(t testing.TB, c *Ceremony, dir string, n int) {
	t.Helper()
	if _, err := c.Init(dir); err != nil {
		t.Fatal(err)
	}
	contribute(t, c, dir, 1, n)
}

func contribute(t testing.TB, c *Ceremony, dir string, phase uint8, n int) {
	t.Helper()
	for i := range n {
		if _, err := c.Contribute(filepath.Join(dir, fileName(phase, uint16(i))), dir); err != nil {
			t.Fatal(err)
		}
	}
}

// sealed returns a sealed transcript with n contributions to each phase, and where its keys are.
func sealed(t testing.TB, c *Ceremony, n int) (dir, keys string, lock claim.Lock) {
	t.Helper()
	dir, keys = t.TempDir(), filepath.Join(t.TempDir(), "keys")
	begin(t, c, dir, n)
	if _, err := c.EndPhase1(dir, beacon(1), n); err != nil {
		t.Fatal(err)
	}
	contribute(t, c, dir, 2, n)
	lock, err := c.Seal(dir, keys, beacon(2), n)
	if err != nil {
		t.Fatal(err)
	}
	return dir, keys, lock
}

func want(t *testing.T, err error, sentence string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), sentence) {
		t.Errorf("error %v, want one with %q", err, sentence)
	}
}

// The keys of a sealed ceremony prove and verify claim/v1, and nothing else passes for them.
func TestKeys(t *testing.T) {
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	dir, keys, lock := sealed(t, c, 1)
	r, err := c.Verify(dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Sealed || r.Contributions != [2]int{1, 1} || len(r.Steps) != 5 || r.Transcript != lock.Transcript.String() || r.Circuit != lock.Circuit.String() {
		t.Errorf("reported %+v", r)
	}
	if read, err := claim.ReadLock(keys); err != nil || read != lock || lock.Environment != wire.Production {
		t.Errorf("lock read as %+v, %v, want %+v of production", read, err, lock)
	}
	for name, limit := range map[string]int64{"proving.key": 1_000_000, "verifying.key": 2_000} {
		if info, err := os.Stat(filepath.Join(keys, name)); err != nil || info.Size() > limit {
			t.Errorf("%s: %v, over %d bytes", name, err, limit)
		}
	}

	from := wire.Opening{Counters: wire.Counters{10, 20}, Salt: wire.Salt{1}}
	to := wire.Opening{Counters: wire.Counters{15, 2020}, Salt: wire.Salt{2}}
	s := claim.Statement{From: claim.Commit(from), To: claim.Commit(to)}
	s.Rows[0].A[1], s.Rows[0].B = 1, 2000
	prover, err := claim.OpenProver(keys, lock)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := claim.OpenVerifier(keys, lock)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := prover.Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(s, proof); err != nil {
		t.Errorf("own proof: %v", err)
	}
	s.Rows[0].B++
	if err := verifier.Verify(s, proof); err == nil {
		t.Error("proof of a lower tier accepted for a higher one")
	}

	development := t.TempDir()
	if _, err := claim.Setup(development); err != nil {
		t.Fatal(err)
	}
	want(t, checkKeys(development, lock), "their lock is not of this ceremony")
	for _, name := range []string{"circuit.cs", "proving.key", "verifying.key"} {
		mixed := t.TempDir()
		if err := os.CopyFS(mixed, os.DirFS(keys)); err != nil {
			t.Fatal(err)
		}
		alter(t, filepath.Join(mixed, name), func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		want(t, checkKeys(mixed, lock), name+": its SHA-256 is")
	}
}

func alter(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What can be recomputed comes out the same; what holds a secret does not.
func TestDeterminism(t *testing.T) {
	c := small(t, 7)
	dir, _, lock := sealed(t, c, 2)
	again, err := c.Seal(dir, filepath.Join(t.TempDir(), "again"), beacon(2), 2)
	if err != nil || again != lock {
		t.Errorf("sealed again: %+v, %v, want %+v", again, err, lock)
	}
	first, err := c.Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Verify(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if r.Steps[0] != first {
		t.Errorf("begins with %v and %v", r.Steps[0], first)
	}
	var steps []string
	for _, s := range r.Steps {
		steps = append(steps, s.Name)
	}
	if got := strings.Join(steps, " "); got != "phase1-000.mpc phase1-001.mpc phase1-002.mpc phase2-000.mpc phase2-001.mpc phase2-002.mpc seal.mpc" {
		t.Errorf("steps %s", got)
	}
	other, err := c.Contribute(filepath.Join(dir, r.Steps[0].Name), t.TempDir())
	if err != nil || other.Hash == r.Steps[1].Hash {
		t.Errorf("two contributions to one file are %v and %v, %v", other, r.Steps[1], err)
	}
}

// Commands out of order and out of bounds are refused, and leave nothing behind.
func TestOrder(t *testing.T) {
	c := small(t, 7)
	dir := t.TempDir()
	keys := filepath.Join(t.TempDir(), "keys")
	file := func(phase uint8, seq uint16) string { return filepath.Join(dir, fileName(phase, seq)) }
	begin(t, c, dir, 1)
	_, err := c.Init(dir)
	want(t, err, "is not empty")
	_, err = c.Contribute(file(1, 0), dir)
	want(t, err, "exists; the step was taken already")
	_, err = c.Contribute(file(1, 9), dir)
	want(t, err, "no such file")
	_, err = c.EndPhase1(dir, beacon(1), 2)
	want(t, err, "phase 1 has 1 contributions, at least 2")
	_, err = c.EndPhase1(dir, beacon(1), 0)
	want(t, err, "no ceremony")
	_, err = c.EndPhase1(dir, beacon(1)[:31], 1)
	want(t, err, "31 bytes")
	_, err = c.EndPhase1(dir, bytes.Repeat([]byte{1}, 65), 1)
	want(t, err, "65 bytes")
	_, err = c.Seal(dir, keys, beacon(2), 1)
	want(t, err, "phase 1 has not ended")
	if r, err := c.Verify(dir, ""); err != nil || r.Sealed || len(r.Steps) != 2 {
		t.Errorf("phase 1 verified as %+v, %v", r, err)
	}
	if _, err = c.EndPhase1(dir, beacon(1), 1); err != nil {
		t.Fatal(err)
	}
	_, err = c.EndPhase1(dir, beacon(3), 1)
	want(t, err, "it is ended already")
	_, err = c.Seal(dir, keys, beacon(2), 1)
	want(t, err, "phase 2 has 0 contributions")
	contribute(t, c, dir, 2, 1)
	_, err = c.Seal(dir, keys, beacon(2), 2)
	want(t, err, "phase 1 has 1 contributions")
	_, err = c.Seal(dir, keys, beacon(1), 1)
	want(t, err, "the same beacon")
	_, err = c.Verify(dir, keys)
	want(t, err, "has no seal")
	if _, err := os.Stat(keys); err == nil {
		t.Error("keys written before the seal")
	}
	if _, err = c.Seal(dir, keys, beacon(2), 1); err != nil {
		t.Fatal(err)
	}
	_, err = c.Seal(dir, keys, beacon(2), 1)
	want(t, err, "already holds circuit.cs")
	_, err = c.Seal(dir, t.TempDir(), beacon(4), 1)
	want(t, err, "sealed already, with beacon 0202")
	_, err = c.Contribute(file(phaseSeal, 0), dir)
	want(t, err, "the ceremony is sealed")
	_, err = c.Verify(t.TempDir(), "")
	want(t, err, "is empty")
	_, err = c.Verify(filepath.Join(dir, "none"), "")
	want(t, err, "no such file")
}
