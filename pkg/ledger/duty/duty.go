// Package duty is the rule of who may give the proofs of a seed: the validators that the day began with, less those that are out for the
// rest of it, and how a day goes on that has lost too many of them.
//
// A validator that withholds its proof is out until the next day, so that withholding is one more throw of the dice and no second one.
// Taken by itself that would stop a log for good: when fewer than a quorum are left of a day, its drops cannot be drawn, and without them
// there is no next day. Then, and only then, the proofs may come from any validator in force, also from those that are out or were not
// there when the day began: a recovery. It is a throw of the dice too, which is why an honest validator takes part in one only once its own
// clock is past the end of the log's day; that is no business of this package, which reads no clock and checks no proof.
package duty

import (
	"fmt"
	"slices"
)

// A Roster is the validators of a day, by ascending indices, and those of them that are out.
type Roster struct{ Set, Out []byte }

// After is the roster of the rest of the day once a seed was made: those who gave a proof and those who withheld it.
func After(gave, withheld []byte) Roster {
	set := slices.Concat(gave, withheld)
	slices.Sort(set)
	return Roster{Set: set, Out: withheld}
}

// In returns those that are not out.
func (r Roster) In() (in []byte) {
	for _, v := range r.Set {
		if !slices.Contains(r.Out, v) {
			in = append(in, v)
		}
	}
	return in
}

// Recovers reports whether a seed of these validators' proofs is a recovery: fewer than a quorum of them are in.
func (r Roster) Recovers(gave []byte, quorum int) bool {
	in := r.In()
	for _, v := range gave {
		if slices.Contains(in, v) {
			quorum--
		}
	}
	return quorum > 0
}

// Check checks who gave a proof for the next seed and who withheld it. Both ascend and have nobody in common.
//
// Together they are the day's validators, nobody who is out gave one, and a quorum did. In a recovery others of those in force may have
// given one too; that they are in force is the caller's to check.
func (r Roster) Check(gave, withheld []byte, quorum int) error {
	recovery := r.Recovers(gave, quorum)
	want := r.Set
	if recovery {
		want = After(gave, slices.DeleteFunc(slices.Clone(r.Set), func(v byte) bool { return slices.Contains(gave, v) })).Set
	}
	if set := After(gave, withheld).Set; !slices.Equal(set, want) {
		return fmt.Errorf("validators with a proof and without are %v, should be the day's %v", set, want)
	}
	for _, out := range r.Out {
		if !recovery && !slices.Contains(withheld, out) {
			return fmt.Errorf("validator %d gave a proof, should be out until the next day", out)
		}
	}
	if len(gave) < quorum {
		return fmt.Errorf("seed has %d proofs, should have at least %d", len(gave), quorum)
	}
	return nil
}
