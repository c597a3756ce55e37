package credit

import (
	"bytes"
	"crypto/ecdsa"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func report(t *testing.T, device *ecdsa.PrivateKey, r wire.Report) []byte {
	t.Helper()
	r.Version = wire.Version
	if err := r.SetValues(make([]int64, wire.VectorLen)); err != nil {
		t.Fatal(err)
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
	forged[len(forged)-1] ^= 1
	for _, c := range []struct {
		name string
		body []byte
		want wire.Reason
	}{
		{"text", []byte("hello"), wire.ReasonMalformed},
		{"truncated", body[:len(body)-1], wire.ReasonMalformed},
		{"trailing byte", append(bytes.Clone(body), 0), wire.ReasonMalformed},
		{"oversized", make([]byte, wire.MaxReportLen+1), wire.ReasonMalformed},
		{"flipped signature", forged, wire.ReasonSignature},
		{"another vehicle's key", report(t, other, good), wire.ReasonSignature},
		{"another vehicle's name", report(t, device, with(func(c *wire.Report) { c.Vehicle = "V2" })), wire.ReasonSignature},
		{"another charter", report(t, device, with(func(c *wire.Report) { c.Charter = wire.Hash{1} })), wire.ReasonCharter},
		{"a family beyond the charter", report(t, device, with(func(c *wire.Report) { c.Families = wire.FamilyCharge })), wire.ReasonCharter},
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

// FuzzClaimedReport checks that whatever opens under a device key is also recognised without it, and that nothing panics.
func FuzzClaimedReport(f *testing.F) {
	device, pub := newKey(f)
	r := wire.Report{Version: wire.Version, Vehicle: "V1", Families: wire.FamilyHours}
	if err := r.SetValues(make([]int64, wire.VectorLen)); err != nil {
		f.Fatal(err)
	}
	b, err := wire.SealReport(device, &r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		got := claimedReport(b)
		if opened, err := wire.OpenReport(pub, "V1", b); err == nil && !cmp.Equal(got, opened) {
			t.Errorf("a report that opens is taken for %+v", got)
		}
	})
}
