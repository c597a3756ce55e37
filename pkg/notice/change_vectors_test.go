package notice

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// changeVectors is testdata/changes.json; the README beside it says what the fields are.
type changeVectors struct {
	Comment   string              `json:"comment"`
	Root      vectortest.Octets   `json:"root_key"`
	Program   vectortest.Octets   `json:"program"`
	Documents []vectortest.Octets `json:"documents"`
	Notices   []changeVector      `json:"notices"`
	Refused   []refusedVector     `json:"refused"`
	// After are refused by who has accepted Before.
	After []afterVector `json:"refused_after"`
	// Refuted are accepted and give way to the other notice, although they say to be newer.
	Refuted []afterVector `json:"refuted"`
}

type changeVector struct {
	Name     string            `json:"name"`
	Set      int               `json:"set"`
	LeftOut  int               `json:"left_out"`
	Before   vectortest.Octets `json:"before"`
	Bytes    vectortest.Octets `json:"bytes"`
	Drop     uint64            `json:"drop"`
	Day      uint32            `json:"day"`
	Policies []uint16          `json:"policies"`
	Changes  []uint16          `json:"changes"`
}

type afterVector struct {
	Why    string            `json:"why"`
	Before vectortest.Octets `json:"accepted"`
	Bytes  vectortest.Octets `json:"bytes"`
}

func makeChangeVectors(t *testing.T) changeVectors {
	t.Helper()
	w := newWorld(t)
	log := w.changes()
	v := changeVectors{
		Comment: "Notices of version 1 over changes of validators (pkg/notice/notice.cddl): inputs and their exact bytes. See README.md.",
		Root:    w.root[:], Program: w.signed,
	}
	for _, d := range log {
		v.Documents = append(v.Documents, d)
	}
	for _, in := range []struct {
		name              string
		day               uint32
		left              int
		policies, changes []uint16
	}{
		{"the last drop under the program's own validators", 1, 1, []uint16{1, 2}, []uint16{1, 2, 4}},
		{"the day of the first change", 2, 0, []uint16{1, 2}, []uint16{1, 2, 4}},
		{"the first change not yet left out", 4, 2, []uint16{2}, []uint16{1, 2, 4}},
		{"the first change left out", 5, 3, []uint16{2}, []uint16{2, 4}},
		{"all but the last change left out", 9, 5, nil, []uint16{4}},
	} {
		n := w.on(in.day, set(inForce(in.day)), in.left, log...)
		v.Notices = append(v.Notices, changeVector{
			Name: in.name, Set: inForce(in.day), LeftOut: in.left, Before: n.Before[:], Bytes: must(n.Encode()),
			Drop: uint64(in.day)*perDay + perDay - 1, Day: day0 + in.day, Policies: in.policies, Changes: in.changes,
		})
	}
	refused := func(why string, n *Notice) { v.Refused = append(v.Refused, refusedVector{why, must(n.Encode())}) }
	refused("replaced validators on the first day of a change", w.on(2, set(0), 0, log...))
	refused("validators before their first day", w.on(1, set(1), 0, log...))
	refused("the change in force left out", w.on(6, set(2), 5, log...))
	backdated := w.dated(1, log...)
	backdated.Drop++
	refused("a drop after the change, said to be of the day before it", w.over(backdated, set(0), 0, log...))
	backdated.Drop = math.MaxUint64
	refused("a drop beyond all days", w.over(backdated, set(0), 0, log...))
	for _, c := range []struct {
		why  string
		last []byte
	}{
		{"a change under the policy key", w.changeBy(vectortest.Key(t, "policy"), w.id, 5, 20, set(0))},
		{"a change of another program", w.changeBy(vectortest.Key(t, "root"), wire.Hash{1}, 5, 20, set(0))},
		{"a change under the serial of the last one", w.change(4, 20, set(0))},
		{"a change from the day of the last one on", w.change(5, 9, set(0))},
		{"a change to fewer validators than the quorum", w.change(5, 20, set(0)[:1])},
	} {
		refused(c.why, w.on(6, set(2), 0, append(slices.Clone(log), c.last)...))
	}
	heard := must(w.on(1, set(0), 0, log[:3]...).Encode())
	another := slices.Clone(log)
	another[2] = w.change(1, 2, set(3))
	for _, c := range []struct {
		why string
		n   *Notice
	}{
		{"a change that was heard of is not there", w.on(3, set(0), 0, log[:2]...)},
		{"a change that was heard of is left out and none has begun since", w.on(4, set(0), 3, log[:5]...)},
		{"another change under a serial that was heard of", w.on(6, set(2), 0, another...)},
	} {
		v.After = append(v.After, afterVector{c.why, heard, must(c.n.Encode())})
	}
	v.Refuted = []afterVector{{
		"replaced validators, of whose replacement the receiver had not heard, far ahead of time",
		must(w.on(1000, set(0), 0, log[:2]...).Encode()), must(w.on(2, set(1), 0, log...).Encode()),
	}}
	return v
}

// TestChangeVectors holds the stored vectors to what this package makes of their inputs, and opens the stored bytes.
func TestChangeVectors(t *testing.T) {
	path := filepath.Join("testdata", "changes.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeChangeVectors(t))
	}
	var want changeVectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, makeChangeVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	root := wire.PublicKey(want.Root)
	program, id, err := terms.OpenProgram(root, want.Program)
	if err != nil {
		t.Fatal(err)
	}
	open := func(b []byte) (*Notice, *Opened, error) {
		n, err := Decode(b)
		if err != nil {
			return nil, nil, err
		}
		o, err := n.Open(root, program, id)
		return n, o, err
	}
	for _, v := range want.Notices {
		n, o, err := open(v.Bytes)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if !bytes.Equal(n.Before[:], v.Before) || len(n.Documents) != len(want.Documents)-v.LeftOut {
			t.Errorf("%s: %d documents after %s", v.Name, len(n.Documents), n.Before)
		}
		if d := cmp.Diff(v.Policies, serials(o.Policies)) + cmp.Diff(v.Changes, changeSerials(o.Changes)); d != "" || o.Drop != v.Drop || o.Day != v.Day {
			t.Errorf("%s: drop %d, day %d, policies and changes (-want +got):\n%s", v.Name, o.Drop, o.Day, d)
		}
	}
	for _, v := range want.Refused {
		if _, _, err := open(v.Bytes); err == nil {
			t.Errorf("%s: accepted", v.Why)
		}
	}
	both := func(v afterVector) (first, second *Opened) {
		t.Helper()
		var errs [2]error
		_, first, errs[0] = open(v.Before)
		_, second, errs[1] = open(v.Bytes)
		if errs[0] != nil || errs[1] != nil {
			t.Fatalf("%s: %v", v.Why, errs)
		}
		return first, second
	}
	for _, v := range want.After {
		if first, second := both(v); second.After(first) == nil {
			t.Errorf("%s: accepted", v.Why)
		}
	}
	for _, v := range want.Refuted {
		if first, second := both(v); first.Drop <= second.Drop || !second.Refutes(first, program.Timing) {
			t.Errorf("%s: stands", v.Why)
		}
	}
}
