package cut

import (
	"errors"
	"slices"

	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Prover makes proofs under one circuit and key.
type Prover interface {
	Prove(s claim.Statement, from, to wire.Opening) (wire.Proof, error)
}

// Keys is what this car proves with. Both fields are required.
type Keys struct {
	// Prover returns what makes proofs under a policy, false while its keys are not on this car.
	Prover func(*terms.Policy) (Prover, bool)
	// Await says whether the next claim waits for the keys of policies, at least one, or is made without them.
	Await func(lacking []*terms.Policy) (bool, error)
}

// Choose does what Next does, and returns with the span what proves each of its picks. Waits says that there is a claim to be made
// once a key is here. last says that no snapshot will follow those of list: what no dispatch ends any more is claimed by Rest. list is
// left as it is.
func (r Rules) Choose(k Keys, plan dispatch.Plan, head *wire.Head, list []attest.Message, today uint32, last bool) (sp Span, provers []Prover, waits bool, err error) {
	for {
		sp, ok := r.Next(plan, head, slices.Clone(list), today)
		if !ok && last {
			sp, ok = r.Rest(head, slices.Clone(list), today)
		}
		if !ok {
			return Span{}, nil, false, nil
		}
		sp.Kinds = r.kinds()
		provers, lacking := k.of(sp)
		if len(lacking) == 0 {
			return sp, provers, false, nil
		}
		if waits, err := k.Await(lacking); waits || err != nil {
			return Span{}, nil, waits, err
		}
		r = r.without(lacking)
	}
}

// of returns what proves each pick of a span, and the policies for which there is nothing yet.
func (k Keys) of(sp Span) (list []Prover, lacking []*terms.Policy) {
	for _, p := range sp.Picks {
		prover, ok := k.Prover(p.Policy)
		if !ok {
			lacking = append(lacking, p.Policy)
		}
		list = append(list, prover)
	}
	return list, lacking
}

// without returns rules under which nothing is proven for some policies. They stay in force: no older one takes their place.
func (r Rules) without(policies []*terms.Policy) Rules {
	provable := r.Provable
	r.Provable = func(p *terms.Policy) error {
		if slices.Contains(policies, p) {
			return errors.New("it is left out")
		}
		if provable == nil {
			return nil
		}
		return provable(p)
	}
	return r
}

// Prove makes the claim of a span under the ECU's key, with a prover for each pick.
func (sp Span) Prove(ecu wire.KeyID, provers []Prover) ([]byte, error) {
	c := wire.Claim{Version: wire.Version, ECU: ecu, From: wire.NewOrigin(sp.From.Snapshot), To: sp.To.Snapshot, Forfeit: sp.Forfeit}
	for i, p := range sp.Picks {
		proof, err := provers[i].Prove(sp.Statement(p), sp.From.Opening, sp.To.Opening)
		if err != nil {
			return nil, err
		}
		c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: p.Policy.Serial, Tier: uint8(p.Tier), Proof: proof})
	}
	return c.EncodeFor(max(sp.Kinds, len(c.Proofs)))
}

// Withdrawn reports whether a claim tells of a kind that the driver does not let claims tell of any more.
func (r Rules) Withdrawn(body []byte) bool {
	c, err := wire.DecodeClaim(body)
	return err == nil && slices.ContainsFunc(c.Proofs, func(proof wire.ClaimProof) bool {
		return slices.ContainsFunc(r.Policies, func(p *terms.Policy) bool { return p.Serial == proof.Policy && !r.chosen(p) })
	})
}

// Km returns the highest tier of the span's picks in kilometres, 0 where none is of mileage.
func (sp Span) Km() (km uint32) {
	for _, p := range sp.Picks {
		km = max(km, p.Policy.Tiers[p.Tier].Km)
	}
	return km
}

// A Use is what one policy is to this car on one day.
type Use struct {
	Policy *terms.Policy
	// Idle says why no claim that ends on the day is made under it, empty where one is.
	Idle string
	// Unfit says that the reason lies in the policy or in the car, not in the day.
	Unfit bool
}

// Uses tells of each policy whether it is used for claims that end on day, in the order given.
func (r Rules) Uses(day uint32) (list []Use) {
	used := r.inForce(day)
	for _, p := range r.Policies {
		u := Use{Policy: p}
		if err := r.Unusable(p); err != nil {
			u.Idle, u.Unfit = err.Error(), true
		} else if day < p.FromDay {
			u.Idle = "its days have not begun"
		} else if day > p.ToDay {
			u.Idle = "its days are over"
		} else if !r.chosen(p) {
			u.Idle = "the driver has not turned its kind on"
		} else if !slices.Contains(used, p) {
			u.Idle = "a newer policy of its kind is in force, or its kind is stopped"
			if terms.InForce(r.Policies, p.Kind, day) == p {
				u.Idle = "more kinds are in force than a claim holds"
			}
		}
		list = append(list, u)
	}
	return list
}

// UsesWith does what Uses does, and tells of keys that are not on this car yet.
func (r Rules) UsesWith(prover func(*terms.Policy) (Prover, bool), day uint32) (list []Use) {
	for _, u := range r.Uses(day) {
		if _, ok := prover(u.Policy); !ok && u.Idle == "" {
			u.Idle = "its proving key is not on this car yet"
		}
		list = append(list, u)
	}
	return list
}

// Warnings tell once of each policy that is not fit for this car, and again when the reason changes. The zero value has told nothing.
type Warnings struct {
	told map[uint16]string // by serial
}

// Fresh returns the unfit policies among uses whose reason has not been told.
func (w *Warnings) Fresh(uses []Use) (fresh []Use) {
	told := make(map[uint16]string)
	for _, u := range uses {
		if !u.Unfit {
			continue
		}
		if told[u.Policy.Serial] = u.Idle; w.told[u.Policy.Serial] != u.Idle {
			fresh = append(fresh, u)
		}
	}
	w.told = told
	return fresh
}
