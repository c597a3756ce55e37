package credit

import (
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// drawn puts the block of a drop into the records, as far as the judge looks at it.
func (r *rig) drawn(drop uint64) {
	r.t.Helper()
	payload, err := ledger.EncodePayload(&ledger.Block{Drop: drop, Proofs: []ledger.Proof{{}}})
	if err != nil {
		r.t.Fatal(err)
	}
	body, err := (&ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{{}}}).Encode()
	if err != nil {
		r.t.Fatal(err)
	}
	err = r.db.Update(r.t.Context(), func(tx *store.Tx) error {
		id, err := tx.AddEntry(r.t.Context(), ledger.TypeBlock, body)
		if err != nil {
			return err
		}
		return tx.NumberEntry(r.t.Context(), id)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestEffectiveDay keeps the day from which a credit counts within what the ledger's rules accept, however the host's clock is set.
func TestEffectiveDay(t *testing.T) {
	const drops = 144 // a day
	for _, c := range []struct {
		name      string
		blocks    int // all drops before this one are drawn
		today     uint32
		effective uint32
	}{
		{"no block yet", 0, today, today + 1},
		{"same day", 1, today, today + 1},
		{"last drop of the day", drops, today, today + 1},
		{"next day, log still behind", drops - 1, today + 1, today + 2},
		{"log far behind", 1, today + 10, today + 2},
		{"log behind, no block", 0, today + 10, today + 2},
		{"clock set back", 10*drops + 1, today, today + 11},
		{"clock set back, end of a day", 10*drops - 1, today, today + 10},
		{"clock set forward", 2*drops + 1, today + 1000, today + 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, e := newRig(t), newECU(t)
			birth, _ := r.add("V1", e)
			if c.blocks > 0 {
				r.drawn(uint64(c.blocks - 1))
			}
			r.day = c.today
			got := r.send("V1", r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
			r.accepted(got, 10)
			logged := r.cfg.Clock.Day(r.cfg.Clock.DropTime(uint64(c.blocks)))
			if eff := got.Credits[0].Effective; eff != c.effective || eff < logged || eff > logged+audit.MaxAhead {
				t.Errorf("effective on day %d with the log on day %d, want %d", eff, logged, c.effective)
			}
		})
	}
}

// TestEffectiveDayFollowsTheLog: a judge that has seen a block goes by the next one as soon as that is there.
func TestEffectiveDayFollowsTheLog(t *testing.T) {
	r, e := newRig(t), newECU(t)
	from, _ := r.add("V1", e)
	r.day = today + 1000
	for i := range uint32(3) {
		r.drawn(uint64(i) * 144) // a day's drops
		to := e.at(t, uint64(i)+1, 90+i, 1_020_000*(i+1))
		got := r.send("V1", r.span(e, from, to))
		if eff := got.Credits[0].Effective; eff != today+2+i {
			t.Errorf("after block %d effective on day %d, want %d", i, eff, today+2+i)
		}
		from = to
	}
}

// TestEffectiveDayOfOneDrop has one drop a day: while its block waits for cosignatures, a credit waits behind it.
func TestEffectiveDayOfOneDrop(t *testing.T) {
	r, e := newRig(t), newECU(t)
	r.cfg.Clock.DropS = r.cfg.Clock.DayS
	r.restart()
	birth, _ := r.add("V1", e)
	r.drawn(0)
	got := r.send("V1", r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	r.accepted(got, 10)
	if eff := got.Credits[0].Effective; eff != today+2 {
		t.Errorf("effective on day %d, want %d, where the log may be", eff, today+2)
	}
}

// TestSuccessor replaces a policy by one with a higher serial for its days.
func TestSuccessor(t *testing.T) {
	r, e := newRig(t), newECU(t)
	successor := *r.cfg.Policies[0]
	successor.Serial, successor.FromDay, successor.CapKm = 5, 97, 5
	r.cfg.Policies = append(r.cfg.Policies, &successor)
	r.restart()
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 96, 1_020_000), e.at(t, 2, 97, 1_040_000)
	r.refused(r.send("V1", r.span(e, birth, a, proof{5, 1})), wire.ReasonPolicy, 0)
	r.accepted(r.send("V1", r.span(e, birth, a, proof{1, 1})), 10)
	r.refused(r.send("V1", r.span(e, a, b, proof{1, 1})), wire.ReasonPolicy, 10)
	r.refused(r.send("V1", r.span(e, a, b, proof{1, 1}, proof{5, 1})), wire.ReasonPolicy, 10)
	r.accepted(r.send("V1", r.span(e, a, b, proof{5, 1})), 5)
}

// TestStopSwitch stops mileage by a successor with a higher serial: the policy that it succeeds is not in force either.
func TestStopSwitch(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 96, 1_020_000), e.at(t, 2, 97, 1_040_000)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	stop := *r.cfg.Policies[0]
	stop.Serial, stop.Stop = 5, true
	r.cfg.Policies = append(r.cfg.Policies, &stop)
	r.restart()
	for _, p := range []proof{{1, 1}, {5, 1}} {
		r.refused(r.send("V1", r.span(e, a, b, p)), wire.ReasonPolicy, 10)
	}
	// What was credited stays so, and nothing else stops.
	again := r.send("V1", r.span(e, birth, a, proof{1, 0}))
	r.accepted(again, 10)
	if again.Original == nil {
		t.Error("a span proven again is credited anew")
	}
	r.accepted(r.send("V1", r.span(e, a, b, proof{2, 0})), 0)
	if p := terms.InForce(r.cfg.Policies, terms.KindMileage, 97); p != nil {
		t.Errorf("policy %d is in force", p.Serial)
	}
}
