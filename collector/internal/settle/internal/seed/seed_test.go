package seed

import (
	"fmt"
	"slices"
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/ledger/duty"
)

// TestGather has some of five validators answer; a day that is over goes on with any three, and otherwise with three of its own only.
func TestGather(t *testing.T) {
	for name, c := range map[string]struct {
		in, out, there []byte
		over           bool
		gave, withheld []byte
		back           string
		asked          int
	}{
		"all":                        {[]byte{0, 1, 2, 3}, nil, []byte{0, 1, 2, 3, 4}, true, []byte{0, 1, 2, 3}, nil, "", 1},
		"one missing":                {[]byte{0, 2, 3, 4}, []byte{1}, []byte{1, 2, 3, 4}, true, []byte{2, 3, 4}, []byte{0, 1}, "", 1},
		"too few, the day goes on":   {[]byte{0, 2, 3}, []byte{1}, []byte{0, 1, 2, 4}, false, []byte{0, 2}, []byte{1, 3}, "", 1},
		"too few, the day is over":   {[]byte{0, 2, 3}, []byte{1}, []byte{0, 1, 2, 4}, true, []byte{0, 1, 2, 4}, []byte{3}, "\x01\x04", 2},
		"a stranger is not there":    {[]byte{0, 2, 3}, []byte{1}, []byte{0, 1, 2}, true, []byte{0, 1, 2}, []byte{3}, "\x01", 2},
		"out and still not there":    {[]byte{0, 2, 3}, []byte{1}, []byte{0, 2, 4}, true, []byte{0, 2, 4}, []byte{1, 3}, "\x04", 2},
		"nobody else":                {[]byte{0, 1, 2, 3, 4}, nil, []byte{2, 3}, true, []byte{2, 3}, []byte{0, 1, 4}, "", 1},
		"too few of all in the end":  {[]byte{0, 1, 2}, nil, []byte{2, 3}, true, []byte{2, 3}, []byte{0, 1}, "\x03", 2},
		"the day began without some": {[]byte{0, 1, 2}, nil, []byte{1, 2, 3, 4}, true, []byte{1, 2, 3, 4}, []byte{0}, "\x03\x04", 2},
	} {
		asked := 0
		a := Gather(Query{In: c.in, Out: c.out, Validators: 5, Quorum: 3, Over: c.over, Ask: func(list []byte) ([]ledger.Proof, []error) {
			asked++
			proofs, reasons := make([]ledger.Proof, 5), make([]error, 5)
			for v := range byte(5) {
				proofs[v].Validator = v
				if !slices.Contains(list, v) || !slices.Contains(c.there, v) {
					proofs[v], reasons[v] = ledger.Proof{}, fmt.Errorf("%d", v)
				}
			}
			return proofs, reasons
		}})
		gave := ledger.Provers(a.Proofs)
		if !slices.Equal(gave, c.gave) || !slices.Equal(a.Withheld, c.withheld) || string(a.Back) != c.back || asked != c.asked {
			t.Errorf("%s: %v gave a proof, %v withheld, %v are back, asked %d times", name, gave, a.Withheld, a.Back, asked)
		}
		for _, v := range c.in {
			if (a.Missed[v] == nil) != slices.Contains(c.there, v) {
				t.Errorf("%s: validator %d is missed because of %v", name, v, a.Missed[v])
			}
		}
		// What was gathered is what the rule takes, whenever there is a quorum.
		r := duty.Roster{Set: duty.After(c.in, c.out).Set, Out: c.out}
		if err := r.Check(gave, a.Withheld, 3); (err == nil) != (len(gave) >= 3) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
