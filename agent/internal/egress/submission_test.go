package egress

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/report"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const vehicle = "CAR1"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() (*ecdsa.PrivateKey, wire.PublicKey) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return k, must(wire.NewPublicKey(k.Public()))
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// prover stands for the proof system: what a proof is made of tells nothing, whatever its bytes.
type prover struct{}

func (prover) Prove(claim.Statement, wire.Opening, wire.Opening) (p wire.Proof, err error) {
	_, err = rand.Read(p[:])
	p[len(p)-1] = 1 // so that a test can tell it from padding
	return p, err
}

func message(seq uint64, day uint32) attest.Message {
	m := attest.Message{Snapshot: wire.Snapshot{Seq: seq, Day: day}}
	for _, b := range [][]byte{m.Snapshot.Commitment[:], m.Snapshot.Signature[:], m.Opening.Salt[:]} {
		_, _ = rand.Read(b) // it never fails
	}
	for i := range m.Opening.Counters {
		m.Opening.Counters[i] = 3_141_592_653 - uint32(i) // which no message may show
	}
	return m
}

// span is of two of the three kinds that the driver lets claims tell of.
func span(forfeit bool) cut.Span {
	return cut.Span{
		From: message(41, 19_993), To: message(48, 20_000), Forfeit: forfeit, Kinds: 3,
		Picks: []cut.Pick{{Policy: &terms.Policy{Serial: 7, Tiers: make([]terms.Tier, 20)}, Tier: 12}, {Policy: &terms.Policy{Serial: 300, Tiers: make([]terms.Tier, 2)}, Tier: 1}},
	}
}

var ecu = wire.KeyID{0xec, 15: 1}

func claimTable(sp cut.Span) []field {
	from, to := sp.From.Snapshot, sp.To.Snapshot
	table := []field{
		{"/0", "protocol: version", number(wire.Version), 0},
		{"/1", "protocol: the ECU key that signed, which the binding names", ecu[:], 0},
		{"/2/0", "protocol: where the span begins", number(int64(from.Seq)), 0},
		{"/2/1", "protocol: the day on which it begins", number(int64(from.Day)), 0},
		{"/2/2", "protocol: the commitment under which counters are hidden", from.Commitment[:], 0},
		{"/2/3", "protocol: the ECU's signature of it", from.Signature[:], 0},
		{"/3/0", "protocol: where the span ends", number(int64(to.Seq)), 0},
		{"/3/1", "protocol: the day on which it ends", number(int64(to.Day)), 0},
		{"/3/2", "protocol: the commitment under which counters are hidden", to.Commitment[:], 0},
		{"/3/3", "protocol: the ECU's signature of it", to.Signature[:], 0},
		{"/4/0/0", "charter: a policy of a kind that it lists", number(7), 0},
		{"/4/0/1", "charter: a tier, no finer than its ratio", number(12), 0},
		{"/4/0/2", "protocol: a zero-knowledge proof", nil, 128},
		{"/4/1/0", "charter: a policy of a kind that it lists", number(300), 0},
		{"/4/1/1", "charter: a grade, of 8 at most", number(1), 0},
		{"/4/1/2", "protocol: a zero-knowledge proof", nil, 128},
	}
	if sp.Forfeit {
		table = append(table, field{"/5", "protocol: what lies before is given up", []byte{0xf5}, 0})
	}
	return table
}

// TestClaim walks the bytes of claims as package cut makes them.
func TestClaim(t *testing.T) {
	for _, forfeit := range []bool{false, true} {
		sp := span(forfeit)
		body, err := sp.Prove(ecu, []cut.Prover{prover{}, prover{}})
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := padded(body, wire.ClaimLen(sp.Kinds))
		if err == nil {
			err = check(leaves, claimTable(sp))
		}
		if err != nil {
			t.Error(err)
		}
		hidden := [][]byte{sp.From.Opening.Salt[:], sp.To.Opening.Salt[:]}
		for _, c := range slices.Concat(sp.From.Opening.Counters[:], sp.To.Opening.Counters[:]) {
			hidden = append(hidden, binary.BigEndian.AppendUint32(nil, c), binary.LittleEndian.AppendUint32(nil, c))
		}
		for _, b := range hidden {
			if bytes.Contains(body, b) {
				t.Errorf("the claim shows %x of an opening", b)
			}
		}
	}
}

type usage struct{ totals [wire.VectorLen]int64 }

func (u usage) Take(context.Context) ([wire.VectorLen]int64, func(context.Context) error, error) {
	return u.totals, func(context.Context) error { return nil }, nil
}

// charterOf returns a charter of a mechanism.
func charterOf(m terms.Mechanism) *terms.Charter {
	u := terms.Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600, Scale: []uint16{1, 1, 30, 1, 1}, YearlyDispatches: 53}
	if m != terms.GaussianVector {
		u = terms.Usage{Mechanism: m, Families: wire.FamilySpeed, EpsilonMicro: 500_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 53}
	}
	return &terms.Charter{Version: wire.Version, Program: wire.Hash{1}, Serial: 1, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200, Usage: u}
}

// makeReport has a report made of a week of 1000, 1001, … in each value.
func makeReport(t *testing.T, c *terms.Charter, device *ecdsa.PrivateKey) []byte {
	t.Helper()
	var u usage
	for i := range u.totals {
		u.totals[i] = int64(1000 + i)
	}
	dir := t.TempDir()
	db := must(flash.Open(flash.Config{Dir: filepath.Join(dir, "budget"), Logger: slog.New(slog.DiscardHandler)}))
	ledger := must(budget.New(budget.Config{DB: db, Anchor: filepath.Join(dir, "anchor"), Limit: must(budget.YearLimit(report.Cost(&c.Usage), 53))}))
	t.Cleanup(func() { ledger.Close(); db.Close() })
	m := must(report.New(report.Config{
		Vehicle: vehicle, Charter: c, CharterID: wire.Hash{9}, Families: func() wire.Family { return wire.FamilySpeed }, Device: device, Budget: ledger, Usage: u,
		Heard: func() error { return nil },
	}))
	sealed, lost, err := m.Make(t.Context(), 20_000, u)
	if lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	return sealed
}

func reportTable(public wire.PublicKey) []field {
	id, charter := public.ID(), wire.Hash{9}
	return []field{
		{"/tag18/0/1", "protocol: ES256", number(-7), 0},
		{"/tag18/0/4", "protocol: which device key signed", id[:], 0},
		{"/tag18/2/0", "protocol: version", number(wire.Version), 0},
		{"/tag18/2/1", "protocol: the vehicle's name, no VIN", []byte(vehicle), 0},
		{"/tag18/2/2", "charter: its identifier", charter[:], 0},
		{"/tag18/2/3", "protocol: the program day of the dispatch", number(20_000), 0},
		{"/tag18/2/4", "charter: the families that it allows and the driver turned on", number(int64(wire.FamilySpeed)), 0},
		{"/tag18/2/5", "charter: what its mechanism released", nil, 4 * wire.VectorLen},
		{"/tag18/2/6", "protocol: index and hash of the charge in the privacy budget", nil, len(wire.Charge{})},
		{"/tag18/3", "protocol: the signature", nil, len(wire.Signature{})},
	}
}

// walkReport returns the leaves of a report.
func walkReport(b []byte) ([]leaf, error) {
	leaves, err := padded(b, wire.ReportLen)
	if err != nil {
		return nil, err
	}
	return inner(leaves, "/tag18/0", "/tag18/2")
}

// TestReport walks the bytes of reports as package report makes them, of each mechanism.
func TestReport(t *testing.T) {
	device, public := newKey()
	for _, m := range []terms.Mechanism{terms.GaussianVector, terms.SubsetSelection, terms.RandomizedResponse} {
		t.Run(m.String(), func(t *testing.T) {
			c := charterOf(m)
			body := makeReport(t, c, device)
			leaves, err := walkReport(body)
			if err == nil {
				err = check(leaves, reportTable(public))
			}
			if err != nil {
				t.Fatal(err)
			}
			r := must(wire.OpenReport(public, vehicle, body))
			if r.Charge.Index() != 1 {
				t.Errorf("index %d of the first charge", r.Charge.Index())
			}
			truth := 0
			for i, v := range r.Values() {
				if v == int64(1000+i) {
					truth++
				}
				if m != terms.GaussianVector && (v != 0 && v != 1 || i > 10 && v != 0) {
					t.Errorf("value %d of an answer is %d", i, v)
				}
			}
			if truth > wire.VectorLen/4 { // by chance one in hundreds is
				t.Errorf("%d of %d values are the week's own", truth, wire.VectorLen)
			}
		})
	}
}

// TestWalkFindsMore: a field that no row is for, other bytes in the padding, and a value that is not what it must be are all found.
func TestWalkFindsMore(t *testing.T) {
	device, public := newKey()
	sealed := makeReport(t, charterOf(terms.GaussianVector), device)
	good := must(walkReport(sealed))
	if err := check(good, reportTable(public)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		leaves []leaf
		want   string
	}{
		"a field more":  {append(slices.Clone(good), leaf{"/tag18/2/7", []byte("position")}), "nothing says why"},
		"one less":      {good[1:], "not there"},
		"twice":         {append(slices.Clone(good), good[0]), "nothing says why"},
		"a wrong value": {append([]leaf{{good[0].path, number(-8)}}, good[1:]...), "want"},
	} {
		if err := check(c.leaves, reportTable(public)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	hidden := slices.Clone(sealed)
	hidden[len(hidden)-1] = 1
	if _, err := walkReport(hidden); err == nil || !strings.Contains(err.Error(), "padding") {
		t.Errorf("a byte in the padding: %v", err)
	}
	sp := span(false)
	body := must(sp.Prove(ecu, []cut.Prover{prover{}, prover{}}))
	// The map of a claim with a further key, as a careless change of the type would make it.
	more := append([]byte{body[0] + 1}, slices.Concat(bytes.TrimRight(body[1:], "\x00"), []byte{0x06, 0x01})...)
	more = append(more, make([]byte, len(body)-len(more))...)
	leaves, err := padded(more, wire.ClaimLen(sp.Kinds))
	if err == nil {
		err = check(leaves, claimTable(sp))
	}
	if err == nil || !strings.Contains(err.Error(), "/6") {
		t.Errorf("a further key of a claim: %v", err)
	}
	for name, b := range map[string][]byte{"wide head": {0x18, 0x05}, "wide string": {0x58, 0x01, 'x'}, "float": {0xfa, 0, 0, 0, 0}, "null": {0xf6}, "indefinite": {0x9f, 0xff}, "text key": {0xa1, 0x61, 'x', 0}, "keys out of order": {0xa2, 1, 0, 0, 0}} {
		if leaves, _, err := cborLeaves("", b); err == nil {
			t.Errorf("%s: walked as %v", name, leaves)
		}
	}
}
