// Package refusal tells which problem of the accounts' API an error of the records is.
//
// An error that is none of theirs is nobody's business outside the collector, and stays as it is.
package refusal

import (
	"errors"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/estate"
)

// Of returns the *problem.Problem that an error of the records is; an error that is none comes back as it is.
func Of(err error) error {
	for _, r := range []struct {
		reason error
		kind   problem.Kind
	}{
		{estate.ErrNoAccount, problem.AccountUnknown()}, {estate.ErrNoKey, problem.AccountKeyMissing()}, {estate.ErrKey, problem.PossessionUnproven()},
		{estate.ErrRequest, problem.RequestInvalid()}, {estate.ErrSeen, problem.RequestSeen()}, {estate.ErrOffers, problem.OffersDiffer()},
		{estate.ErrPrice, problem.PriceDiffers()}, {estate.ErrNoTask, problem.TaskUnknown()}, {estate.ErrNoBox, problem.BoxUnknown()},
		{estate.ErrNoItem, problem.ItemUnknown()}, {estate.ErrUnproven, problem.FeatureUnproven()}, {estate.ErrCrystals, problem.CrystalsInsufficient()},
		{estate.ErrStones, problem.StonesInsufficient()}, {estate.ErrFull, problem.CrystalsFull()}, {estate.ErrPool, problem.PoolExhausted()},
		{estate.ErrNotRedeemable, problem.NotRedeemable()}, {answer.ErrReused, problem.KeyReused()},
	} {
		if errors.Is(err, r.reason) {
			return problem.New(r.kind, problem.Sentence(err))
		}
	}
	return err
}

// Instead returns the problem of another kind where an error has a reason.
func Instead(err, reason error, kind problem.Kind) error {
	if errors.Is(err, reason) {
		return problem.New(kind, problem.Sentence(err))
	}
	return err
}
