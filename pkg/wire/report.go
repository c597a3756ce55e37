package wire

import (
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	contextReport = "rawstone/report/v1"
	// MaxReportLen bounds a signed report in bytes.
	MaxReportLen = 512
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
}

// Validate checks bounds.
func (r *Report) Validate() error {
	if err := checkVersion(r.Version); err != nil {
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
	b, err := encode(r)
	if err != nil {
		return nil, err
	}
	return seal(device, contextReport, b)
}

// OpenReport checks a signed report under the device key of the vehicle on whose topic it came.
func OpenReport(device PublicKey, vehicle string, b []byte) (*Report, error) {
	payload, _, err := open(KeySet{device}, contextReport, b, MaxReportLen)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := decode(payload, &r, MaxReportLen); err != nil {
		return nil, err
	}
	if r.Vehicle != vehicle {
		return nil, errors.New("cannot accept report: it names another vehicle than its topic")
	}
	return &r, nil
}
