package refusal

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/estate"
)

// TestOf: each refusal of the records has a problem of its own, however deep it is wrapped, and a fault of the collector has none.
func TestOf(t *testing.T) {
	seen := make(map[string]bool)
	reasons := []error{
		estate.ErrNoAccount, estate.ErrNoKey, estate.ErrKey, estate.ErrRequest, estate.ErrSeen, estate.ErrOffers, estate.ErrPrice, estate.ErrNoTask, estate.ErrNoBox,
		estate.ErrNoItem, estate.ErrUnproven, estate.ErrCrystals, estate.ErrStones, estate.ErrFull, estate.ErrPool, estate.ErrNotRedeemable, answer.ErrReused,
	}
	for _, reason := range reasons {
		var p *problem.Problem
		if !errors.As(Of(fmt.Errorf("cannot do it: %w: because", reason)), &p) {
			t.Errorf("%v is no problem", reason)
			continue
		}
		seen[p.Kind.Name()] = true
		// What is kept under its key is answered again until there is a new one.
		if reason != estate.ErrNoAccount && !strings.Contains(p.Kind.Remedy(), "a new Idempotency-Key") {
			t.Errorf("%s: the remedy %q leads to the same answer again", p.Kind.Name(), p.Kind.Remedy())
		}
		if p.Detail != "Cannot do it: "+reason.Error()+": because." {
			t.Errorf("%q", p.Detail)
		}
	}
	if len(seen) != len(reasons) {
		t.Errorf("%d problems for %d reasons", len(seen), len(reasons))
	}
	fault := errors.New("disk is gone")
	if Of(fault) != fault || Of(nil) != nil {
		t.Error("a fault of the collector is told")
	}
	limit := fmt.Errorf("%w: 5 of 5", estate.ErrLimit)
	var p *problem.Problem
	if !errors.As(Instead(limit, estate.ErrLimit, problem.TaskLimit()), &p) || p.Kind != problem.TaskLimit() || Instead(fault, estate.ErrLimit, problem.TaskLimit()) != fault {
		t.Error("limits")
	}
}
