package cut

import (
	"errors"
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
	c, err := dispatch.New(dispatch.Config{Timing: terms.Timing{DayS: 86400, DropS: 600}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Plan([32]byte{1}, 1)
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
	c, err := dispatch.New(dispatch.Config{Timing: terms.Timing{DayS: 86400, DropS: 600}})
	if err != nil {
		t.Fatal(err)
	}
	plan := c.Plan([32]byte{2}, 31)
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
		"not provable":    func(p *terms.Policy) { p.Lock[0]++ },
		"kind":            func(p *terms.Policy) { p.Kind = terms.KindSafe },
	} {
		r := rules(1)
		r.Provable = func(p *terms.Policy) error {
			if !p.Lock.IsZero() {
				return errors.New("its setup is for development")
			}
			return nil
		}
		if err := r.Unusable(r.Policies[0]); err != nil {
			t.Fatal(err)
		}
		spoil(r.Policies[0])
		if r.Unusable(r.Policies[0]) == nil || len(r.inForce(100)) != 0 {
			t.Errorf("%s: used", name)
		}
	}
}

// stubProver is known by its serial.
type stubProver struct{ serial uint16 }

func (p stubProver) Prove(claim.Statement, wire.Opening, wire.Opening) (proof wire.Proof, err error) {
	proof[0] = byte(p.serial)
	return proof, nil
}

func TestChoose(t *testing.T) {
	list := snapshots(0, 3)
	head := list[0].Snapshot.Head()
	r := rules(1, 2)
	safe := *r.Policies[0]
	safe.Serial, safe.Kind, safe.Tiers = 2, terms.KindSafe, []terms.Tier{{Rows: r.Policies[0].Tiers[0].Rows}}
	old := safe
	old.Serial = 0
	r.Policies = append(r.Policies, &safe, &old)
	r.Charter.Kinds, r.Kinds = []string{terms.KindMileage, terms.KindSafe}, []string{terms.KindSafe, "feature/x"}
	for name, c := range map[string]struct {
		lacking []uint16
		patient bool
		waits   bool
		serials []uint16
	}{
		"all are here":                       {nil, true, false, []uint16{1, 2}},
		"one is waited for":                  {[]uint16{2}, true, true, nil},
		"one is waited for no longer":        {[]uint16{2}, false, false, []uint16{1}}, // and 0 does not take its place
		"none is here":                       {[]uint16{1, 2}, false, false, nil},
		"one that is not in force is missed": {[]uint16{0}, true, false, []uint16{1, 2}},
	} {
		k := Keys{
			Prover: func(p *terms.Policy) (Prover, bool) {
				return stubProver{p.Serial}, !slices.Contains(c.lacking, p.Serial)
			},
			Await: func([]*terms.Policy) (bool, error) { return c.patient, nil },
		}
		sp, provers, waits, err := r.Choose(k, daily(t), &head, list, 200, false)
		if err != nil || waits != c.waits || len(provers) != len(c.serials) || len(sp.Picks) != len(c.serials) {
			t.Errorf("%s: waits %v, %d provers, %+v, %v", name, waits, len(provers), sp.Picks, err)
			continue
		}
		if len(provers) == 0 {
			continue
		}
		body, err := sp.Prove(wire.KeyID{7}, provers)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.DecodeClaim(body)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range got.Proofs {
			if p.Policy != c.serials[i] || p.Proof[0] != byte(p.Policy) {
				t.Errorf("%s: proof %d is of policy %d under the key of %d", name, i, p.Policy, p.Proof[0])
			}
		}
		if sp.Km() != 2 || got.ECU != (wire.KeyID{7}) || got.To != list[1].Snapshot {
			t.Errorf("%s: %d km, %+v", name, sp.Km(), got)
		}
	}
	// What cannot be proven at all stays out when another is left out, and the list stays as it was.
	unfit := safe
	unfit.Serial, unfit.Kind = 9, "feature/x"
	r.Policies, r.Charter.Kinds = append(r.Policies, &unfit), append(r.Charter.Kinds, unfit.Kind)
	r.Provable = func(p *terms.Policy) error {
		if p == &unfit {
			return errors.New("its setup is for development")
		}
		return nil
	}
	k := Keys{
		Prover: func(p *terms.Policy) (Prover, bool) { return stubProver{p.Serial}, p.Serial != 2 },
		Await:  func([]*terms.Policy) (bool, error) { return false, nil },
	}
	mixed := snapshots(0, 3, 5)
	mixed[1].Snapshot.Day = 300 // ahead
	was := slices.Clone(mixed)
	sp, _, _, err := r.Choose(k, daily(t), &head, mixed, 200, false)
	if err != nil || len(sp.Picks) != 1 || sp.Picks[0].Policy.Serial != 1 || sp.To.Snapshot.Seq != 102 {
		t.Errorf("%+v, %v", sp.Picks, err)
	}
	if !slices.Equal(was, mixed) {
		t.Error("the list was changed")
	}
	failing := Keys{Prover: func(*terms.Policy) (Prover, bool) { return nil, false }, Await: func([]*terms.Policy) (bool, error) { return false, errors.New("flash") }}
	if _, _, _, err := r.Choose(failing, daily(t), &head, list, 200, false); err == nil {
		t.Error("a failure is lost")
	}
}

// TestKindsAreTheDrivers: what the driver has not turned on is not proven, whatever policies and charter say.
func TestKindsAreTheDrivers(t *testing.T) {
	list := snapshots(0, 3)
	head := list[0].Snapshot.Head()
	r := rules(1, 2)
	safe := *r.Policies[0]
	safe.Serial, safe.Kind = 2, terms.KindSafe
	r.Policies, r.Charter.Kinds = append(r.Policies, &safe), []string{terms.KindMileage, terms.KindSafe}
	for want, kinds := range map[int][]string{1: nil, 2: {terms.KindSafe}} {
		r.Kinds = kinds
		if sp, ok := r.Next(daily(t), &head, slices.Clone(list), 200); !ok || len(sp.Picks) != want {
			t.Errorf("kinds %v: %+v", kinds, sp.Picks)
		}
	}
	r.Kinds = nil
	if u := r.Uses(101)[1]; !strings.Contains(u.Idle, "not turned its kind on") || u.Unfit {
		t.Errorf("%+v", u)
	}
}

// TestOtherKindsDoNotGiveKilometresUp: a span below the lowest mileage tier is carried, although another kind could be claimed.
func TestOtherKindsDoNotGiveKilometresUp(t *testing.T) {
	list := snapshots(0, 0, 1, 2) // 0, 1 and 2 km after the head
	head := list[0].Snapshot.Head()
	r := rules(2)
	safe := *r.Policies[0]
	safe.Serial, safe.Kind, safe.Tiers = 2, terms.KindSafe, []terms.Tier{{Rows: []wire.Row{{B: 0}}}}
	r.Policies, r.Charter.Kinds, r.Kinds = append(r.Policies, &safe), []string{terms.KindMileage, terms.KindSafe}, []string{terms.KindSafe}
	if sp, ok := r.Next(daily(t), &head, slices.Clone(list[:3]), 200); ok {
		t.Errorf("claimed up to %d: %+v", sp.To.Snapshot.Seq, sp.Picks)
	}
	sp, ok := r.Next(daily(t), &head, slices.Clone(list), 200)
	if !ok || sp.To.Snapshot.Seq != 103 || len(sp.Picks) != 2 {
		t.Errorf("%v, up to %d: %+v", ok, sp.To.Snapshot.Seq, sp.Picks)
	}
	// A mileage policy that cannot be used today is succeeded by one that credits the same span.
	for name, spoil := range map[string]func(*terms.Policy){
		"over": func(p *terms.Policy) { p.ToDay = 99 }, "newer agent": func(p *terms.Policy) { p.MinAgent = "9.0.0" },
		"stopped": func(p *terms.Policy) { p.Stop = true }, "not heard of": func(p *terms.Policy) { p.Kind = "feature/x" },
	} {
		spoiled := *r.Policies[0]
		spoil(&spoiled)
		then := r
		then.Policies = []*terms.Policy{&spoiled, &safe}
		if sp, ok := then.Next(daily(t), &head, slices.Clone(list), 200); ok {
			t.Errorf("%s: claimed up to %d: %+v", name, sp.To.Snapshot.Seq, sp.Picks)
		}
	}
	// Where the charter knows no mileage there is nothing to give up.
	bare := *r.Charter
	bare.Kinds = []string{terms.KindSafe}
	r.Charter = &bare
	if sp, ok := r.Next(daily(t), &head, slices.Clone(list[:3]), 200); !ok || len(sp.Picks) != 1 {
		t.Errorf("%v: %+v", ok, sp.Picks)
	}
}

func TestUses(t *testing.T) {
	r := rules(1)
	base := *r.Policies[0]
	r.Policies = nil
	add := func(serial uint16, kind string, from, to uint32) {
		p := base
		p.Serial, p.Kind, p.FromDay, p.ToDay = serial, kind, from, to
		r.Policies = append(r.Policies, &p)
	}
	add(1, terms.KindMileage, 0, 50)
	add(2, terms.KindMileage, 0, 1000)
	add(3, terms.KindMileage, 100, 1000)
	add(4, terms.KindMileage, 150, 1000)
	add(5, terms.KindSafe, 0, 1000) // not in the charter
	want := []string{"over", "newer policy", "", "not begun", "charter"}
	uses := r.Uses(120)
	for i, u := range uses {
		if u.Policy != r.Policies[i] || (u.Idle == "") != (want[i] == "") || !strings.Contains(u.Idle, want[i]) || u.Unfit != (i == 4) {
			t.Errorf("policy %d: %+v, want %q", i+1, u, want[i])
		}
	}
	var w Warnings
	if n := len(w.Fresh(uses)); n != 1 || len(w.Fresh(uses)) != 0 {
		t.Errorf("%d warnings, and again", n)
	}
	uses[4].Idle = "another reason"
	if len(w.Fresh(uses)) != 1 || len(w.Fresh(nil)) != 0 || len(w.Fresh(uses)) != 1 {
		t.Error("a change is not told")
	}
}

func TestLastDay(t *testing.T) {
	list := snapshots(0, 1, 2)
	for today, want := range map[uint32]uint32{200: 102, 101: 102, 100: 101, 99: 100, 98: 0} {
		if day, ok := LastDay(list, today); day != want || ok != (want != 0) {
			t.Errorf("today %d: %d %v, want %d", today, day, ok, want)
		}
	}
}
