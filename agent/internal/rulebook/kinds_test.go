package rulebook

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestKindsOfTheMoment: rules are under what the driver allows when they are asked for.
func TestKindsOfTheMoment(t *testing.T) {
	w := newWorld(wire.Development)
	b := w.open(t, newBlobs())
	b.cfg.Kinds = nil
	if kinds := b.Rules().Kinds; len(kinds) != 0 {
		t.Errorf("nobody was asked, and %v are allowed", kinds)
	}
	var allowed []string
	b.cfg.Kinds = func() []string { return allowed }
	for _, allowed = range [][]string{nil, {terms.KindSafe}, {"feature/x", terms.KindSafe}, nil} {
		if d := cmp.Diff(allowed, b.Rules().Kinds); d != "" {
			t.Error(d)
		}
	}
}
