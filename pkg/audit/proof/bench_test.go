package proof

import (
	"crypto"
	"runtime"
	"syscall"
	"testing"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// BenchmarkCheck checks the claims behind the credits of 16 keys with 64 spans each, on one core. It reports credits a second and
// ratios of processor times of works that take turns in one run. x-batch is VerifyBatch alone on the same proofs over the whole check,
// x-verification the same with the one signature that each claim brings, that of its end; x-audit is like x-verification, over check and
// replay together, as an audit with archived claims does them.
func BenchmarkCheck(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const ecus, spans = 16, 64
	w := newWorld(b)
	charter, err := terms.SealCharter([]crypto.Signer{w.board}, &terms.Charter{Version: wire.Version, Program: w.program, Serial: 1, Kinds: []string{terms.KindMileage},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	w.must(err)
	w.add(ledger.TypeCharter, charter)
	w.terms(1, terms.KindMileage, 0)
	w.openings.AddAccount("a", [32]byte{1})
	e := w.ecu()
	s := make([]wire.Snapshot, spans+1)
	for i := range s {
		s[i] = e.at(uint64(i), uint32(10+i), uint32(30*i))
	}
	claims := make([]*wire.Claim, spans)
	for i := range claims {
		claims[i] = e.claim(s[i], s[i+1], asked{1, 1, terms.KindMileage})
	}
	k, err := keys()
	w.must(err)
	program, id, err := terms.OpenProgram(w.rootPub, w.items[0].Entry.Body)
	w.must(err)
	policy, err := terms.OpenPolicy(program.Policy, id, w.items[2].Entry.Body)
	w.must(err)
	verifier, err := k.open(program, policy)
	w.must(err)
	var items []claim.Item
	var signed []signature
	for range ecus {
		// Another key signs the same commitments, so that the proofs hold for its spans too.
		key, pub := newKey(b)
		again := make([]wire.Snapshot, len(s))
		for i := range s {
			again[i], err = attest.Sign(key, id, s[i].Seq, s[i].Day, s[i].Commitment)
			w.must(err)
		}
		w.bind(pub, again[0])
		for i, c := range claims {
			c := *c
			c.ECU, c.From, c.To = pub.ID(), wire.NewOrigin(again[i]), again[i+1]
			w.creditOn(4, &c, terms.KindMileage, 20, w.bytes(&c))
			statement := claim.Statement{From: s[i].Commitment, To: s[i+1].Commitment, Rows: policy.Statement(1)}
			public, err := pub.Key()
			w.must(err)
			signed = append(signed, signature{0, "", public, c.To})
			items = append(items, claim.Item{Statement: statement, Proof: c.Proofs[0].Proof})
		}
	}
	var check, replayed, alone, signatures time.Duration
	for b.Loop() {
		c := w.checker()
		start := processorTime(b)
		w.must(c.Check(b.Context(), w.items))
		check += processorTime(b) - start
		start = processorTime(b)
		r, err := audit.NewReplay(w.rootPub, w.openings)
		w.must(err)
		for _, i := range w.items {
			w.must(r.Apply(i.Entry))
		}
		replayed += processorTime(b) - start
		start = processorTime(b)
		for from := 0; from < len(items); from += maxProofs {
			for _, err := range verifier.VerifyBatch(items[from:min(from+maxProofs, len(items))]) {
				w.must(err)
			}
		}
		alone += processorTime(b) - start
		start = processorTime(b)
		for _, s := range signed {
			w.must(attest.Verify(s.key, id, s.snapshot))
		}
		signatures += processorTime(b) - start
	}
	b.ReportMetric(float64(len(items)*b.N)/check.Seconds(), "credits/s")
	b.ReportMetric((alone+signatures).Seconds()/check.Seconds(), "x-verification")
	b.ReportMetric((alone+signatures).Seconds()/(check+replayed).Seconds(), "x-audit")
	b.ReportMetric(alone.Seconds()/check.Seconds(), "x-batch")
}

func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
