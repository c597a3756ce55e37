package duty

import (
	"math/bits"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	four := Roster{Set: []byte{0, 1, 2, 3}, Out: []byte{1}}
	for name, c := range map[string]struct {
		from           Roster
		gave, withheld []byte
		want           string
	}{
		"all":                              {Roster{Set: []byte{0, 1, 2, 3}}, []byte{0, 1, 2, 3}, nil, ""},
		"one withholds":                    {Roster{Set: []byte{0, 1, 2, 3}}, []byte{0, 2, 3}, []byte{1}, ""},
		"who is out stays out":             {four, []byte{0, 2, 3}, []byte{1}, ""},
		"who is out is back":               {four, []byte{0, 1, 2, 3}, nil, "validator 1 gave a proof, should be out until the next day"},
		"back for another with a quorum":   {Roster{Set: []byte{0, 1, 2, 3, 4}, Out: []byte{1}}, []byte{0, 1, 2, 3}, []byte{4}, "validator 1 gave a proof"},
		"a stranger to the day":            {Roster{Set: []byte{0, 1, 2}}, []byte{0, 1, 2, 3}, nil, "without are [0 1 2 3], should be the day's [0 1 2]"},
		"a stranger withholds":             {Roster{Set: []byte{0, 1, 2}}, []byte{0, 1, 2}, []byte{3}, "should be the day's [0 1 2]"},
		"one is forgotten":                 {four, []byte{0, 2, 3}, nil, "without are [0 2 3], should be the day's [0 1 2 3]"},
		"too few":                          {four, []byte{0, 2}, []byte{1, 3}, "seed has 2 proofs, should have at least 3"},
		"too few of all":                   {Roster{Set: []byte{0, 1, 2, 3}}, []byte{0, 1}, []byte{2, 3}, "seed has 2 proofs"},
		"recovery":                         {four, []byte{0, 1, 2}, []byte{3}, ""},
		"recovery by strangers to the day": {Roster{Set: []byte{0, 1, 2}, Out: []byte{0}}, []byte{1, 3, 4}, []byte{0, 2}, ""},
		"recovery forgets one":             {four, []byte{0, 1, 2}, nil, "without are [0 1 2], should be the day's [0 1 2 3]"},
		"recovery puts a stranger out":     {four, []byte{0, 1, 2}, []byte{3, 4}, "should be the day's [0 1 2 3]"},
		"recovery without a quorum":        {four, []byte{0, 1}, []byte{2, 3}, "seed has 2 proofs"},
	} {
		err := c.from.Check(c.gave, c.withheld, 3)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}

// TestLaw tries everybody out, giving and withholding among five, of whom the day began with four.
func TestLaw(t *testing.T) {
	list := func(mask uint) (l []byte) {
		for i := range byte(5) {
			if mask>>i&1 == 1 {
				l = append(l, i)
			}
		}
		return l
	}
	const set, quorum = uint(0b1111), 3
	taken, recovered := 0, 0
	for out := range uint(16) {
		for gave := range uint(32) {
			for withheld := range uint(32) {
				if gave&withheld != 0 {
					continue
				}
				r := Roster{Set: list(set), Out: list(out)}
				recovery := bits.OnesCount(gave&set&^out) < quorum
				want := bits.OnesCount(gave) >= quorum && withheld == set&^gave && (recovery || gave&out == 0 && gave&^set == 0)
				if err := r.Check(list(gave), list(withheld), quorum); (err == nil) != want || r.Recovers(list(gave), quorum) != recovery {
					t.Fatalf("day of %05b without %05b: %05b gave a proof, %05b withheld: %v", set, out, gave, withheld, err)
				}
				if !want {
					continue
				}
				taken++
				if recovery {
					recovered++
				}
				// What follows is a roster again, of which at least a quorum is in.
				if next := After(list(gave), list(withheld)); len(next.In()) < quorum || string(next.Set) != string(list(gave|withheld)) {
					t.Fatalf("after it the day has %+v", next)
				}
			}
		}
	}
	if taken <= recovered || recovered == 0 {
		t.Errorf("%d are right, %d of them recoveries", taken, recovered)
	}
}
