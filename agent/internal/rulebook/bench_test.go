package rulebook

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rawstone/agent/internal/blob"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// BenchmarkOpen is what a start costs before the first proof: the notice from flash verified, and the circuit and proving key from
// flash hashed and loaded. It reports the ratio to one verification of a proof in the same run.
func BenchmarkOpen(b *testing.B) {
	w, s := newWorld(wire.Development), setups()[0]
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		b.Fatal(err)
	}
	for h, text := range s.files {
		if err := os.WriteFile(filepath.Join(dir, "keys", h.String()), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	store := must(blob.New(blob.Config{Dir: filepath.Join(dir, "keys"), URL: "https://127.0.0.1:1", Logger: slog.New(slog.DiscardHandler)}))
	cfg := w.config(filepath.Join(dir, "rules"), store)
	if err := must(Open(cfg)).Take(w.notice(1, 0, w.policy(1, s.lock, nil))); err != nil {
		b.Fatal(err)
	}
	var from, to wire.Opening
	to.Counters[wire.OdometerM] = 2000
	book := must(Open(cfg))
	p := book.Rules().Policies[0]
	statement := claim.Statement{From: claim.Commit(from), To: claim.Commit(to), Rows: p.Statement(0)}
	prover, ok := book.Prover(p)
	if !ok {
		b.Fatal("no keys")
	}
	proof := must(prover.Prove(statement, from, to))
	verifier := must(claim.OpenVerifier(s.dir, s.lock))
	b.ResetTimer()
	var opening, verifying time.Duration
	for b.Loop() {
		start := time.Now()
		book := must(Open(cfg))
		must(book.load(s.lock))
		opened := time.Now()
		if err := verifier.Verify(statement, proof); err != nil {
			b.Fatal(err)
		}
		opening += opened.Sub(start)
		verifying += time.Since(opened)
	}
	b.ReportMetric(float64(opening.Microseconds())/1000/float64(b.N), "ms/open")
	b.ReportMetric(float64(opening)/float64(verifying), "x-verify")
}
