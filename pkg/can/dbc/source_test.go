package dbc

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

// TestAnySource: a parameter group is read whoever sends it, and nothing else is.
func TestAnySource(t *testing.T) {
	t.Parallel()
	const ext = can.Extended
	file, warnings := Parse("x.dbc", []byte(`BO_ 2566844926 CCVS: 8 X
 SG_ Speed : 0|8@1+ (1,0) [0|0] "" X
BO_ 2564358910 TSC: 8 X
 SG_ Torque : 0|8@1+ (1,0) [0|0] "" X
BO_ 291 Standard: 8 X
 SG_ S : 0|8@1+ (1,0) [0|0] "" X
`))
	if len(warnings) > 0 {
		t.Fatal(warnings)
	}
	tsc := file.Messages[1].ID
	if tsc != 0x18D902FE|ext {
		t.Fatalf("%s", tsc)
	}
	plan, err := Compile(file, []Want{{Signal: "Speed", Tag: 1, AnySource: true}, {Signal: "Torque", Tag: 2, AnySource: true}, {Signal: "Speed", Tag: 3}})
	if err != nil {
		t.Fatal(err)
	}
	want := []can.Filter{{ID: ext | 0x00D90000, Mask: ext | 0x03FF0000}, {ID: ext | 0x00FEF100, Mask: ext | 0x03FFFF00}, can.Exact(ext | 0x18FEF1FE)}
	if diff := cmp.Diff(want, plan.Filters()); diff != "" {
		t.Error(diff)
	}
	for id, tags := range map[can.ID][]int{
		0x18FEF1FE | ext: {3, 1}, // the file's own
		0x18FEF100 | ext: {1},    // another source
		0x0CFEF121 | ext: {1},    // another priority
		0x18FEF2FE | ext: nil,    // another group
		0x19FEF1FE | ext: nil,    // another data page
		0x1AFEF1FE | ext: nil,    // another extended data page
		0x18D90DFE | ext: {2},
		0x00D9FF01 | ext: {2}, // another destination
		0x18DA0DFE | ext: nil,
		0x0FEF1FE:        nil, // not a valid standard identifier, and not the extended one
		0x7FE:            nil,
	} {
		var got []int
		f := classic(id, 1)
		for _, r := range plan.Decode(f, nil) {
			got = append(got, r.Tag())
		}
		if !slices.Equal(got, tags) {
			t.Errorf("%s: %v, want %v", id, got, tags)
		}
		if matched := slices.ContainsFunc(plan.Filters(), func(f can.Filter) bool { return f.Match(id) }); matched != (tags != nil) {
			t.Errorf("%s: the filters match it: %t", id, matched)
		}
	}
	if _, err := Compile(file, []Want{{Signal: "S", AnySource: true}}); err == nil || !strings.Contains(err.Error(), "only one of 29 bits has a source address") {
		t.Error(err)
	}
}
