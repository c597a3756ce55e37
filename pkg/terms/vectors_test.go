package terms

import (
	"bytes"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

type octets = vectortest.Octets

// policyVectors is testdata/policy.json; the README beside it says what the fields are.
type policyVectors struct {
	Comment  string          `json:"comment"`
	Secret   octets          `json:"private_key"`
	Key      octets          `json:"public_key"`
	Program  octets          `json:"program"`
	Policies []policyVector  `json:"policies"`
	Refused  []refusedPolicy `json:"refused"`
}

type policyVector struct {
	Version      uint8        `json:"version"`
	Serial       uint16       `json:"serial"`
	Kind         string       `json:"kind"`
	FromDay      uint32       `json:"from_day"`
	ToDay        uint32       `json:"to_day"`
	Circuit      octets       `json:"circuit"`
	ProvingKey   octets       `json:"proving_key"`
	VerifyingKey octets       `json:"verifying_key"`
	Lock         octets       `json:"lock"`
	CapKm        uint32       `json:"cap_km"`
	Rows         []rowVector  `json:"rows"`
	Tiers        []tierVector `json:"tiers"`
	MinAgent     string       `json:"min_agent"`
	Stop         bool         `json:"stop"`
	Payload      octets       `json:"payload"`
	Bytes        octets       `json:"bytes"`
	ID           octets       `json:"id"`
}

type rowVector struct {
	A [wire.NumCounters]int32 `json:"a"`
	B int64                   `json:"b"`
}

type tierVector struct {
	Km   uint32      `json:"km"`
	Rows []rowVector `json:"rows"`
}

type refusedPolicy struct {
	Why   string `json:"why"`
	Bytes octets `json:"bytes"`
}

func rowsOf(list []rowVector) (rows []wire.Row) {
	for _, r := range list {
		rows = append(rows, wire.Row{A: r.A, B: r.B})
	}
	return rows
}

func (v policyVector) policy(program wire.Hash) *Policy {
	p := &Policy{
		Version: v.Version, Program: program, Serial: v.Serial, Kind: v.Kind, FromDay: v.FromDay, ToDay: v.ToDay,
		Circuit: wire.Hash(v.Circuit), ProvingKey: wire.Hash(v.ProvingKey), VerifyingKey: wire.Hash(v.VerifyingKey), Lock: wire.Hash(v.Lock), CapKm: v.CapKm,
		Rows: rowsOf(v.Rows), MinAgent: v.MinAgent, Stop: v.Stop,
	}
	for _, t := range v.Tiers {
		p.Tiers = append(p.Tiers, Tier{t.Km, rowsOf(t.Rows)})
	}
	return p
}

// inputs returns the policies without any bytes that are made of them.
func inputs() []policyVector {
	hash := func(of string) octets { h := vectortest.Hash(of); return h[:] }
	policy := policyVector{
		Version: 1, Serial: 7, Kind: KindMileage, FromDay: 19_900, ToDay: 20_100,
		Circuit: hash("circuit"), ProvingKey: hash("proving key"), VerifyingKey: hash("verifying key"), Lock: hash("lock"), CapKm: 1500,
		Rows: []rowVector{
			{A: [wire.NumCounters]int32{wire.DriveTimeS: 5, wire.OverspeedS: -100}},                 // overspeed under 5 % of drive time
			{A: [wire.NumCounters]int32{wire.OdometerM: 2, wire.HardBrakeN: -100_000}},              // at most 2 hard brakes per 100 km
			{A: [wire.NumCounters]int32{wire.OdometerM: -1, wire.DriveTimeS: 70}, B: math.MinInt32}, // no faster than 70 m/s
		},
	}
	for _, km := range []uint32{1, 2, 3, 4, 5, 7, 9, 12, 15, 19, 24, 30, 38, 48, 60, 75, 94, 118, 148, 185, 232, 290, 12_000} {
		policy.Tiers = append(policy.Tiers, tierVector{km, []rowVector{{A: [wire.NumCounters]int32{wire.OdometerM: 1}, B: int64(km) * 1000}}})
	}
	safe := policy
	safe.Serial, safe.Kind, safe.CapKm, safe.MinAgent = 24, KindSafe, 0, "1.22.333"
	safe.Rows = []rowVector{{A: [wire.NumCounters]int32{wire.OdometerM: 1}, B: 100_000}}
	safe.Tiers = []tierVector{
		{0, []rowVector{{A: [wire.NumCounters]int32{wire.OdometerM: 2, wire.HardBrakeN: -100_000}}}},
		{0, []rowVector{{A: [wire.NumCounters]int32{wire.OdometerM: 1, wire.HardBrakeN: -100_000}}}},
	}
	feature := policy
	feature.Serial, feature.Kind, feature.CapKm, feature.Rows, feature.Stop = 65_535, "feature/lane", 0, nil, true
	feature.Tiers = []tierVector{
		{0, []rowVector{{A: [wire.NumCounters]int32{math.MinInt32, 0, 0, 0, 0, math.MaxInt32}, B: -1 << 62}}},
		{0, []rowVector{{A: [wire.NumCounters]int32{wire.AssistedM: math.MaxInt32}, B: 1 << 62}}},
	}
	return []policyVector{policy, safe, feature}
}

func makePolicyVectors(t *testing.T) policyVectors {
	t.Helper()
	key, program := vectortest.Key(t, "policy"), wire.Hash(vectortest.Hash("program"))
	public := testPublic(t, key)
	v := policyVectors{
		Comment: "Signed policies of version 1 (pkg/wire/wire.cddl): inputs and their exact bytes. See README.md.",
		Secret:  key.Secret, Key: public[:], Program: program[:],
	}
	for _, in := range inputs() {
		p := in.policy(program)
		in.Payload = must(wire.Marshal(p))
		in.Bytes = must(SealPolicy(key, p))
		id := wire.ID(in.Bytes)
		in.ID = id[:]
		v.Policies = append(v.Policies, in)
	}

	// Signed by the right key, and still to be refused.
	refused := func(why string, spoil func(*Policy)) {
		p := inputs()[0].policy(program)
		spoil(p)
		payload, err := codec.Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		v.Refused = append(v.Refused, refusedPolicy{why, must(wire.Seal(key, contextPolicy, payload))})
	}
	refused("version 2", func(p *Policy) { p.Version = 2 })
	refused("another program", func(p *Policy) { p.Program[0] ^= 1 })
	refused("unknown kind", func(p *Policy) { p.Kind = "position" })
	refused("feature with a capital", func(p *Policy) { p.Kind = "feature/Lane" })
	refused("ends before it begins", func(p *Policy) { p.ToDay = p.FromDay - 1 })
	refused("no circuit", func(p *Policy) { p.Circuit = wire.Hash{} })
	refused("no proving key", func(p *Policy) { p.ProvingKey = wire.Hash{} })
	refused("no verifying key", func(p *Policy) { p.VerifyingKey = wire.Hash{} })
	refused("no lock", func(p *Policy) { p.Lock = wire.Hash{} })
	refused("no cap", func(p *Policy) { p.CapKm = 0 })
	refused("cap above 5,000 km", func(p *Policy) { p.CapKm = 5001 })
	refused("no tiers", func(p *Policy) { p.Tiers = nil })
	refused("tiers out of order", func(p *Policy) { p.Tiers[1], p.Tiers[2] = p.Tiers[2], p.Tiers[1] })
	refused("a tier twice", func(p *Policy) { p.Tiers[1] = p.Tiers[0] })
	refused("a tier of 12,001 km", func(p *Policy) { p.Tiers[22].Km, p.Tiers[22].Rows[0].B = 12_001, 12_001_000 })
	refused("a tier that credits more than it proves", func(p *Policy) { p.Tiers[4].Rows[0].B-- })
	refused("a tier that asks nothing", func(p *Policy) { p.Tiers[4].Rows = nil })
	refused("a tier that proves by another counter", func(p *Policy) { p.Tiers[4].Rows[0].A = [wire.NumCounters]int32{wire.AssistedM: 1} })
	refused("five rows in a statement", func(p *Policy) { p.Rows = append(p.Rows, p.Rows[0]) })
	refused("a bound above 2^62", func(p *Policy) { p.Rows[2].B = 1<<62 + 1 })
	refused("a bound below -2^62", func(p *Policy) { p.Rows[2].B = -1<<62 - 1 })
	refused("the least bound of all", func(p *Policy) { p.Rows[2].B = math.MinInt64 })
	refused("an agent version of two parts", func(p *Policy) { p.MinAgent = "1.2" })
	refused("kilometres of another kind", func(p *Policy) { p.Kind, p.Tiers = KindSafe, p.Tiers[:1] })
	refused("a coefficient of 2^31", func(p *Policy) {})
	// No Policy holds such a coefficient: its bytes are written over those of the second row's 2.
	last := &v.Refused[len(v.Refused)-1]
	payload := []byte(v.Policies[0].Payload)
	row, wide := []byte{0x87, 0x02, 0x00, 0x00}, []byte{0x87, 0x1a, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00}
	if bytes.Count(payload, row) != 1 {
		t.Fatalf("the second row begins in %d places", bytes.Count(payload, row))
	}
	last.Bytes = must(wire.Seal(key, contextPolicy, bytes.Replace(payload, row, wide, 1)))
	good := v.Policies[0].Bytes
	v.Refused = append(v.Refused,
		refusedPolicy{"trailing byte", append(slices.Clone(good), 0)},
		refusedPolicy{"trailing byte in the payload, signed", must(wire.Seal(key, contextPolicy, append(slices.Clone(payload), 0)))},
		refusedPolicy{"signed as a charter", must(wire.Seal(key, contextCharter, payload))},
	)
	return v
}

// TestPolicyVectors holds the stored vectors to what this package makes of their inputs, and opens the stored bytes.
func TestPolicyVectors(t *testing.T) {
	path := filepath.Join("testdata", "policy.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makePolicyVectors(t))
	}
	var want policyVectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, makePolicyVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	keys, program := wire.KeySet{wire.PublicKey(want.Key)}, wire.Hash(want.Program)
	for _, v := range want.Policies {
		p, err := OpenPolicy(keys, program, v.Bytes)
		if err != nil {
			t.Errorf("%s: %v", v.Kind, err)
			continue
		}
		if d := cmp.Diff(v.policy(program), p); d != "" {
			t.Errorf("%s (-inputs +opened):\n%s", v.Kind, d)
		}
		if id := wire.ID(v.Bytes); !bytes.Equal(id[:], v.ID) || !bytes.Contains(v.Bytes, v.Payload) {
			t.Errorf("%s: identifier %s, or another payload", v.Kind, id)
		}
	}
	for _, v := range want.Refused {
		if _, err := OpenPolicy(keys, program, v.Bytes); err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
}
