package archive

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/wire"
)

// TestCutIsTheKeys: where a key's claims are divided is kept with the key, also when its ECU leaves the car, and is not another's.
func TestCutIsTheKeys(t *testing.T) {
	p := newPlace(t)
	p.ecu = wire.KeyID{1}
	p.reopen(t)
	p.put(t, 5, 6, 7, 8)
	cut := &wire.Head{Seq: 7, Day: 7, Commitment: wire.Commitment{1}}
	if err := p.CommitOf(wire.KeyID{1}, func(st *State) { st.Cut = cut }); err != nil {
		t.Fatal(err)
	}
	p.reopen(t)
	if d := cmp.Diff(cut, p.State().Cut); d != "" {
		t.Error(d)
	}
	p.ecu = wire.KeyID{2}
	p.reopen(t)
	all := p.State().Claimants()
	if d := cmp.Diff(cut, all[0].Cut); d != "" || len(all) != 2 || all[1].Cut != nil {
		t.Errorf("%+v: %s", all, d)
	}
	if err := p.CommitOf(wire.KeyID{1}, func(st *State) { st.Head = &wire.Head{Seq: 6} }); err != nil {
		t.Fatal(err)
	}
	later := &wire.Head{Seq: 8}
	if d := cmp.Diff(cut, p.State().Former[0].Cut); d != "" {
		t.Error(d)
	}
	if err := p.CommitOf(wire.KeyID{1}, func(st *State) { st.Cut = later }); err != nil {
		t.Fatal(err)
	}
	p.reopen(t)
	if st := p.State().Claimants()[0]; cmp.Diff(later, st.Cut) != "" || st.Head.Seq != 6 || p.State().Cut != nil {
		t.Errorf("%+v", st)
	}
}
