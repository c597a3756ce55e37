package documents

import (
	"errors"
	"fmt"

	"rawstone/pkg/ledger"
)

// A Refusal says why one of several documents may not follow what is logged, and what helps.
type Refusal struct {
	// Place is the document's in the list, from 0.
	Place int
	Type  ledger.Type
	// Remedy is what its owner can do, an imperative.
	Remedy string
	cause  error
}

// Error names the document by its place, from 1, and its type.
func (r *Refusal) Error() string {
	what := "a " + r.Type.String()
	if r.Type == ledger.TypeOffers {
		what = "offers"
	}
	return fmt.Sprintf("cannot log document %d, %s: %v", r.Place+1, what, r.cause)
}

// Advice is the error with its remedy. It names the document by the name that its owner knows, when there is one.
func (r *Refusal) Advice(name string) string {
	if name == "" {
		return fmt.Sprintf("%v; %s", r, r.Remedy)
	}
	return fmt.Sprintf("cannot log %s: %v; %s", name, r.cause, r.Remedy)
}

func (r *Refusal) Unwrap() error { return r.cause }

// late marks the error of a document that begins too early; first is the day from which it could.
type late struct {
	error
	first uint64
}

func (l late) Unwrap() error { return l.error }

func refuse(place int, t ledger.Type, cause error) *Refusal {
	r := &Refusal{Place: place, Type: t, Remedy: "restore the file that is logged, or correct this one and sign it again", cause: cause}
	var early late
	switch {
	case errors.As(cause, &early) && t == ledger.TypeOffers:
		r.Remedy = fmt.Sprintf("build them again with --from-day %d or later", early.first)
	case errors.As(cause, &early):
		r.Remedy = fmt.Sprintf("build the change again with --from-day %d or later", early.first)
	case t == ledger.TypePolicy:
		r.Remedy = "restore the document that is logged, list policies by rising serials, or give a changed one a higher serial"
	case t == ledger.TypeOffers, t == ledger.TypeWitness:
		r.Remedy = "restore the file that is logged, list the files by rising serials, or build a changed one again with a higher serial"
	}
	return r
}
