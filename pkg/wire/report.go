package wire

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"rawstone/pkg/key"
)

const (
	contextReport = "rawstone/report/v1"
	// ReportLen is the size of every signed report in bytes, whatever the vehicle's name and the families.
	ReportLen = 512
)

// A Report is one noised usage vector, signed by the vehicle's device key. Its length does not depend on its contents.
type Report struct {
	Version uint8  `cbor:"0,keyasint"`
	Vehicle string `cbor:"1,keyasint"`
	// Charter is the identifier of the charter whose privacy parameters were used.
	Charter Hash `cbor:"2,keyasint"`
	// Epoch is the program day of the dispatch by the ECU's clock; a vehicle reports at most once an epoch.
	Epoch uint32 `cbor:"3,keyasint"`
	// Families are the families that the driver has turned on; the values of the others are noise over zeros.
	Families Family `cbor:"4,keyasint"`
	// Vector holds VectorLen signed 32-bit big-endian values: noise makes some of them negative.
	Vector []byte `cbor:"5,keyasint"`
	// Charge is the report's charge in the vehicle's privacy budget.
	Charge Charge `cbor:"6,keyasint"`
}

// A Charge is the place of one release in a vehicle's privacy budget: 8 bytes, big-endian, that count from 1, and the 32-byte hash of the
// ledger up to there. A collector that knows a later one than the vehicle offers has found a ledger that was rolled back.
type Charge [40]byte

// NewCharge returns the charge of an index, from 1, and the ledger's hash.
func NewCharge(index uint64, head [32]byte) (c Charge) {
	binary.BigEndian.PutUint64(c[:], index)
	copy(c[8:], head[:])
	return c
}

// Index is the number of releases up to and with this one; 0 stands for none.
func (c Charge) Index() uint64 { return binary.BigEndian.Uint64(c[:]) }

// Head is the hash of the ledger up to and with this release.
func (c Charge) Head() [32]byte { return [32]byte(c[8:]) }

// A ChargeRecord is what the collector holds of a vehicle's privacy budget: the charge of its latest accepted report. The collector serves it
// to the vehicle alone, which compares it with its own ledger.
type ChargeRecord struct {
	Version uint8 `cbor:"0,keyasint"`
	// Charge is zero where no report was accepted.
	Charge Charge `cbor:"1,keyasint"`
	// Epoch is that report's.
	Epoch uint32 `cbor:"2,keyasint"`
}

// ChargePath is where the collector serves a vehicle's ChargeRecord over HTTPS; MaxChargeRecordLen bounds it in bytes.
const (
	ChargePath         = "/v1/charge"
	MaxChargeRecordLen = 64
)

// Validate checks that none is none.
func (r *ChargeRecord) Validate() error {
	if err := CheckVersion(r.Version); err != nil {
		return err
	}
	if r.Charge.Index() == 0 && (r.Charge != Charge{} || r.Epoch != 0) {
		return errors.New("charge record of no charge has a hash or an epoch")
	}
	return nil
}

// Validate checks bounds.
func (r *Report) Validate() error {
	if err := CheckVersion(r.Version); err != nil {
		return err
	}
	if err := CheckVehicle(r.Vehicle); err != nil {
		return err
	}
	if r.Families&^AllFamilies != 0 || r.Families == 0 {
		return fmt.Errorf("report's families %#x are none or unknown", uint16(r.Families))
	}
	if len(r.Vector) != 4*VectorLen {
		return fmt.Errorf("report's vector has %d bytes, want %d", len(r.Vector), 4*VectorLen)
	}
	if r.Charge.Index() == 0 {
		return errors.New("report names no charge of its privacy budget")
	}
	return nil
}

// SetValues stores VectorLen noised values, clamped to 32 bits.
func (r *Report) SetValues(v []int64) error {
	if len(v) != VectorLen {
		return fmt.Errorf("cannot store usage vector: %d values, want %d", len(v), VectorLen)
	}
	r.Vector = make([]byte, 0, 4*VectorLen)
	for _, x := range v {
		r.Vector = binary.BigEndian.AppendUint32(r.Vector, uint32(ClampValue(x)))
	}
	return nil
}

// Values returns the noised values of a validated report.
func (r *Report) Values() []int64 {
	v := make([]int64, VectorLen)
	for i := range v {
		v[i] = int64(int32(binary.BigEndian.Uint32(r.Vector[4*i:])))
	}
	return v
}

// SealReport signs the report with the vehicle's device key.
func SealReport(device crypto.Signer, r *Report) ([]byte, error) {
	b, err := Marshal(r)
	if err != nil {
		return nil, err
	}
	if b, err = Seal(device, contextReport, b); err != nil {
		return nil, err
	}
	return pad(b, ReportLen)
}

// ReadReport returns what a report's bytes say without asking who signed them.
func ReadReport(b []byte) (*Report, error) {
	if len(b) != ReportLen {
		return nil, fmt.Errorf("cannot read report: %d bytes, want %d", len(b), ReportLen)
	}
	text, err := unpad(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read report: %w", err)
	}
	payload, _, err := key.Peek(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read report: %w", err)
	}
	var r Report
	if err := Unmarshal(payload, &r, ReportLen); err != nil {
		return nil, err
	}
	return &r, nil
}

// OpenReport checks a signed report under the device key of the vehicle on whose topic it came.
func OpenReport(device PublicKey, vehicle string, b []byte) (*Report, error) {
	payload, err := openPadded(KeySet{device}, contextReport, b, ReportLen)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := Unmarshal(payload, &r, ReportLen); err != nil {
		return nil, err
	}
	if r.Vehicle != vehicle {
		return nil, errors.New("cannot accept report: it names another vehicle than its topic")
	}
	return &r, nil
}

// A Family is a set of bits, one for each family of usage statistics that a driver may turn on.
type Family uint16

// The families. There is no bit, and so no way to say, for position, identity or anything biometric.
const (
	FamilyHours   Family = 1 << iota // minutes in use per hour of the day
	FamilySpeed                      // minutes per speed band
	FamilyTrips                      // trips per length band
	FamilyCharge                     // charging minutes per state-of-charge band
	FamilyFeature                    // minutes of use per feature
	// AllFamilies is every family.
	AllFamilies Family = 1<<iota - 1
)

// A Layout says where a family's values stand in a usage vector.
type Layout struct {
	Family Family
	Name   string
	Offset int
	Len    int
}

// VectorLen is the number of values of a usage vector.
const VectorLen = 64

// Layouts returns the families in the order of their values.
func Layouts() []Layout {
	return []Layout{
		{FamilyHours, "hours", 0, 24},
		{FamilySpeed, "speed", 24, 10},
		{FamilyTrips, "trips", 34, 10},
		{FamilyCharge, "charge", 44, 10},
		{FamilyFeature, "feature", 54, 10},
	}
}

// SpeedLimits returns the lower limits of the speed family's bands 1 to 9 in millimetres a second: 1, 10, 30, 50, 70, 90, 110, 130,
// 160 km/h. Band 0 is below them all: standing, which a satellite receiver's noise makes slower than walking and not 0.
func SpeedLimits() [9]int64 {
	return [...]int64{278, 2778, 8333, 13_889, 19_444, 25_000, 30_556, 36_111, 44_444}
}

// TripLimits returns the lower limits of the trips family's bands 1 to 9 in metres; band 0 is below them all.
func TripLimits() [9]int64 {
	return [...]int64{1000, 2000, 5000, 10_000, 20_000, 35_000, 50_000, 100_000, 200_000}
}

// ParseFamily returns the family of a name.
func ParseFamily(name string) (Family, error) {
	var names []string
	for _, l := range Layouts() {
		if l.Name == name {
			return l.Family, nil
		}
		names = append(names, l.Name)
	}
	return 0, fmt.Errorf("family %q is none of %s", name, strings.Join(names, ", "))
}

// ClampValue bounds a noised value to the 32 bits that a report carries.
func ClampValue(v int64) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, v))) }
