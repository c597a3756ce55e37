package proof

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/audit"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// reader applies the entries of a batch to a state, with every check but those of signatures and proofs, which it notes.
type reader struct {
	cfg   *Config
	state *state
	batch *batch // nil when nothing is to be verified
	last  given  // of the claims: those of several kinds follow each other
}

// given is a claim as it was given, and whether its signatures are noted.
type given struct {
	bytes []byte
	claim *wire.Claim
	noted bool
}

func (r *reader) apply(i *Item) error {
	e := i.Entry
	s := r.state
	if e.Number != s.next {
		return fmt.Errorf("its number should be %d", s.next)
	}
	if (s.program == nil) != (e.Type == ledger.TypeProgram) {
		return errors.New("the program document is the first entry and no other")
	}
	if e.Type != ledger.TypeCredit && len(i.Claims) > 0 {
		return fmt.Errorf("it is of type %v and comes with a claim", e.Type)
	}
	if r.gone(e) {
		if len(i.Claims) > 0 {
			return errors.New("what it hides was destroyed, and it comes with a claim")
		}
	} else if err := r.entry(i); err != nil {
		return err
	}
	s.next++
	return nil
}

// gone reports whether what an entry hides is not known because it was destroyed.
func (r *reader) gone(e *ledger.Entry) (is bool) {
	known := true
	switch e.Type {
	case ledger.TypeBinding:
		_, known = r.cfg.Openings.Binding(e.Number)
	case ledger.TypeHandover:
		_, known = r.cfg.Openings.Handover(e.Number)
	case ledger.TypeCredit:
		_, known = r.cfg.Openings.Credit(e.Number)
	}
	return !known && r.cfg.Openings.Erased(e.Number)
}

func (r *reader) entry(i *Item) (err error) {
	e, s := i.Entry, r.state
	switch e.Type {
	case ledger.TypeProgram:
		s.program, s.programID, err = terms.OpenProgram(r.cfg.Root, e.Body)
		if err == nil && r.cfg.Environment == wire.Production && s.program.Environment != wire.Production {
			err = fmt.Errorf("the program is for %s, and environment in the validator's configuration is %s: correct environment, or follow the ledger of another program",
				s.program.Environment, r.cfg.Environment)
		}
		return err
	case ledger.TypePolicy:
		p, err := terms.OpenPolicy(s.program.Policy, s.programID, e.Body)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(s.policies, func(q *terms.Policy) bool { return q.Serial >= p.Serial }) {
			return fmt.Errorf("policy has serial %d, should be above those before it", p.Serial)
		}
		s.policies, s.since = append(s.policies, p), append(s.since, s.day())
	case ledger.TypeBlock:
		s.drop++ // none is left out: the replay sees to that
	case ledger.TypeBinding:
		return r.binding(e)
	case ledger.TypeHandover:
		return r.handover(e)
	case ledger.TypeCredit:
		return r.credit(e, i.Claims)
	}
	return nil
}

func (r *reader) binding(e *ledger.Entry) error {
	b, err := e.Binding()
	if err != nil {
		return err
	}
	op, ok := r.cfg.Openings.Binding(e.Number)
	if !ok {
		return errors.New("binding has no opening")
	}
	if blind, err := op.Blind(); err != nil || blind != b.Blind {
		return errors.Join(errors.New("binding's opening is not that of the entry"), err)
	}
	public, err := op.ECU.Key()
	if err != nil {
		return err
	}
	k := r.state.change(op.ECU.ID())
	k.public = public
	g := segment{from: op.Head.Seq, head: op.Head, signature: op.Signature}
	if n := len(k.segments); n > 0 && k.segments[n-1].head == op.Head {
		g.signature = k.segments[n-1].signature // verified already
	} else if op.Signature == (wire.Signature{}) {
		return fmt.Errorf("binding's head, snapshot %d, comes without its key's signature and is not where the key's last binding ended", op.Head.Seq)
	} else if r.batch != nil {
		head := wire.Snapshot{Seq: op.Head.Seq, Day: op.Head.Day, Commitment: op.Head.Commitment, Signature: op.Signature}
		r.sign("binding's head", e.Number, public, head)
	}
	k.segments = append(k.segments, g)
	return nil
}

func (r *reader) handover(e *ledger.Entry) error {
	h, err := e.Handover()
	if err != nil {
		return err
	}
	op, ok := r.cfg.Openings.Handover(e.Number)
	if !ok {
		return errors.New("hand-over has no opening")
	}
	if blind, err := op.Blind(); err != nil || blind != h.Blind {
		return errors.Join(errors.New("hand-over's opening is not that of the entry"), err)
	}
	if r.state.key(op.ECU) == nil {
		return fmt.Errorf("hand-over's key %s was never bound", op.ECU)
	}
	k := r.state.change(op.ECU)
	last := &k.segments[len(k.segments)-1]
	last.closed, last.cut = true, op.Cut
	k.revoked = k.revoked || op.Revoked
	return nil
}

// ErrNoClaim says that no claim was given for a credit.
var ErrNoClaim = errors.New("no claim stands behind it")

func (r *reader) credit(e *ledger.Entry, claims [][]byte) error {
	c, err := e.Credit()
	if err != nil {
		return err
	}
	op, ok := r.cfg.Openings.Credit(e.Number)
	if !ok {
		return errors.New("credit has no opening")
	}
	if blind, err := op.Blind(); err != nil || blind != c.Blind {
		return errors.Join(errors.New("credit's opening is not that of the entry"), err)
	}
	if len(claims) == 0 || len(claims) > MaxClaims {
		return fmt.Errorf("credit of key %s for snapshot %d and kind %q: %w: %d given, want 1 to %d", op.ECU, op.ToSeq, op.Kind, ErrNoClaim, len(claims), MaxClaims)
	}
	var first error
	for _, b := range claims {
		err := r.earned(e.Number, c, op, b)
		if err == nil {
			return nil
		}
		if first == nil {
			first = fmt.Errorf("credit's claim %s: %w", wire.ID(b), err)
		}
	}
	return first
}

// earned checks all of a claim but signatures and proof, and takes its span in when it is the first over it.
func (r *reader) earned(number uint64, c ledger.Credit, op ledger.CreditOpening, b []byte) error {
	if r.last.claim == nil || !bytes.Equal(r.last.bytes, b) {
		m, err := wire.DecodeClaim(b)
		if err != nil {
			return err
		}
		r.last = given{bytes: b, claim: m}
	}
	m := r.last.claim
	if m.ECU != op.ECU || m.To.Seq != op.ToSeq {
		return fmt.Errorf("it is of key %s and ends at snapshot %d, the credit of key %s at %d", m.ECU, m.To.Seq, op.ECU, op.ToSeq)
	}
	k := r.state.key(m.ECU)
	if k == nil {
		return fmt.Errorf("its key %s was never bound", m.ECU)
	}
	if k.revoked {
		return fmt.Errorf("its key %s is revoked", m.ECU)
	}
	at := k.segment(m.To.Seq)
	s, fresh, err := k.segments[at].covers(m)
	if err != nil {
		return err
	}
	policy, proof, err := r.state.proven(m, op.Kind, c.Effective)
	if err != nil {
		return err
	}
	if km := policy.Credit(int(proof.Tier), s.to.Day-s.from.Day); km != c.Km {
		return fmt.Errorf("it earns %d km by policy %d, tier %d, the credit is %d km", km, policy.Serial, proof.Tier, c.Km)
	}
	if r.batch != nil {
		statement := claim.Statement{From: s.from.Commitment, To: s.to.Commitment, Rows: policy.Statement(int(proof.Tier))}
		if err := r.batch.prove(number, r.state.program, policy, claim.Item{Statement: statement, Proof: proof.Proof}); err != nil {
			return err
		}
		if !r.last.noted {
			r.last.noted = true
			r.claimed(number, m, k, &k.segments[at])
		}
	}
	if fresh {
		to := &r.state.change(m.ECU).segments[at]
		to.head, to.signature, to.spans = s.to, m.To.Signature, append(to.spans, s)
	}
	return nil
}

// covers returns the span of a claim and whether it is a new one of the segment.
func (g *segment) covers(m *wire.Claim) (s span, fresh bool, err error) {
	old, again := g.find(m.To.Seq)
	whole, ok := m.From.Snapshot()
	from := whole.Head()
	if !ok {
		// A sequence number alone stands for the head, or for the begin of the span that the claim repeats.
		switch {
		case again && m.From.Seq == old.from.Seq:
			from = old.from
		case m.From.Seq == g.head.Seq:
			from = g.head
		default:
			return s, false, fmt.Errorf("it begins with snapshot %d and does not carry it, the head is snapshot %d", m.From.Seq, g.head.Seq)
		}
	}
	s = span{from, m.To.Head()}
	switch {
	case again && s == old:
		return s, false, nil
	case again:
		return s, false, fmt.Errorf("it covers another span than the one from snapshot %d to %d that was credited", old.from.Seq, old.to.Seq)
	case g.closed && m.To.Seq > g.cut:
		return s, false, fmt.Errorf("it ends at snapshot %d, should end at or before %d, where its key was cut", m.To.Seq, g.cut)
	case from.Seq > g.head.Seq && !m.Forfeit:
		return s, false, fmt.Errorf("it begins at snapshot %d and forfeits nothing, should begin at the head, %d", from.Seq, g.head.Seq)
	case from.Seq <= g.head.Seq && from != g.head:
		return s, false, fmt.Errorf("it begins at snapshot %d, should begin at the head, %d, as that was signed", from.Seq, g.head.Seq)
	case s.to.Day <= from.Day:
		return s, false, fmt.Errorf("it ends on day %d, should end after day %d, on which it begins", s.to.Day, from.Day)
	}
	return s, true, nil
}

// proven returns the policy under which a claim proves a kind, and the proof, for a credit that takes effect on a day.
func (s *state) proven(m *wire.Claim, kind string, effective uint32) (*terms.Policy, *wire.ClaimProof, error) {
	for i := range m.Proofs {
		p := &m.Proofs[i]
		at := slices.IndexFunc(s.policies, func(q *terms.Policy) bool { return q.Serial == p.Policy })
		if at < 0 || s.policies[at].Kind != kind {
			continue
		}
		policy := s.policies[at]
		if int(p.Tier) >= len(policy.Tiers) {
			return nil, nil, fmt.Errorf("policy %d has no tier %d", p.Policy, p.Tier)
		}
		if !s.inForce(at, m.To.Day, effective) {
			return nil, nil, fmt.Errorf("policy %d is not in force on day %d", p.Policy, m.To.Day)
		}
		return policy, p, nil
	}
	return nil, nil, fmt.Errorf("it proves nothing of kind %q under a policy that was logged before", kind)
}

// inForce says whether a policy was in force on a day for whoever decided about a credit that takes effect on another. A credit may have been
// decided before policies that stand before it in the log, but not earlier than audit.MaxAhead days before it takes effect: a successor or a
// stop that was logged by then counts, and one that was logged since may count.
func (s *state) inForce(at int, day, effective uint32) bool {
	for n := len(s.policies); n > at; n-- {
		if terms.InForce(s.policies[:n], s.policies[at].Kind, day) == s.policies[at] {
			return true
		}
		if uint64(s.since[n-1])+audit.MaxAhead < uint64(effective) {
			return false
		}
	}
	return false
}

// claimed notes the signatures of a claim's snapshots. That of the head, to its last byte, was verified with the claim or binding before.
func (r *reader) claimed(number uint64, m *wire.Claim, k *key, g *segment) {
	r.sign("credit's claim", number, k.public, m.To)
	from, whole := m.From.Snapshot()
	if whole && (from.Signature != g.signature || from.Head() != g.head) {
		r.sign("credit's claim", number, k.public, from)
	}
}

// sign notes a signature; of says what the snapshot belongs to.
func (r *reader) sign(of string, number uint64, public *ecdsa.PublicKey, s wire.Snapshot) {
	r.batch.program = r.state.programID
	r.batch.sign(signature{number, of, public, s})
}
