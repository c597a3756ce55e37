package terms

import (
	"math"
	"strings"
	"testing"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

func testRow(b int64, a ...int32) (r wire.Row) {
	copy(r.A[:], a)
	r.B = b
	return r
}

func testSafe() *Policy {
	p := testPolicy()
	p.Kind, p.Rows, p.CapKm = KindSafe, nil, 0
	p.Tiers = []Tier{{Rows: []wire.Row{testRow(0, 0, 1, -20)}}}
	return p
}

// TestLimits holds each limit of a policy at its edge, when it is built and when it is read.
func TestLimits(t *testing.T) {
	const most = wire.MaxRowBound
	tier := func(r wire.Row) func(*Policy) { return func(p *Policy) { p.Tiers[0].Rows = []wire.Row{r} } }
	grades := func(n int) func(*Policy) {
		return func(p *Policy) {
			p.Tiers = nil
			for i := range n {
				p.Tiers = append(p.Tiers, Tier{Rows: []wire.Row{testRow(int64(i+1), 0, 0, 0, 0, 0, 1)}})
			}
		}
	}
	for _, c := range []struct {
		name string
		edit func(*Policy)
		want string // empty when the policy stands
	}{
		{"last day", func(p *Policy) { p.ToDay = MaxDay }, ""},
		{"beyond the last day", func(p *Policy) { p.ToDay = MaxDay + 1 }, "at most 2147483647"},
		{"smallest coefficient", tier(testRow(0, 1, math.MinInt32)), ""},
		{"largest coefficient", tier(testRow(most, math.MaxInt32)), ""},
		{"largest bound", tier(testRow(most, math.MaxInt32)), ""},
		{"beyond the largest bound", tier(testRow(most+1, math.MaxInt32)), "beyond 2^62"},
		{"smallest bound", tier(testRow(-most, 1, math.MinInt32)), ""},
		{"beyond the smallest bound", tier(testRow(-most-1, 1, math.MinInt32)), "beyond 2^62"},
		{"least int64", tier(testRow(math.MinInt64, 1, -1)), "beyond 2^62"},
		{"empty row", tier(testRow(0)), "asks nothing"},
		{"growth alone", tier(testRow(0, 1)), "asks nothing"},
		{"within reach", tier(testRow(math.MaxUint32, 1)), ""},
		{"out of reach", tier(testRow(math.MaxUint32+1, 1)), "no growth of the counters reaches"},
		{"out of reach of losses", tier(testRow(1, -1)), "no growth of the counters reaches"},
		{"sometimes broken", tier(testRow(-math.MaxUint32+1, 0, 0, -1)), ""},
		{"never broken", tier(testRow(-math.MaxUint32, 0, 0, -1)), "asks nothing"},
		{"losses beyond 32 bits", tier(testRow(-1<<40, math.MinInt32, -math.MaxInt32, -5)), ""},
		{"empty common row", func(p *Policy) { p.Rows = []wire.Row{{}} }, "asks nothing"},
		{"four rows", func(p *Policy) { p.Rows = []wire.Row{testRow(1, 1), testRow(2, 1), testRow(3, 1)} }, ""},
		{"five rows", func(p *Policy) { p.Rows = []wire.Row{testRow(1, 1), testRow(2, 1), testRow(3, 1), testRow(4, 1)} }, "5 rows"},
		{"8 grades", grades(MaxGrades), ""},
		{"9 grades", grades(MaxGrades + 1), "9 tiers, want 1 to 8"},
		{"the same twice", func(p *Policy) { p.Tiers = append(p.Tiers, p.Tiers[0]) }, "tier 1 asks what tier 0 asks"},
		{"negative version", func(p *Policy) { p.MinAgent = "0.-1.0" }, "not major.minor.patch"},
		{"signed zero", func(p *Policy) { p.MinAgent = "-0.1.0" }, "not major.minor.patch"},
		{"long version", func(p *Policy) { p.MinAgent = "99999999999999999999.1.0" }, "not major.minor.patch"},
	} {
		p := testSafe()
		c.edit(p)
		b, err := wire.Marshal(p)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: not built: %v", c.name, err)
			} else if _, err := DecodePolicy(b); err != nil {
				t.Errorf("%s: not read: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: built: %v", c.name, err)
		}
		raw, err := codec.Encode(p) // as another builder might
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodePolicy(raw); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: read: %v", c.name, err)
		}
	}
	// 64 tiers of kilometres are allowed, and not one more.
	for n, want := range map[uint32]bool{MaxTiers: true, MaxTiers + 1: false} {
		p := testPolicy()
		p.Tiers = nil
		for km := range n {
			p.Tiers = append(p.Tiers, Tier{Km: km + 1, Rows: []wire.Row{testRow(int64(km+1)*1000, 1)}})
		}
		if err := p.Validate(); (err == nil) != want {
			t.Errorf("%d tiers: %v", n, err)
		}
	}
}

// TestOneSpelling refuses other bytes of the same policy, and coefficients and bounds beyond their types.
func TestOneSpelling(t *testing.T) {
	p := testSafe()
	b, err := wire.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodePolicy(b); err != nil {
		t.Fatal(err)
	}
	row := "\x82\x87\x00\x01\x33\x00\x00\x00\x00\x00" // [[0, 1, -20, 0, 0, 0, 0], 0]
	if !strings.Contains(string(b), row) || b[0] != 0xad {
		t.Fatalf("%x", b)
	}
	withRows := func(rows string) string { // key 10 stands before key 11
		at := strings.LastIndex(string(b), "\x0b\x81\xa2")
		return "\xae" + string(b[1:at]) + "\x0a" + rows + string(b[at:])
	}
	for name, text := range map[string]string{
		"no common rows, spelt": withRows("\x80"),
		"null common rows":      withRows("\xf6"),
		"coefficient 2^31":      strings.Replace(string(b), row, "\x82\x87\x00\x1a\x80\x00\x00\x00\x33\x00\x00\x00\x00\x00", 1),
		"coefficient −2^31 − 1": strings.Replace(string(b), row, "\x82\x87\x00\x01\x3a\x80\x00\x00\x00\x00\x00\x00\x00\x00", 1),
		"bound 2^63":            strings.Replace(string(b), row, row[:9]+"\x1b\x80\x00\x00\x00\x00\x00\x00\x00", 1),
		"eighth counter":        strings.Replace(string(b), row, "\x82\x88\x00\x01\x33\x00\x00\x00\x00\x00\x00", 1),
		"six counters":          strings.Replace(string(b), row, "\x82\x86\x00\x01\x33\x00\x00\x00\x00", 1),
		"trailing":              string(b) + "\x00",
		"truncated":             string(b[:len(b)-1]),
	} {
		if text == string(b) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := DecodePolicy([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := DecodePolicy([]byte(withRows("\x81" + row))); err != nil {
		t.Errorf("a common row: %v", err) // so that the spellings above fail for themselves
	}
	if _, err := DecodePolicy([]byte(strings.Replace(string(b), row, "\x82\x87\x00\x01\x3a\x7f\xff\xff\xff\x00\x00\x00\x00\x00", 1))); err != nil {
		t.Errorf("coefficient −2^31: %v", err)
	}
}

func TestTierRatio(t *testing.T) {
	c := testCharter() // 1.2 from 5 km on
	for _, x := range []struct {
		km   []uint32
		want bool
	}{
		{[]uint32{1, 2, 3, 4, 5, 6, 8, 10, 12}, true}, {[]uint32{4, 5}, true}, {[]uint32{5, 6}, true}, {[]uint32{6, 7}, false},
		{[]uint32{1000, 1199}, false}, {[]uint32{1000, 1200}, true}, {[]uint32{10_001, 12_000}, false}, {[]uint32{10_000, 12_000}, true},
	} {
		p := testPolicy()
		p.Tiers = nil
		for _, km := range x.km {
			p.Tiers = append(p.Tiers, Tier{Km: km, Rows: []wire.Row{testRow(int64(km)*1000, 1)}})
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := c.Covers(p); (err == nil) != x.want {
			t.Errorf("%v: %v", x.km, err)
		}
	}
}

func TestCheckPolicies(t *testing.T) {
	policy := func(serial uint16, kind string, from, to uint32, stop bool) *Policy {
		return &Policy{Serial: serial, Kind: kind, FromDay: from, ToDay: to, Stop: stop}
	}
	for _, c := range []struct {
		name string
		list []*Policy
		want string
	}{
		{"none", nil, ""},
		{"successor", []*Policy{policy(1, KindMileage, 10, 40, false), policy(2, KindMileage, 20, 30, false)}, ""},
		{"same day", []*Policy{policy(1, KindMileage, 10, 40, false), policy(2, KindMileage, 10, 30, false)}, ""},
		{"two kinds", []*Policy{policy(2, KindMileage, 10, 40, false), policy(1, KindSafe, 20, 30, false)}, ""},
		{"same serial", []*Policy{policy(1, KindMileage, 10, 40, false), policy(1, KindMileage, 50, 60, false)}, "two policies have serial 1"},
		{"same serial of two kinds", []*Policy{policy(1, KindMileage, 10, 40, false), policy(1, KindSafe, 50, 60, false)}, "two policies have serial 1"},
		{"lower later", []*Policy{policy(1, KindMileage, 20, 60, false), policy(2, KindMileage, 10, 40, false)}, "policy 1 begins on day 20, while policy 2"},
		{"lower later, in order", []*Policy{policy(2, KindMileage, 10, 40, false), policy(1, KindMileage, 20, 60, false)}, "policy 1 begins on day 20, while policy 2"},
		{"lower on the last day", []*Policy{policy(2, KindMileage, 10, 40, false), policy(1, KindMileage, 40, 60, false)}, "give it a higher serial"},
		{"lower afterwards", []*Policy{policy(2, KindMileage, 10, 40, false), policy(1, KindMileage, 41, 60, false)}, ""},
		{"stopped", []*Policy{policy(2, KindMileage, 10, 40, true), policy(1, KindMileage, 20, 60, false)}, ""},
	} {
		if err := CheckPolicies(c.list); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
