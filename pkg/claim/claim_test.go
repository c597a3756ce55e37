package claim

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"rawstone/pkg/wire"
)

// keyDir holds one setup for all tests; TestMain removes it.
var keyDir = filepath.Join(os.TempDir(), fmt.Sprintf("rawstone-claim-test-%d", os.Getpid()))

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		proveAsChild(dir)
		return
	}
	code := m.Run()
	os.RemoveAll(keyDir)
	os.Exit(code)
}

var setupOnce = sync.OnceValues(func() (Lock, error) { return Setup(keyDir) })

func keys(t testing.TB) Lock {
	t.Helper()
	lock, err := setupOnce()
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

func openProver(t testing.TB) *Prover {
	t.Helper()
	p, err := OpenProver(keyDir, keys(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openVerifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := OpenVerifier(keyDir, keys(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// week returns the openings of a week's drive of 51.3 km and a statement that holds of them: at least 40 km, overspeed under 5 %
// of drive time, at most 2 hard brakes per 100 km.
func week() (s Statement, from, to wire.Opening) {
	from.Counters = wire.Counters{158_910_600, 9_000_000, 1_200, 900, 40_000, 1_000, 0}
	to.Counters = wire.Counters{158_961_900, 9_004_000, 1_300, 901, 40_000, 9_000, 6_000}
	for i := range from.Salt {
		from.Salt[i], to.Salt[i] = byte(i), byte(0xff-i)
	}
	s.From, s.To = Commit(from), Commit(to)
	s.Rows[0].A[wire.OdometerM], s.Rows[0].B = 1, 40_000
	s.Rows[1].A[wire.DriveTimeS], s.Rows[1].A[wire.OverspeedS] = 5, -100
	s.Rows[2].A[wire.OdometerM], s.Rows[2].A[wire.HardBrakeN] = 2, -100_000
	return s, from, to
}

func TestProveAndVerify(t *testing.T) {
	p, v := openProver(t), openVerifier(t)
	s, from, to := week()
	proof, err := p.Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Verify(s, proof); err != nil {
		t.Fatalf("the good proof: %v", err)
	}
	again, err := p.Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if again == proof {
		t.Error("two proofs of one statement are equal: they are not randomised and so not zero-knowledge")
	}

	// Every public input counts: one changed by the least makes the proof one of something else.
	refused := func(name string, alter func(*Statement)) {
		t.Helper()
		other := s
		alter(&other)
		if err := v.Verify(other, proof); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	refused("earlier commitment altered", func(s *Statement) { s.From[31] ^= 1 })
	refused("later commitment altered", func(s *Statement) { s.To[31] ^= 1 })
	refused("commitments swapped", func(s *Statement) { s.From, s.To = s.To, s.From })
	refused("rows swapped", func(s *Statement) { s.Rows[0], s.Rows[1] = s.Rows[1], s.Rows[0] })
	for i := range s.Rows {
		for j := range s.Rows[i].A {
			refused(fmt.Sprintf("row %d coefficient %d", i, j), func(s *Statement) { s.Rows[i].A[j]-- })
		}
		refused(fmt.Sprintf("row %d bound", i), func(s *Statement) { s.Rows[i].B-- })
	}
}

func TestProveRefusesWhatTheTwinRefuses(t *testing.T) {
	p := openProver(t)
	s, from, to := week()
	s.Rows[0].B = 51_301
	want := s.Check(from, to)
	if want == nil {
		t.Fatal("a tier one metre too high holds")
	}
	if _, err := p.Prove(s, from, to); err == nil || err.Error() != want.Error() {
		t.Errorf("error %v, want %v", err, want)
	}
	s.Rows[0].B = 51_300
	if _, err := p.Prove(s, from, to); err != nil {
		t.Errorf("the highest bound that holds: %v", err)
	}
}

// TestProveConcurrently shares one prover and one verifier among goroutines.
func TestProveConcurrently(t *testing.T) {
	p, v := openProver(t), openVerifier(t)
	s, from, to := week()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			proof, err := p.Prove(s, from, to)
			if err == nil {
				err = v.Verify(s, proof)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOtherSetupRefuses(t *testing.T) {
	dir := t.TempDir()
	lock, err := Setup(dir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenVerifier(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	s, from, to := week()
	proof, err := openProver(t).Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Verify(s, proof); err == nil {
		t.Error("a proof under one key verifies under another")
	}
}
