package credit

import (
	"context"

	"rawstone/collector/internal/credit/internal/check"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// maxPiece bounds the proofs of one call of VerifyBatch: a larger piece is hardly cheaper for each and can be ended less soon.
const maxPiece = 256

// checks answers what decisions ask of signatures and proofs. A batch has one. While it plans, it notes every question that it cannot
// answer and says yes; then all are answered together; from then on it is only read, and a question that the plan did not foresee
// is answered when it is asked. No answer of a plan outlives it.
type checks struct {
	judge     *Judge
	wants     []store.Want // what the batch reads
	planning  bool
	snapshots check.Memory[signed]
	reports   check.Memory[sealed]
	proofs    check.Memory[proved]
}

// The questions hold all that their answers depend on, so that one is never taken for another.
type (
	// signed asks whether the ECU key signed the snapshot.
	signed struct {
		key      wire.PublicKey
		snapshot wire.Snapshot
	}
	// sealed asks whether the vehicle's device key signed the bytes of a report.
	sealed struct {
		device  wire.PublicKey
		vehicle string
		body    string
	}
	// proved asks whether a proof holds under the verifying key of this hash.
	proved struct {
		key  wire.Hash
		item claim.Item
	}
)

func (c *checks) signed(q signed) bool { return c.snapshots.Ask(c.planning, q, c.judge.signed) }
func (c *checks) sealed(q sealed) bool { return c.reports.Ask(c.planning, q, c.judge.sealed) }
func (c *checks) proves(q proved) bool { return c.proofs.Ask(c.planning, q, c.judge.proves) }

func (j *Judge) proves(q proved) bool {
	return j.cfg.Verifiers[q.key].Verify(q.item.Statement, q.item.Proof) == nil
}

func (j *Judge) signed(q signed) bool {
	pub, err := q.key.Key()
	return err == nil && attest.Verify(pub, j.cfg.Program, q.snapshot) == nil
}

func (j *Judge) sealed(q sealed) bool {
	_, err := wire.OpenReport(q.device, q.vehicle, []byte(q.body))
	return err == nil
}

// answer answers all that the candidates ask: signatures first, so that only proofs between signed snapshots enter a batch of proofs.
func (c *checks) answer(ctx context.Context, candidates []*candidate) error {
	c.plan(candidates)
	if err := c.snapshots.Answer(ctx, c.judge.cfg.Workers, c.judge.signed); err != nil {
		return err
	}
	if err := c.reports.Answer(ctx, c.judge.cfg.Workers, c.judge.sealed); err != nil {
		return err
	}
	c.proofs = check.Memory[proved]{}
	c.plan(candidates)
	return c.answerProofs(ctx)
}

// plan has the candidates ask, both as the records are and as they would be with the binding's head where an earlier claim of the batch
// ends, if this one begins there.
func (c *checks) plan(candidates []*candidate) {
	type end struct {
		binding int64
		seq     uint64
	}
	c.planning = true
	heads := make(map[end]wire.Head)
	for _, x := range candidates {
		if x.err != nil || x.before.answered {
			continue
		}
		s := x.before
		v := x.decide(s, c)
		if head, ok := heads[end{s.binding.Entry, x.begin}]; ok {
			s.binding.Head = head
			if then := x.decide(s, c); then.reason == "" {
				v = then
			}
		}
		if v.reason == "" && s.bound {
			heads[end{s.binding.Entry, v.span.To.Seq}] = v.span.To
		}
	}
	c.planning = false
}

// answerProofs verifies the open proofs, in as many pieces as there are workers or more.
func (c *checks) answerProofs(ctx context.Context) error {
	open := c.proofs.Open()
	byKey := make(map[wire.Hash][]int)
	for i, q := range open {
		byKey[q.key] = append(byKey[q.key], i)
	}
	var pieces [][]int // indices of proofs under one key
	for _, all := range byKey {
		size := min((len(all)+c.judge.cfg.Workers-1)/c.judge.cfg.Workers, maxPiece)
		for ; len(all) > 0; all = all[min(size, len(all)):] {
			pieces = append(pieces, all[:min(size, len(all))])
		}
	}
	ok := make([]bool, len(open))
	err := check.Each(ctx, c.judge.cfg.Workers, len(pieces), func(p int) {
		items := make([]claim.Item, len(pieces[p]))
		for i, at := range pieces[p] {
			items[i] = open[at].item
		}
		c.judge.batches.Observe(float64(len(items)))
		for i, err := range c.judge.cfg.Verifiers[open[pieces[p][0]].key].VerifyBatch(items) {
			ok[pieces[p][i]] = err == nil
		}
	})
	if err != nil {
		return err
	}
	c.proofs.Keep(ok)
	return nil
}
