package treasury

import (
	"math"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// TestRedemption redeems all that exists, mined and won, and not a milli-stone more; what a box may give does not exist yet. Everything
// else of the package is tested with the replay.
func TestRedemption(t *testing.T) {
	offers := &cultivation.Offers{Serial: 1, Boxes: []cultivation.OfferedBox{{ID: "sure", Title: "Sure", Cost: 1,
		Owners: []cultivation.Odds{{Parts: cultivation.Certain, Prize: cultivation.Prize{Milli: 50}}}, Others: []cultivation.Odds{{Parts: cultivation.Certain}}}}}
	s, cost, err := Treasury{}.Box(4, account.Box{Day: 2, Offers: 1, Box: "sure", Owner: true}, offers, 3)
	if err != nil || cost != 1 {
		t.Fatal(cost, err)
	}
	redeem := func(milli uint64, right bool) {
		t.Helper()
		after, err := s.Redemption(account.Redemption{Day: 3, Milli: milli}, 100, 3)
		if (err == nil) != right || !right && after.Redeemed() != s.Redeemed() {
			t.Errorf("%d milli-stones after %d: %v", milli, s.Redeemed(), err)
		}
		s = after
	}
	redeem(101, false)
	redeem(60, true)
	redeem(41, false)
	redeem(math.MaxUint64, false)
	if s, err = s.Open(wire.Hash{1}); err != nil || s.Pool().Issued() != 0 || s.Pool().Reserved() != 50 || s.Boxes() != 0 || len(s.Opened()) != 0 {
		t.Fatal(s, err)
	}
	redeem(41, false)
	if s, err = s.Open(wire.Hash{1}); err != nil || s.Pool().Issued() != 50 || s.Pool().Reserved() != 0 || s.Boxes() != 1 || len(s.Opened()) != 1 {
		t.Fatal(s, err)
	}
	redeem(91, false)
	redeem(90, true)
	redeem(1, false)
	if s.Redeemed() != 150 {
		t.Errorf("%d are redeemed", s.Redeemed())
	}
}
