package cut

import (
	"slices"
	"strings"
	"testing"

	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var program = wire.ID([]byte("program"))

func rules(km ...uint32) Rules {
	p := &terms.Policy{Program: program, Serial: 1, Kind: terms.KindMileage, ToDay: 1 << 30}
	for _, k := range km {
		r := wire.Row{B: int64(k) * 1000}
		r.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, terms.Tier{Km: k, Rows: []wire.Row{r}})
	}
	return Rules{
		Program: program, AgentVersion: "1.0.0", Policies: []*terms.Policy{p},
		Charter: &terms.Charter{Program: program, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200},
	}
}

// snapshots returns one a day from day and seq 100 on; the nth is n of kms after the first.
func snapshots(kms ...uint32) (list []attest.Message) {
	for i, km := range kms {
		var m attest.Message
		m.Opening.Counters[wire.OdometerM], m.Opening.Salt[0] = km*1000, byte(i)
		m.Snapshot = wire.Snapshot{Seq: uint64(100 + i), Day: uint32(100 + i), Commitment: claim.Commit(m.Opening)}
		list = append(list, m)
	}
	return list
}

func daily(t *testing.T) dispatch.Plan {
	t.Helper()
	c, err := dispatch.New(dispatch.Config{EveryDays: 1, Timing: terms.Timing{DayS: 86400, DropS: 600}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Plan([32]byte{1})
}

func TestNext(t *testing.T) {
	list := snapshots(0, 0, 3, 9, 400)
	head, stranger, later := list[0].Snapshot.Head(), list[0].Snapshot.Head(), list[4].Snapshot.Head()
	stranger.Commitment[0] ^= 1
	back := slices.Clone(list)
	back[2].Snapshot.Day = 90 // an ECU corrected downwards
	for name, c := range map[string]struct {
		head     *wire.Head
		list     []attest.Message
		today    uint32
		from, to uint64 // 0 for none
		tier     int
		forfeit  bool
	}{
		"no tier is carried":         {&head, list, 200, 100, 102, 1, false},
		"nothing in the archive":     {&head, nil, 200, 0, 0, 0, false},
		"nothing after the head":     {&later, list[4:], 200, 0, 0, 0, false},
		"no head known":              {nil, list[2:], 200, 102, 103, 2, false},
		"head cannot be opened":      {&head, list[2:], 200, 102, 103, 2, true},
		"head is another snapshot":   {&stranger, list, 200, 101, 102, 1, true},
		"from the future":            {&head, list, 100, 0, 0, 0, false},
		"a day ahead":                {&head, list, 101, 100, 102, 1, false},
		"day goes back":              {&head, back, 200, 100, 103, 2, false},
		"beyond top, nothing stored": {&head, []attest.Message{list[0], list[4]}, 200, 100, 104, 2, false},
	} {
		sp, ok := rules(1, 2, 5).Next(daily(t), c.head, slices.Clone(c.list), c.today)
		if ok != (c.to != 0) {
			t.Errorf("%s: found %v", name, ok)
		}
		if ok && (sp.From.Snapshot.Seq != c.from || sp.To.Snapshot.Seq != c.to || sp.Forfeit != c.forfeit || len(sp.Picks) != 1 || sp.Picks[0].Tier != c.tier) {
			t.Errorf("%s: from %d to %d, forfeit %v, %+v", name, sp.From.Snapshot.Seq, sp.To.Snapshot.Seq, sp.Forfeit, sp.Picks)
		}
	}
}

func TestBeyondTheTopTierEndsEarlier(t *testing.T) {
	list := snapshots(0, 3, 4, 9) // a boundary on the last alone, 9 km after the first
	c, err := dispatch.New(dispatch.Config{EveryDays: 31, Timing: terms.Timing{DayS: 86400, DropS: 600}})
	if err != nil {
		t.Fatal(err)
	}
	plan := c.Plan([32]byte{2})
	shift := uint32(plan.Next(500)) - list[3].Snapshot.Day
	for i := range list {
		list[i].Snapshot.Day += shift
	}
	head := list[0].Snapshot.Head()
	sp, ok := rules(1, 2, 5).Next(plan, &head, list, 1000)
	if !ok || sp.To.Snapshot.Seq != 102 || sp.Picks[0].Tier != 1 {
		t.Errorf("%v: ends at %d with %+v", ok, sp.To.Snapshot.Seq, sp.Picks)
	}
	p := sp.Picks[0]
	if err := sp.Statement(p).Check(sp.From.Opening, sp.To.Opening); err != nil {
		t.Error(err)
	}
	p.Tier++
	if sp.Statement(p).Check(sp.From.Opening, sp.To.Opening) == nil {
		t.Error("a higher tier holds: the cut is not the highest")
	}
}

func TestExplain(t *testing.T) {
	list := snapshots(0, 1, 3)
	r := rules(1, 2)
	contents, cost := Span{From: list[0], To: list[2], Forfeit: true, Picks: []Pick{{r.Policies[0], 1}}}.Explain(terms.Timing{DayS: 86400})
	for _, want := range []string{"from program day 100 (1970-04-11) to program day 102", "at least 2 km (policy 1)", "Gives up"} {
		if !strings.Contains(contents, want) {
			t.Errorf("%q is not in %q", want, contents)
		}
	}
	if !strings.Contains(cost, "that 1 snapshots lie between") {
		t.Error(cost)
	}
}

func TestUnusablePolicies(t *testing.T) {
	for name, spoil := range map[string]func(*terms.Policy){
		"another program": func(p *terms.Policy) { p.Program = wire.Hash{} },
		"stopped":         func(p *terms.Policy) { p.Stop = true },
		"newer agent":     func(p *terms.Policy) { p.MinAgent = "1.0.1" },
		"circuit":         func(p *terms.Policy) { p.Circuit[0]++ },
		"proving key":     func(p *terms.Policy) { p.ProvingKey[0]++ },
		"verifying key":   func(p *terms.Policy) { p.VerifyingKey[0]++ },
		"kind":            func(p *terms.Policy) { p.Kind = terms.KindSafe },
	} {
		r := rules(1)
		if err := r.Unusable(r.Policies[0]); err != nil {
			t.Fatal(err)
		}
		spoil(r.Policies[0])
		if r.Unusable(r.Policies[0]) == nil || len(r.inForce(100)) != 0 {
			t.Errorf("%s: used", name)
		}
	}
}
