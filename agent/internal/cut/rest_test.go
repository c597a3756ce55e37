package cut

import (
	"slices"
	"testing"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestRest claims what a swapped ECU left, whatever the plan, within the top tier where a snapshot allows it.
func TestRest(t *testing.T) {
	r := rules(1, 4)
	list := snapshots(0, 1, 2, 6, 30)
	head := list[0].Snapshot.Head()
	for _, c := range []struct {
		first, n int
		to       uint64
		tier     int
	}{
		{0, 3, 102, 0},
		{0, 5, 102, 0}, // 6 km are beyond the top
		{2, 2, 103, 1},
		{3, 2, 104, 1}, // one interval, and none shorter
	} {
		part := slices.Clone(list[c.first : c.first+c.n])
		from := part[0].Snapshot.Head()
		sp, ok := r.Rest(&from, part, 200)
		if !ok || sp.Forfeit || sp.From.Snapshot.Head() != from || sp.To.Snapshot.Seq != c.to || sp.Picks[0].Tier != c.tier {
			t.Errorf("%+v: %v, up to %d, %+v", c, ok, sp.To.Snapshot.Seq, sp.Picks)
		}
	}
	for name, n := range map[string]int{"the head alone": 1, "nothing": 0} {
		if _, ok := r.Rest(&head, slices.Clone(list[:n]), 200); ok || !r.Done(&head, list[:n], 200) {
			t.Errorf("%s: claimed %v", name, ok)
		}
	}
	still := snapshots(0, 0, 0)
	first := still[0].Snapshot.Head()
	if _, ok := r.Rest(&first, slices.Clone(still), 200); ok || !r.Done(&first, still, 200) {
		t.Errorf("no kilometre: claimed %v", ok)
	}
	if r.Done(&first, still, 100) {
		t.Error("snapshots that are ahead are given up")
	}
	if r.Policies[0].ToDay = 101; r.Done(&first, still, 200) {
		t.Error("given up without rules for its last day")
	}
}

func TestWithdrawn(t *testing.T) {
	r := rules(1)
	safe := *r.Policies[0]
	safe.Serial, safe.Kind = 2, terms.KindSafe
	r.Policies = append(r.Policies, &safe)
	list := snapshots(0, 3)
	claim := func(serials ...uint16) []byte {
		c := wire.Claim{Version: wire.Version, From: wire.NewOrigin(list[0].Snapshot), To: list[1].Snapshot}
		for _, s := range serials {
			c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: s})
		}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		kinds     []string
		body      []byte
		withdrawn bool
	}{
		{nil, claim(1), false},
		{nil, claim(1, 2), true},
		{[]string{terms.KindSafe}, claim(1, 2), false},
		{nil, claim(1, 3), false}, // nothing is known of 3
		{nil, []byte("no claim"), false},
	} {
		if r.Kinds = c.kinds; r.Withdrawn(c.body) != c.withdrawn {
			t.Errorf("kinds %v, %d bytes: want %v", c.kinds, len(c.body), c.withdrawn)
		}
	}
}
