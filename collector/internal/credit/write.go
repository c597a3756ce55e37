package credit

import (
	"context"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// write puts the decision and its receipt into the records.
func (j *Judge) write(ctx context.Context, tx *store.Tx, x *candidate, s state, v verdict) (store.Submission, error) {
	sub := x.sub
	r := wire.Receipt{Version: wire.Version, Submission: sub.ID, Vehicle: sub.Vehicle, Accepted: v.reason == "", Reason: v.reason, Head: v.head}
	sub.Accepted, sub.Reason, sub.Day = r.Accepted, v.reason, s.today
	switch {
	case !r.Accepted:
		if err := tx.CountRefusal(ctx, sub.Kind, v.reason); err != nil {
			return sub, err
		}
	case v.again:
		for _, c := range v.credits {
			c.Submission = sub.ID
			if err := tx.AddCredit(ctx, c); err != nil {
				return sub, err
			}
		}
		sub.Km = v.km
		all, err := tx.SpanCredits(ctx, v.span.ECU, v.span.To.Seq)
		if err != nil {
			return sub, err
		}
		sub.Original, r.Original = &v.span.Submission, &v.span.Submission
		r.Credits = receiptCredits(all)
	case sub.Kind == wire.KindClaim:
		v.span.Submission = sub.ID
		for i := range v.credits {
			v.credits[i].Submission = sub.ID
		}
		if err := tx.AddSpan(ctx, v.span, s.binding.Entry, s.binding.Head.Seq, v.credits); err != nil {
			return sub, err
		}
		sub.Km = v.km
		r.Credits = receiptCredits(v.credits)
	default:
		p := v.report
		if err := tx.AddReport(ctx, store.Report{
			Vehicle: sub.Vehicle, Epoch: p.Epoch, Families: p.Families, Vector: p.Vector, Charter: p.Charter, Submission: sub.ID,
			Charge: p.Charge, Device: s.device.ID(),
		}); err != nil {
			return sub, err
		}
	}
	// Bytes are kept where a credit stands on them: anybody on the way can make a proof of a span anew, as often as they like.
	if len(v.credits) > 0 {
		if err := tx.AddClaim(ctx, sub.ID, sub.Vehicle, x.body); err != nil {
			return sub, err
		}
	}
	// A name that no vehicle can have has no topic to answer on, and unregistered ones get no room in the records.
	if wire.CheckVehicle(sub.Vehicle) != nil {
		return sub, nil
	}
	var err error
	if sub.Receipt, err = wire.SealReceipt(j.cfg.Receipt, &r); err != nil || !s.known {
		return sub, err
	}
	if r.Accepted {
		if err := tx.SetSeen(ctx, sub.Vehicle, j.cfg.Clock.Now()); err != nil {
			return sub, err
		}
	}
	if !r.Accepted || v.again && len(v.credits) == 0 {
		// Anybody on the way can make any number of them; each is answered, by the same rules when it comes again.
		kept, err := tx.Unearned(ctx, sub.Vehicle, sub.Day)
		if err != nil || kept >= j.cfg.KeptPerDay {
			return sub, err
		}
	}
	return sub, tx.AddSubmission(ctx, &sub)
}

func receiptCredits(cs []store.Credit) (out []wire.Credit) {
	for _, c := range cs {
		out = append(out, wire.Credit{Policy: c.Policy, Km: c.Km, Effective: c.Effective})
	}
	return out
}
