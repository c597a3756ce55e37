package credit

import (
	"fmt"
	"testing"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// BenchmarkJudge judges 256 good claims of as many vehicles, each with a proof and two signatures, in one batch and one by one. It does
// not write the decisions down: that costs both the same. The claims have 64 statements and 256 proofs between them, re-randomised where
// the statement is the same, so that no two ask the same question.
func BenchmarkJudge(b *testing.B) {
	const vehicles, spans = 256, 64
	r, first := newRig(b), newECU(b)
	birth := first.at(b, 0, 50, 1_000_000)
	var claims []*wire.Claim
	for i := range spans {
		to := first.at(b, 1, 99, 1_020_000+uint32(i))
		claims = append(claims, r.span(first, birth, to))
	}
	var subs []Submission
	for i := range vehicles {
		e, vehicle := newECU(b), fmt.Sprintf("V%d", i)
		from, err := attest.Sign(e.key, testProgram, 0, 50, birth.Commitment)
		to, err2 := attest.Sign(e.key, testProgram, 1, 99, claims[i%spans].To.Commitment)
		if err != nil || err2 != nil {
			b.Fatal(err, err2)
		}
		_, device := newKey(b)
		r.register(vehicle, device)
		r.bind(vehicle, e, from)
		p := claims[i%spans].Proofs[0].Proof
		if i >= spans {
			p = rerandomised(b, p, uint64(i))
		}
		subs = append(subs, Submission{vehicle, r.encode(r.forge(e, from, to, 1, 1, p))})
	}
	judge := func(subs ...Submission) {
		c := &checks{judge: r.judge}
		candidates, err := r.judge.prepare(b.Context(), wire.KindClaim, subs, c)
		if err != nil {
			b.Fatal(err)
		}
		for _, x := range candidates {
			if x.err != nil || x.verdict.reason != "" {
				b.Fatal(x.err, x.verdict.reason)
			}
		}
	}
	for _, v := range r.cfg.Verifiers {
		if errs := v.VerifyBatch([]claim.Item{{}}); errs[0] == nil {
			b.Fatal("the verifier accepts anything")
		}
	}
	var batch, single time.Duration
	for b.Loop() {
		began := time.Now()
		judge(subs...)
		batch += time.Since(began)
		began = time.Now()
		for _, s := range subs {
			judge(s)
		}
		single += time.Since(began)
	}
	b.ReportMetric(single.Seconds()/batch.Seconds(), "x-single")
	b.ReportMetric(float64(b.N*vehicles)/batch.Seconds(), "claims/s")
	b.ReportMetric(float64(b.N*vehicles)/single.Seconds(), "claims/s-single")
}
