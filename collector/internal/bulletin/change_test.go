package bulletin

import (
	"crypto/ecdsa"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/ledger"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// newChangeRig is a rig whose program is whole and has one drop a day, the first on day 0, and its root.
func newChangeRig(t *testing.T) (*rig, *ecdsa.PrivateKey) {
	t.Helper()
	r := newRig(t)
	root, public := key(t)
	_, receipt := key(t)
	r.root, r.today = public[0], 0
	r.program.Version, r.program.Name, r.program.Environment = wire.Version, "test", wire.Development
	r.program.Timing, r.program.Receipt, r.program.LogKey = terms.Timing{DayS: 20, DropS: 20}, receipt, "log"
	return r, root
}

// addChange logs a change to a new validator, which it returns.
func (r *rig) addChange(t *testing.T, root *ecdsa.PrivateKey, serial uint16, from uint32) *ledger.ValidatorKey {
	t.Helper()
	k, err := ledger.GenerateValidatorKey("operator.example")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ledger.SealWitness(root, &ledger.Witness{Version: wire.Version, Program: r.id, Serial: serial, FromDay: from, Validators: []terms.Validator{k.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	r.log1(t, ledger.TypeWitness, b)
	return k
}

// next logs the block of the next day.
func (r *rig) next(t *testing.T) {
	t.Helper()
	r.today = uint32(r.drop)
	r.draw(t)
}

// TestChangesGoOut: a change of validators is published with its block, and what those who were replaced cosign is not.
func TestChangesGoOut(t *testing.T) {
	r, root := newChangeRig(t)
	b := r.bulletin(t)
	r.addCharter(t, 1)
	r.addPolicy(t, 1, r.policy)
	r.next(t)
	r.step(t, b, "no change yet", 1)
	second := r.addChange(t, root, 1, 3)
	r.step(t, b, "a change without a block")
	r.next(t)
	r.step(t, b, "a change with its block", 1)
	changes := func(want ...uint16) {
		t.Helper()
		n, err := notice.Decode(r.got[len(r.got)-1])
		if err != nil {
			t.Fatal(err)
		}
		o, err := n.Open(r.root, r.program, r.id)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint16
		for _, c := range o.Changes {
			got = append(got, c.Serial)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("changes (-want +got):\n%s", d)
		}
	}
	changes(1)
	third := r.addChange(t, root, 2, 4)
	r.next(t)
	r.step(t, b, "day 2", 1)
	changes(1, 2)
	for _, k := range []*ledger.ValidatorKey{second, third} {
		r.next(t) // by those who are not in force any more
		if published, err := b.Step(t.Context()); published || err == nil || !strings.Contains(err.Error(), "does not match") {
			t.Errorf("a block of replaced validators: published %t, %v", published, err)
		}
		r.operator = k
		r.drop--
		r.next(t)
		r.step(t, b, "the first day of a change", 1)
		changes(1, 2)
	}
}

// TestFullNotice: a change in force stays, and what does not fit beside it is said to the operator, who logs a successor.
func TestFullNotice(t *testing.T) {
	r, root := newChangeRig(t)
	b := r.bulletin(t)
	r.operator = r.addChange(t, root, 1, 1)
	r.drop = 1
	serial := uint16(0)
	for range 150 {
		serial++
		r.addPolicy(t, serial, r.policy)
	}
	r.next(t)
	if _, err := b.Step(t.Context()); err == nil || !strings.Contains(err.Error(), "document 0 is still in force") || !strings.Contains(err.Error(), "change of validators with a higher serial") {
		t.Errorf("%v", err)
	}
	if testutil.ToFloat64(b.failures) != 1 || r.tries != 0 {
		t.Error("not counted, or published")
	}
	next := r.addChange(t, root, 2, 3)
	r.next(t)
	if _, err := b.Step(t.Context()); err == nil {
		t.Error("published although the successor has not begun")
	}
	r.operator = next
	r.next(t)
	if published, err := b.Step(t.Context()); !published || err != nil {
		t.Errorf("with a successor: %v", err)
	}
}

// TestWithoutRoot: nothing goes out that this process cannot check.
func TestWithoutRoot(t *testing.T) {
	r, root := newChangeRig(t)
	r.root = wire.PublicKey{}
	b := r.bulletin(t)
	r.addPolicy(t, 1, r.policy)
	r.next(t)
	r.step(t, b, "no change", 1)
	r.addChange(t, root, 1, 5)
	r.next(t)
	if published, err := b.Step(t.Context()); published || err == nil || !strings.Contains(err.Error(), "nor is it a change of validators") {
		t.Errorf("published %t, %v", published, err)
	}
}
