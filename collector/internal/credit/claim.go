package credit

import (
	"context"
	"errors"
	"slices"
	"strings"

	"rawstone/collector/internal/credit/internal/segment"
	"rawstone/collector/internal/store"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// claim returns the candidate of a claim's bytes.
func (j *Judge) claim(vehicle string, body []byte) *candidate {
	c, malformed := wire.DecodeClaim(body)
	x := &candidate{
		read: func(ctx context.Context, tx *store.Tx) (state, error) {
			s, err := j.vehicleState(ctx, tx, vehicle)
			if err != nil || !s.known || malformed != nil {
				return s, err
			}
			if s.earliest, s.latest, err = j.effective(ctx, tx); err != nil {
				return s, err
			}
			all, err := tx.KeyBindings(ctx, c.ECU)
			if err != nil {
				return s, err
			}
			at, cut, ok := segment.Find(segments(all), vehicle, c.From.Seq, c.To.Seq)
			if !ok {
				return s, nil
			}
			s.bound, s.binding, s.cut = true, all[at], cut
			s.span, err = tx.Span(ctx, c.ECU, c.To.Seq)
			if errors.Is(err, store.ErrNotFound) {
				return s, nil
			} else if err != nil {
				return s, err
			}
			s.spanned = true
			old, err := tx.SpanCredits(ctx, c.ECU, c.To.Seq)
			for _, o := range old {
				s.credited += o.Kind + "\n"
			}
			return s, err
		},
		decide: func(s state, checks *checks) verdict {
			switch {
			case !s.known:
				return verdict{reason: wire.ReasonUnknownVehicle}
			case malformed != nil:
				return verdict{reason: wire.ReasonMalformed}
			case !s.bound:
				return verdict{reason: wire.ReasonUnknownKey}
			}
			v := j.decideClaim(vehicle, c, s, checks)
			v.head = &s.binding.Head
			if v.reason == "" && !v.again {
				v.head = &v.span.To
			} else if s.cut != (wire.Head{}) && (v.reason == wire.ReasonStale || v.reason == wire.ReasonRevoked) {
				v.reason, v.head = wire.ReasonGap, &s.cut
			}
			return v
		},
	}
	if malformed == nil {
		x.begin, x.want.ECU, x.want.To = c.From.Seq, c.ECU, c.To.Seq
	}
	return x
}

// segments returns what of bindings says in which of them a claim lies.
func segments(all []store.Binding) (out []segment.Segment) {
	for _, b := range all {
		out = append(out, segment.Segment{Vehicle: b.Vehicle, First: b.First, Head: b.Head.Seq, Closed: b.Closed, Cut: b.Cut})
	}
	return out
}

// decideClaim judges the claim of a key that is or was bound to its vehicle.
func (j *Judge) decideClaim(vehicle string, c *wire.Claim, s state, checks *checks) (v verdict) {
	if s.binding.Revoked || s.binding.Closed && c.To.Seq > s.binding.Cut {
		return verdict{reason: wire.ReasonRevoked}
	}
	if !checks.signed(signed{s.binding.ECU, c.To}) {
		return verdict{reason: wire.ReasonSignature}
	}
	whole, ok := c.From.Snapshot()
	// The head, to the last byte of its signature, was verified with the claim or the binding before. Another signature is verified even so: the
	// claim's bytes are kept for those who check it without these records.
	isHead := whole.Signature == s.binding.HeadSignature && whole.Signature != (wire.Signature{}) && whole.Head() == s.binding.Head
	if ok && !isHead && !checks.signed(signed{s.binding.ECU, whole}) {
		return verdict{reason: wire.ReasonSignature}
	}
	// A sequence number alone stands for the head, or for the begin of the span that this claim repeats.
	from := whole.Head()
	if !ok {
		switch {
		case c.From.Seq == s.binding.Head.Seq:
			from = s.binding.Head
		case s.spanned && c.From.Seq == s.span.From.Seq:
			from = s.span.From
		case c.From.Seq > s.binding.Head.Seq:
			return verdict{reason: wire.ReasonGap}
		default:
			return verdict{reason: wire.ReasonStale}
		}
	}
	v.span = store.Span{ECU: c.ECU, From: from, To: c.To.Head(), Vehicle: vehicle, Signature: c.To.Signature}
	v.again = s.spanned && s.span.Vehicle == vehicle && s.span.From == from && s.span.To == v.span.To
	if v.again {
		v.span.Submission = s.span.Submission
	} else if r := fits(v.span, c.Forfeit, s); r != "" {
		return verdict{reason: r}
	}
	if r := j.prove(c, s, checks, &v); r != "" {
		return verdict{reason: r}
	}
	return v
}

// fits checks a new span against the head and the clock.
func fits(span store.Span, forfeit bool, s state) wire.Reason {
	head := s.binding.Head
	switch {
	case span.From.Seq > head.Seq && !forfeit:
		return wire.ReasonGap
	case span.From.Seq <= head.Seq && span.From != head:
		// Also another snapshot under the head's number: an ECU that signs two of them is not followed.
		return wire.ReasonStale
	case span.To.Day <= span.From.Day:
		// The decoder refuses this when the claim carries its begin; here the begin is the head.
		return wire.ReasonMalformed
	case span.To.Day > s.today && span.To.Day-s.today > 1:
		return wire.ReasonFuture
	}
	return ""
}

// has reports whether the span was credited for a kind.
func (s state) has(kind string) bool { return slices.Contains(strings.Split(s.credited, "\n"), kind) }

// prove checks every proof against the statement that policy and tier make of the span, and sets what the claim earns.
func (j *Judge) prove(c *wire.Claim, s state, checks *checks, v *verdict) wire.Reason {
	for _, p := range c.Proofs {
		policy := j.policies[p.Policy]
		if policy == nil || int(p.Tier) >= len(policy.Tiers) {
			return wire.ReasonPolicy
		}
		// What was credited stays so when its policy is stopped or succeeded: its proof is only checked again.
		if !(v.again && s.has(policy.Kind)) && terms.InForce(j.cfg.Policies, policy.Kind, c.To.Day) != policy {
			return wire.ReasonPolicy
		}
	}
	for _, p := range c.Proofs {
		policy, tier := j.policies[p.Policy], int(p.Tier)
		statement := claim.Statement{From: v.span.From.Commitment, To: v.span.To.Commitment, Rows: policy.Statement(tier)}
		if !checks.proves(proved{policy.VerifyingKey, claim.Item{Statement: statement, Proof: p.Proof}}) {
			return wire.ReasonProof
		}
		if v.again && s.has(policy.Kind) {
			continue
		}
		km := policy.Credit(tier, v.span.To.Day-v.span.From.Day)
		v.km += km
		v.credits = append(v.credits, store.Credit{
			Account: s.binding.Account, Vehicle: v.span.Vehicle, ECU: c.ECU, ToSeq: c.To.Seq,
			Policy: p.Policy, Kind: policy.Kind, Km: km, Effective: min(max(s.today+1, s.earliest), s.latest),
		})
	}
	return ""
}
