package terms

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rawstone/pkg/terms/internal/row"
	"rawstone/pkg/wire"
)

const (
	contextPolicy = "rawstone/policy/v1"
	maxPolicyLen  = 16 << 10
	// MaxTiers bounds the tiers of a policy.
	MaxTiers = 64
	// MaxTierKm is the top of the highest tier.
	MaxTierKm = 12000
	// MaxCapKm bounds the cap of kilometres per day spanned.
	MaxCapKm = 5000
	// MaxDay is the last program day that a policy may name: a span's days and the day after it still fit 32 bits.
	MaxDay = 1<<31 - 1
	// MaxGrades bounds the tiers of a kind that credits no kilometres. The charter's ratio between tiers does not bound what their
	// rows tell, so their number does: at most 3 bits a claim.
	MaxGrades = 8
)

// A Tier is one threshold of a policy.
type Tier struct {
	// Km is the distance that reaching the tier credits, 1 to MaxTierKm; 0 where the kind credits none.
	Km uint32 `cbor:"0,keyasint"`
	// Rows holds what the tier asks beyond the policy's common rows.
	Rows []wire.Row `cbor:"1,keyasint"`
}

// KindMileage is the kind of policy that credits effective kilometres. The others are KindSafe and KindFeature followed by one of
// Features.
const (
	KindMileage = "mileage"
	KindSafe    = "safe"
	KindFeature = "feature/"
)

// A Policy says which thresholds of one kind may be proven and what each credits.
type Policy struct {
	Version uint8 `cbor:"0,keyasint"`
	// Program is the program document's identifier.
	Program wire.Hash `cbor:"1,keyasint"`
	// Serial names the policy in claims; it is unique over all kinds and rises with each new policy.
	Serial uint16 `cbor:"2,keyasint"`
	Kind   string `cbor:"3,keyasint"`
	// FromDay and ToDay bound the days, both included, on which a claim may end under this policy; at most MaxDay.
	FromDay uint32 `cbor:"4,keyasint"`
	ToDay   uint32 `cbor:"5,keyasint"`
	// Circuit, ProvingKey and VerifyingKey are the hashes of the files that a proof under this policy is made and checked with.
	Circuit      wire.Hash `cbor:"6,keyasint"`
	ProvingKey   wire.Hash `cbor:"7,keyasint"`
	VerifyingKey wire.Hash `cbor:"8,keyasint"`
	// CapKm is the most that is credited per day spanned.
	CapKm uint32 `cbor:"9,keyasint"`
	// Rows must hold whatever the tier; there may be none.
	Rows  []wire.Row `cbor:"10,keyasint,omitempty"`
	Tiers []Tier     `cbor:"11,keyasint"`
	// MinAgent is the lowest version of the agent that may use the policy, `major.minor.patch`, or empty.
	MinAgent string `cbor:"12,keyasint,omitempty"`
	// Stop says that no claims of the kind are made on the policy's days, also under those that it succeeds.
	Stop bool `cbor:"13,keyasint,omitempty"`
	// Lock is the hash of the lock file of the setup that circuit and keys come from, which says whether a ceremony made them.
	Lock wire.Hash `cbor:"14,keyasint"`
}

// Validate checks bounds: rows that the circuit can hold and a car can meet, ascending tiers, a plausible cap. The coefficients'
// bound, 32 bits, is the type's.
func (p *Policy) Validate() error {
	if err := wire.CheckVersion(p.Version); err != nil {
		return err
	}
	if err := CheckKind(p.Kind); err != nil {
		return err
	}
	if p.ToDay < p.FromDay {
		return errors.New("policy ends before it begins")
	}
	if p.ToDay > MaxDay {
		return fmt.Errorf("policy ends on day %d, at most %d allowed", p.ToDay, MaxDay)
	}
	if p.Program.IsZero() || p.Circuit.IsZero() || p.ProvingKey.IsZero() || p.VerifyingKey.IsZero() || p.Lock.IsZero() {
		return errors.New("policy lacks the hash of its program, circuit, keys or their lock")
	}
	if p.CapKm > MaxCapKm || p.Kind == KindMileage && p.CapKm == 0 {
		return fmt.Errorf("cap of %d km a day is not within 1 to %d", p.CapKm, MaxCapKm)
	}
	most := MaxTiers
	if p.Kind != KindMileage {
		most = MaxGrades
	}
	if n := len(p.Tiers); n < 1 || n > most {
		return fmt.Errorf("policy has %d tiers, want 1 to %d", n, most)
	}
	for i, t := range p.Tiers {
		if n := len(p.Rows) + len(t.Rows); n > wire.RowsPerStatement {
			return fmt.Errorf("tier %d: %d rows with the common ones, at most %d fit the circuit", i, n, wire.RowsPerStatement)
		}
		if len(t.Rows) == 0 {
			return fmt.Errorf("tier %d asks nothing", i)
		}
		if p.Kind != KindMileage {
			if t.Km != 0 {
				return fmt.Errorf("tier %d: only policies of kind mileage credit kilometres", i)
			}
		} else if t.Km < 1 || t.Km > MaxTierKm || i > 0 && t.Km <= p.Tiers[i-1].Km {
			return fmt.Errorf("tier %d: %d km is not above the tier before it and within 1 to %d", i, t.Km, MaxTierKm)
		}
		for _, r := range slices.Concat(p.Rows, t.Rows) {
			if err := row.Check(r.A[:], r.B); err != nil {
				return fmt.Errorf("tier %d: %w", i, err)
			}
		}
		for j := range i {
			if p.Statement(j) == p.Statement(i) {
				return fmt.Errorf("tier %d asks what tier %d asks", i, j)
			}
		}
		if p.Kind == KindMileage {
			// Kilometres are what stones are drawn by: a tier credits what its own row proves, and nothing else.
			want := wire.Row{B: int64(t.Km) * 1000}
			want.A[wire.OdometerM] = 1
			if t.Rows[0] != want {
				return fmt.Errorf("tier %d: its first row does not prove %d km", i, t.Km)
			}
		}
	}
	if p.MinAgent != "" {
		if _, err := parseVersion(p.MinAgent); err != nil {
			return err
		}
	}
	return nil
}

// Statement returns the rows that a proof of a tier must satisfy: the common rows, the tier's, and rows of zeros to fill up.
func (p *Policy) Statement(tier int) (rows [wire.RowsPerStatement]wire.Row) {
	n := copy(rows[:], p.Rows)
	copy(rows[n:], p.Tiers[tier].Rows)
	return rows
}

// Credit returns the effective kilometres of a tier proven over a span of days: the tier's floor, capped per day spanned.
func (p *Policy) Credit(tier int, days uint32) uint32 {
	return uint32(min(uint64(p.Tiers[tier].Km), uint64(p.CapKm)*uint64(days)))
}

// InForce returns the policy of a kind under which claims that end on day are made: the one with the highest serial whose days include
// it, so that a successor takes over from its first day. It returns nil when there is none, or when that one is stopped.
func InForce(policies []*Policy, kind string, day uint32) (newest *Policy) {
	for _, p := range policies {
		if p.Kind == kind && p.FromDay <= day && day <= p.ToDay && (newest == nil || newest.Serial < p.Serial) {
			newest = p
		}
	}
	if newest != nil && newest.Stop {
		return nil
	}
	return newest
}

// CheckPolicies refuses policies that cannot stand side by side: two of one serial, and one that begins on a day on which a policy of
// its kind with a higher serial is in force already. Such a policy would be passed over from its first day; a stop alone may do that.
func CheckPolicies(policies []*Policy) error {
	for i, a := range policies {
		for j, b := range policies {
			switch {
			case j < i && a.Serial == b.Serial:
				return fmt.Errorf("two policies have serial %d: give the newer one a higher serial", a.Serial)
			case a.Kind == b.Kind && a.Serial < b.Serial && !b.Stop && b.FromDay < a.FromDay && a.FromDay <= b.ToDay:
				return fmt.Errorf("policy %d begins on day %d, while policy %d of kind %s is in force until day %d: give it a higher serial",
					a.Serial, a.FromDay, b.Serial, a.Kind, b.ToDay)
			}
		}
	}
	return nil
}

// Allows reports whether an agent of the given version may use the policy.
func (p *Policy) Allows(agent string) bool {
	if p.MinAgent == "" {
		return true
	}
	have, err1 := parseVersion(agent)
	want, err2 := parseVersion(p.MinAgent)
	if err1 != nil || err2 != nil {
		return false
	}
	for i := range have {
		if have[i] != want[i] {
			return have[i] > want[i]
		}
	}
	return true
}

func parseVersion(s string) (v [3]int, err error) {
	var rest string
	n, _ := fmt.Sscanf(s+" ", "%d.%d.%d%s", &v[0], &v[1], &v[2], &rest)
	if n != 3 || fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) != s || strings.Contains(s, "-") {
		return v, fmt.Errorf("version %q is not major.minor.patch", s)
	}
	return v, nil
}

// Features returns the names of the features that a policy may be about, in order: driver assistance as a whole, cruise control, an economical
// mode, lane keeping, parking assistance. They are a list, as families of reports are: under free names a charter could make a position, a
// face or a VIN a feature. A new one takes a new program in every car, auditor and validator.
func Features() []string { return []string{"assist", "cruise", "eco", "lane", "parking"} }

// CheckKind says whether kind may name a kind of policy: KindMileage, KindSafe, or KindFeature followed by one of Features.
func CheckKind(kind string) error {
	name, feature := strings.CutPrefix(kind, KindFeature)
	if kind == KindMileage || kind == KindSafe || feature && slices.Contains(Features(), name) {
		return nil
	}
	return fmt.Errorf("kind %.48q is none of mileage, safe, feature/NAME with a NAME among %s", kind, strings.Join(Features(), ", "))
}

// SealPolicy signs the policy.
func SealPolicy(key crypto.Signer, p *Policy) ([]byte, error) {
	b, err := wire.Marshal(p)
	if err != nil {
		return nil, err
	}
	return wire.Seal(key, contextPolicy, b)
}

// DecodePolicy reads a policy that nobody has signed yet.
func DecodePolicy(b []byte) (*Policy, error) {
	var p Policy
	if err := wire.Unmarshal(b, &p, maxPolicyLen); err != nil {
		return nil, err
	}
	return &p, nil
}

// OpenPolicy checks a signed policy under the program's policy keys and that it belongs to the program.
func OpenPolicy(keys wire.KeySet, program wire.Hash, b []byte) (*Policy, error) {
	payload, _, err := wire.Open(keys, contextPolicy, b, maxPolicyLen)
	if err != nil {
		return nil, err
	}
	p, err := DecodePolicy(payload)
	if err != nil {
		return nil, err
	}
	if p.Program != program {
		return nil, errors.New("cannot accept policy: it belongs to another program")
	}
	return p, nil
}
