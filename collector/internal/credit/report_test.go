package credit

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"strings"
	"testing"

	"rawstone/collector/internal/inbox"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func report(t *testing.T, device *ecdsa.PrivateKey, r wire.Report) []byte {
	t.Helper()
	r.Version = wire.Version
	if r.Charge == (wire.Charge{}) { // that of a car that reports each day
		r.Charge = wire.NewCharge(uint64(r.Epoch)+1, [32]byte{1})
	}
	if r.Vector == nil {
		if err := r.SetValues(make([]int64, wire.VectorLen)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := wire.SealReport(device, &r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReports(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	_, other := r.add("V2", newECU(t))
	good := wire.Report{Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: today, Families: wire.FamilyHours}
	with := func(change func(*wire.Report)) wire.Report {
		c := good
		change(&c)
		return c
	}
	body := report(t, device, good)
	forged := bytes.Clone(body)
	forged[len(bytes.TrimRight(body, "\x00"))-2] ^= 1
	for _, c := range []struct {
		name string
		body []byte
		want wire.Reason
	}{
		{"text", []byte("hello"), wire.ReasonMalformed},
		{"truncated", body[:len(body)-1], wire.ReasonMalformed},
		{"trailing byte", append(bytes.Clone(body), 0), wire.ReasonMalformed},
		{"oversized", make([]byte, wire.ReportLen+1), wire.ReasonMalformed},
		{"without its padding", bytes.TrimRight(body, "\x00"), wire.ReasonMalformed},
		{"padding of ones", append(bytes.Clone(body[:len(body)-1]), 1), wire.ReasonMalformed},
		{"flipped signature", forged, wire.ReasonSignature},
		{"another vehicle's key", report(t, other, good), wire.ReasonSignature},
		{"another vehicle's name", report(t, device, with(func(c *wire.Report) { c.Vehicle = "V2" })), wire.ReasonSignature},
		{"another charter", report(t, device, with(func(c *wire.Report) { c.Charter = wire.Hash{1} })), wire.ReasonCharter},
		{"a family beyond the charter", report(t, device, with(func(c *wire.Report) { c.Families = wire.FamilyCharge })), wire.ReasonCharter},
		{"no value of the charter's", report(t, device, with(func(c *wire.Report) { c.Vector = vector(t, 1<<30) })), wire.ReasonCharter},
		{"two days ahead", report(t, device, with(func(c *wire.Report) { c.Epoch = today + 2 })), wire.ReasonFuture},
	} {
		t.Log(c.name)
		got, _ := r.submit("V1", wire.KindReport, c.body)
		r.refused(got, c.want, 0)
	}
	got, first := r.submit("V1", wire.KindReport, body)
	r.accepted(got, 0)
	if _, again := r.submit("V1", wire.KindReport, body); !bytes.Equal(first, again) {
		t.Error("the same report got another receipt")
	}
	got, _ = r.submit("V1", wire.KindReport, report(t, device, good)) // another signature, another submission
	r.refused(got, wire.ReasonEpoch, 0)
	got, _ = r.submit("V1", wire.KindReport, report(t, device, with(func(c *wire.Report) { c.Epoch = today + 1 })))
	r.accepted(got, 0)
	var kept int
	err := r.db.View(t.Context(), func(tx *store.Tx) error {
		return tx.EachReport(t.Context(), r.cfg.CharterID, 0, func(s store.Report) error {
			kept++
			if s.Vehicle != "V1" || s.Families != wire.FamilyHours || len(s.Vector) != 4*wire.VectorLen {
				t.Errorf("kept %+v", s)
			}
			return nil
		})
	})
	if err != nil || kept != 2 {
		t.Errorf("%d reports kept (%v), want 2", kept, err)
	}
	r.cfg.Charter, r.cfg.CharterID = nil, wire.Hash{}
	r.restart()
	got, _ = r.submit("V1", wire.KindReport, report(t, device, with(func(c *wire.Report) { c.Epoch = today - 1 })))
	r.refused(got, wire.ReasonCharter, 0)
}

func vector(t *testing.T, first ...int64) []byte {
	t.Helper()
	var r wire.Report
	if err := r.SetValues(append(first, make([]int64, wire.VectorLen-len(first))...)); err != nil {
		t.Fatal(err)
	}
	return r.Vector
}

// TestChargesAreKept: the records know a vehicle's highest charge, and refuse what contradicts it, of that device key alone.
func TestChargesAreKept(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	r.day = today + 9
	of := func(index uint64, head byte, epoch uint32) []byte {
		return report(t, device, wire.Report{
			Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: epoch, Families: wire.FamilyHours, Charge: wire.NewCharge(index, [32]byte{head}),
		})
	}
	last := func() (c inbox.Charged, err error) {
		pub, err := wire.NewPublicKey(device.Public())
		if err != nil {
			t.Fatal(err)
		}
		err = r.db.View(t.Context(), func(tx *store.Tx) (err error) {
			c, err = tx.LastCharge(t.Context(), "V1", pub.ID())
			return err
		})
		return c, err
	}
	if c, err := last(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before any report: %v, %v", c, err)
	}
	for _, s := range []struct {
		why   string
		body  []byte
		want  wire.Reason
		index uint64 // the highest then
	}{
		{"the first known", of(5, 5, today+1), "", 5},
		{"a later one, of which one between is missing", of(7, 7, today+3), "", 7},
		{"the missing one", of(6, 6, today+2), "", 7},
		{"the index again", of(7, 8, today+4), wire.ReasonBudget, 7},
		{"an older index for a later day", of(3, 3, today+4), wire.ReasonBudget, 7},
		{"a newer index for an older day", of(8, 8, today), wire.ReasonBudget, 7},
		{"the day again at another index", of(8, 8, today+3), wire.ReasonBudget, 7},
		{"the day again", of(7, 7, today+3), wire.ReasonEpoch, 7},
		{"the next", of(8, 8, today+4), "", 8},
	} {
		got, _ := r.submit("V1", wire.KindReport, s.body)
		if got.Accepted != (s.want == "") || got.Reason != s.want {
			t.Errorf("%s: accepted %t, reason %q; want %q", s.why, got.Accepted, got.Reason, s.want)
		}
		if c, err := last(); err != nil || c.Charge.Index() != s.index || c.Charge.Head() != [32]byte{byte(s.index)} {
			t.Errorf("%s: the highest is %x, %v; want index %d", s.why, c, err, s.index)
		}
	}
	// Another device key is another ledger: its charges begin anew, while a day is still reported for once.
	first := device
	var pub wire.PublicKey
	device, pub = newKey(t)
	r.enrol("V1", pub)
	if c, err := last(); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("with another device key: %v, %v", c, err)
	}
	got, _ := r.submit("V1", wire.KindReport, of(1, 1, today+4))
	r.refused(got, wire.ReasonEpoch, 0)
	got, _ = r.submit("V1", wire.KindReport, of(1, 1, today+5))
	r.accepted(got, 0)
	if c, err := last(); err != nil || c.Charge != wire.NewCharge(1, [32]byte{1}) || c.Epoch != today+5 {
		t.Errorf("the other key's charge is %x, %v", c, err)
	}
	device = first
	if c, err := last(); err != nil || c.Charge.Index() != 8 {
		t.Errorf("the first key's charge is %x, %v", c, err)
	}
}

// TestReportsBeginWithTheRegistration: a vehicle cannot fill the days before it was there.
func TestReportsBeginWithTheRegistration(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	r.day = today + 3
	for epoch, want := range map[uint32]wire.Reason{
		0: wire.ReasonEpoch, today - 28: wire.ReasonEpoch, today - 1: wire.ReasonEpoch, today: "", today + 2: "", today + 5: wire.ReasonFuture,
	} {
		body := report(t, device, wire.Report{Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: epoch, Families: wire.FamilyHours})
		got, _ := r.submit("V1", wire.KindReport, body)
		if got.Accepted != (want == "") || got.Reason != want {
			t.Errorf("epoch %d of a vehicle registered on day %d: accepted %v, reason %q, want %q", epoch, today, got.Accepted, got.Reason, want)
		}
	}
}

// TestYearlyNumber: a vehicle has no more reports in 365 program days than its charter allows, also with another device key and with two
// that are checked in one batch; once the oldest is a year old there is room again.
func TestYearlyNumber(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	_, second := r.add("V2", newECU(t))
	r.day = today + 500
	of := func(vehicle string, key *ecdsa.PrivateKey, epoch, index uint32) []byte {
		return report(t, key, wire.Report{
			Vehicle: vehicle, Charter: r.cfg.CharterID, Epoch: epoch, Families: wire.FamilyHours, Charge: wire.NewCharge(uint64(index), [32]byte{1}),
		})
	}
	yearly := uint32(r.cfg.Charter.Usage.YearlyDispatches)
	for i := range yearly - 1 { // a day each: a head unit that was tampered with
		got, _ := r.submit("V1", wire.KindReport, of("V1", device, today+i, i+1))
		r.accepted(got, 0)
	}
	one, two := of("V1", device, today+yearly-1, yearly), of("V1", device, today+yearly, yearly+1)
	both := r.prepareAll(wire.KindReport, Submission{Vehicle: "V1", Body: one}, Submission{Vehicle: "V1", Body: two})
	got, _ := r.apply("V1", one, both[0])
	r.accepted(got, 0)
	got, _ = r.apply("V1", two, both[1])
	r.refused(got, wire.ReasonCharter, 0)
	// Another device key is no other vehicle.
	device, pub := newKey(t)
	r.enrol("V1", pub)
	got, _ = r.submit("V1", wire.KindReport, of("V1", device, today+364, 1))
	r.refused(got, wire.ReasonCharter, 0)
	got, _ = r.submit("V1", wire.KindReport, of("V1", device, today+365, 1))
	r.accepted(got, 0)
	got, _ = r.submit("V1", wire.KindReport, of("V1", device, today+365, 2))
	r.refused(got, wire.ReasonBudget, 0)
	// Nor does one vehicle take another's room.
	got, _ = r.submit("V2", wire.KindReport, of("V2", second, today+364, 1))
	r.accepted(got, 0)
}

// TestEarlierCharter: a report under way when the charter changed is judged by the rule of its own, up to the day after the change, and each
// charter's yearly number is its own.
func TestEarlierCharter(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	old, oldID := *r.cfg.Charter, r.cfg.CharterID
	old.Usage.YearlyDispatches = 4
	next := *r.cfg.Charter
	next.Serial, next.Usage.Families = 2, wire.FamilySpeed
	r.cfg.Charter, r.cfg.CharterID = &next, wire.ID([]byte("next"))
	r.cfg.Earlier = []Earlier{{Charter: &old, ID: oldID, Until: today + 11}}
	r.restart()
	r.day = today + 30
	index := uint64(0)
	for _, c := range []struct {
		why      string
		charter  wire.Hash
		epoch    uint32
		families wire.Family
		want     wire.Reason
	}{
		{"under way", oldID, today + 3, wire.FamilyHours, ""},
		{"a family that the next one has not", oldID, today + 10, wire.FamilyHours | wire.FamilySpeed, ""},
		{"the last day", oldID, today + 11, wire.FamilyHours, ""},
		{"a day too late", oldID, today + 12, wire.FamilyHours, wire.ReasonCharter},
		{"a family of the earlier one", r.cfg.CharterID, today + 13, wire.FamilyHours, wire.ReasonCharter},
		{"a charter of nobody", wire.Hash{9}, today + 14, wire.FamilySpeed, wire.ReasonCharter},
		{"the next", r.cfg.CharterID, today + 15, wire.FamilySpeed, ""},
		{"and more than the earlier one allowed", r.cfg.CharterID, today + 16, wire.FamilySpeed, ""},
	} {
		index++
		got, _ := r.submit("V1", wire.KindReport, report(t, device, wire.Report{
			Vehicle: "V1", Charter: c.charter, Epoch: c.epoch, Families: c.families, Charge: wire.NewCharge(index, [32]byte{1}),
		}))
		if got.Accepted != (c.want == "") || got.Reason != c.want {
			t.Errorf("%s: accepted %t, %q; want %q", c.why, got.Accepted, got.Reason, c.want)
		}
	}
}

func TestTwoReportsCheckedAtOnce(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	one := report(t, device, wire.Report{Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: today, Families: wire.FamilyHours})
	two := report(t, device, wire.Report{Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: today, Families: wire.FamilySpeed})
	p1, p2 := r.prepare("V1", wire.KindReport, one), r.prepare("V1", wire.KindReport, two)
	got, _ := r.apply("V1", one, p1)
	r.accepted(got, 0)
	got, _ = r.apply("V1", two, p2)
	r.refused(got, wire.ReasonEpoch, 0)
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	for want, change := range map[string]func(*Config){
		"receipt key missing":  func(c *Config) { c.Receipt = nil },
		"clock":                func(c *Config) { c.Clock = terms.Clock{} },
		"do not come together": func(c *Config) { c.CharterID = wire.Hash{} },
		"stands twice":         func(c *Config) { c.Policies = append(c.Policies, c.Policies[0]) },
		"another program":      func(c *Config) { c.Program = wire.Hash{1} },
		"no verifying key":     func(c *Config) { c.Verifiers = nil },
		"number of workers":    func(c *Config) { c.Workers = -1 },
		"does not allow policies of kind": func(c *Config) {
			narrow := *c.Charter
			narrow.Kinds = []string{terms.KindSafe}
			c.Charter = &narrow
		},
		"closer than the charter allows": func(c *Config) {
			narrow := *c.Charter
			narrow.TierRatioMilli = 60_000
			c.Charter = &narrow
		},
		"cannot judge reports": func(c *Config) {
			broken := *c.Charter
			broken.Usage.EpsilonMicro = 0
			c.Charter = &broken
		},
		"policy ends before it beg": func(c *Config) {
			p := *c.Policies[0]
			p.Serial, p.FromDay = 7, 1001
			c.Policies = append(c.Policies, &p)
		},
	} {
		cfg := r.cfg
		cfg.Policies = append([]*terms.Policy(nil), r.cfg.Policies...)
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
