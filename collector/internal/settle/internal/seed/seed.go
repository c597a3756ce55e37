// Package seed gathers the proofs of a seed: of the day's validators, and of all others when too few of these are left and the day is over
// (package duty).
//
// It asks nobody itself, believes every proof that it is given and reads no clock: all three are the caller's.
package seed

import (
	"errors"
	"slices"

	"rawstone/pkg/ledger"
)

// A Query says whom to ask.
type Query struct {
	// In are the day's validators that are not out, Out those that are, and Validators is the number of those in force.
	In, Out    []byte
	Validators int
	// Quorum is how many are asked for at least.
	Quorum int
	// Over says that the log's day is over.
	Over bool
	// Ask asks those of a list at once. Answers and reasons are by validator; who has no answer has a reason.
	Ask func(list []byte) ([]ledger.Proof, []error)
}

// An Answer is what they gave. With fewer proofs than the quorum there is no seed.
type Answer struct {
	// Proofs ascend, and so do Withheld, the day's validators that gave none.
	Proofs   []ledger.Proof
	Withheld []byte
	// Missed are the reasons of those that were in and gave none.
	Missed map[byte]error
	// Back are those that had no part in the day any more and gave a proof.
	Back []byte
	// Err holds the reasons of all that gave none.
	Err error
}

// Gather asks.
func Gather(q Query) Answer {
	a := Answer{Missed: make(map[byte]error)}
	a.Withheld = slices.Clone(q.Out)
	proofs, reasons := q.Ask(q.In)
	for _, v := range q.In {
		if reasons[v] == nil {
			a.Proofs = append(a.Proofs, proofs[v])
			continue
		}
		a.Missed[v], a.Err = reasons[v], errors.Join(a.Err, reasons[v])
		a.Withheld = append(a.Withheld, v)
	}
	if others := q.others(); len(a.Proofs) < q.Quorum && q.Over && len(others) > 0 {
		proofs, reasons = q.Ask(others)
		for _, v := range others {
			if reasons[v] != nil {
				a.Err = errors.Join(a.Err, reasons[v])
				continue
			}
			a.Proofs, a.Back = append(a.Proofs, proofs[v]), append(a.Back, v)
		}
		a.Withheld = slices.DeleteFunc(a.Withheld, func(v byte) bool { return slices.Contains(a.Back, v) })
	}
	slices.SortFunc(a.Proofs, func(x, y ledger.Proof) int { return int(x.Validator) - int(y.Validator) })
	slices.Sort(a.Withheld)
	return a
}

// others are those in force that are not in.
func (q Query) others() (list []byte) {
	for v := range q.Validators {
		if !slices.Contains(q.In, byte(v)) {
			list = append(list, byte(v))
		}
	}
	return list
}
