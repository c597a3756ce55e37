package claim

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
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

// oneCore runs a benchmark on one core, so that its ratios do not depend on the machine.
func oneCore(b *testing.B) {
	before := runtime.GOMAXPROCS(1)
	b.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// alternate takes turns between two works and returns the processor time that the first took over that of the second: what else the
// machine does hardly counts, and what does slows both alike.
func alternate(b *testing.B, first, second func()) float64 {
	b.Helper()
	var spent [2]time.Duration
	for b.Loop() {
		for i, work := range []func(){first, second} {
			start := processorTime(b)
			work()
			spent[i] += processorTime(b) - start
		}
	}
	return float64(spent[0]) / float64(spent[1])
}

// processorTime returns what the process has used so far, in user and kernel.
func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// batchOf returns n items that hold: re-randomised proofs, as different as n proofs of n vehicles for whoever verifies them.
func batchOf(b testing.TB, n int) []Item {
	s, proof := goodProof(b)
	v := openVerifier(b)
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{s, proof}
		proof = rerandomised(b, v, proof, uint64(i)+2, uint64(i)+1)
	}
	return items
}

func verifyAll(b *testing.B, v *Verifier, items []Item) {
	for _, item := range items {
		if err := v.Verify(item.Statement, item.Proof); err != nil {
			b.Fatal(err)
		}
	}
}

func verifyBatch(b *testing.B, v *Verifier, items []Item, bad int) {
	for _, err := range v.VerifyBatch(items) {
		if err != nil {
			bad--
		}
	}
	if bad != 0 {
		b.Fatalf("%d bad items more than found", bad)
	}
}

// BenchmarkProve reports a proof's time over that of one single verification as x-verify, on one core.
func BenchmarkProve(b *testing.B) {
	oneCore(b)
	p, v := openProver(b), openVerifier(b)
	s, from, to := week()
	items := batchOf(b, 20)
	b.ReportMetric(20*alternate(b, func() {
		if _, err := p.Prove(s, from, to); err != nil {
			b.Fatal(err)
		}
	}, func() { verifyAll(b, v, items) }), "x-verify")
}

// BenchmarkVerify reports proofs a second, and as x-single how many times that is the rate of single verification in the same run,
// on one core. Both sides decode the proofs and check subgroups.
func BenchmarkVerify(b *testing.B) {
	oneCore(b)
	v := openVerifier(b)
	all := batchOf(b, 1024)
	b.Run("single", func(b *testing.B) {
		n, start := 0, processorTime(b)
		for ; b.Loop(); n++ {
			verifyAll(b, v, all[:1])
		}
		b.ReportMetric(float64(n)/(processorTime(b)-start).Seconds(), "proofs/s")
	})
	for _, n := range []int{8, 64, 256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			singles := min(n, 64)
			done, spent := 0, time.Duration(0)
			ratio := alternate(b, func() { verifyAll(b, v, all[:singles]) }, func() {
				start := processorTime(b)
				verifyBatch(b, v, all[:n], 0)
				spent += processorTime(b) - start
				done += n
			})
			b.ReportMetric(ratio*float64(n)/float64(singles), "x-single")
			b.ReportMetric(float64(done)/spent.Seconds(), "proofs/s")
		})
	}
}

// BenchmarkVerifyOneBad reports as x-clean the time of a batch of 256 with one bad proof over that of one without, on one core. The
// bad one stands where a search takes longest: each left half holds it.
func BenchmarkVerifyOneBad(b *testing.B) {
	oneCore(b)
	v := openVerifier(b)
	clean := batchOf(b, 256)
	wrong, swapped := clean[0], clean[0]
	wrong.Statement.Rows[0].B++
	outside := outsideSubgroup(b)
	copy(swapped.Proof[endA:endB], outside[:])
	for name, item := range map[string]Item{"wrong-statement": wrong, "outside-subgroup": swapped} {
		bad := slices.Clone(clean)
		bad[0] = item
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(alternate(b, func() { verifyBatch(b, v, bad, 1) }, func() { verifyBatch(b, v, clean, 0) }), "x-clean")
		})
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
