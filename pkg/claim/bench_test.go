package claim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// childEnv names the directory of keys with which a re-executed test binary proves and reports its memory.
const childEnv = "RAWSTONE_CLAIM_PROVE"

func BenchmarkCommit(b *testing.B) {
	_, o, _ := week()
	for b.Loop() {
		Commit(o)
	}
}

func BenchmarkCheck(b *testing.B) {
	s, from, to := week()
	for b.Loop() {
		if err := s.Check(from, to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetup(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		if _, err := Setup(filepath.Join(dir, fmt.Sprint(i))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenProver(b *testing.B) {
	lock := keys(b)
	for b.Loop() {
		if _, err := OpenProver(keyDir, lock); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenVerifier(b *testing.B) {
	lock := keys(b)
	for b.Loop() {
		if _, err := OpenVerifier(keyDir, lock); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProve(b *testing.B) {
	p := openProver(b)
	s, from, to := week()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Prove(s, from, to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	v := openVerifier(b)
	s, proof := goodProof(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := v.Verify(s, proof); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProveMemory reports the resident memory of a process that does nothing but prove: idle before it opened the keys, and
// the peak over ten proofs.
func BenchmarkProveMemory(b *testing.B) {
	keys(b)
	if _, _, err := resident(); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+keyDir)
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		var idle, open, peak float64
		if _, err := fmt.Sscan(string(out), &idle, &open, &peak); err != nil {
			b.Fatalf("%s: %v", out, err)
		}
		b.ReportMetric(idle, "idle-KiB")
		b.ReportMetric(open, "open-KiB")
		b.ReportMetric(peak, "peak-KiB")
	}
}

// proveAsChild prints the process's resident memory in KiB: idle, with the prover open, and the peak over ten proofs.
func proveAsChild(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	idle, _, err := resident()
	fail(err)
	lock, err := ReadLock(dir)
	fail(err)
	p, err := OpenProver(dir, lock)
	fail(err)
	open, _, err := resident()
	fail(err)
	s, from, to := week()
	for range 10 {
		_, err := p.Prove(s, from, to)
		fail(err)
	}
	_, peak, err := resident()
	fail(err)
	fmt.Println(idle, open, peak)
}

// resident returns the process's resident memory and its peak in KiB, where Linux tells.
func resident() (now, peak int, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "VmRSS: %d kB", &now)
		fmt.Sscanf(line, "VmHWM: %d kB", &peak)
	}
	return now, peak, nil
}
