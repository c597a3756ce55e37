package verdict

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/wire"
)

// reasons reads all reasons from the source of package wire, so that none is forgotten here when one is added there.
func reasons(t *testing.T) (all []wire.Reason) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../../pkg/wire/receipt.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Reason" {
			for _, x := range v.Values {
				text, err := strconv.Unquote(x.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, wire.Reason(text))
			}
		}
		return true
	})
	return all
}

// TestEveryReasonHasItsAction: a claim that is refused is made anew at the head that the collector names, at once; or it waits, the driver is
// told, and it is made anew later. One for its policy also asks for news, which package seal tests. A reason without an entry here fails.
func TestEveryReasonHasItsAction(t *testing.T) {
	const rebases, waits = true, false
	actions := map[wire.Reason]bool{
		wire.ReasonMalformed:      waits,
		wire.ReasonUnknownVehicle: waits,
		wire.ReasonUnknownKey:     waits,
		wire.ReasonRevoked:        waits,
		wire.ReasonSignature:      waits,
		wire.ReasonProof:          waits,
		wire.ReasonGap:            rebases,
		wire.ReasonStale:          rebases,
		wire.ReasonFuture:         waits,
		wire.ReasonPolicy:         waits,
		wire.ReasonCharter:        waits,
		wire.ReasonEpoch:          waits,
		wire.ReasonBudget:         waits,
	}
	all := reasons(t)
	if len(all) != len(actions) {
		t.Errorf("package wire has %d reasons, and %d have an action", len(all), len(actions))
	}
	for _, r := range all {
		want, ok := actions[r]
		if !ok {
			t.Errorf("%s: no action", r)
		}
		before := wire.Head{Seq: 1}
		st := archive.State{Head: &before}
		Refuse(&st, new(wire.Claim), &wire.Receipt{Reason: r, Head: &wire.Head{Seq: 9}}, now)
		rebased, at := st.Head.Seq == 9, RetryAt(st, now, time.Hour)
		if rebased != want || at.IsZero() != want || (st.Reason == "") != want {
			t.Errorf("%s: rebased %t, again at %v, told %q", r, rebased, at, st.Reason)
		}
		if Remedy(wire.KindClaim, r) == "" || Remedy(wire.KindReport, r) == "" {
			t.Errorf("%s: the driver is told nothing", r)
		}
	}
}
