package obd

import (
	"fmt"
	"math"
)

// A Layout says where in a record's data a number lies and what it means: Physical = Raw · Scale + Add.
type Layout struct {
	// Offset is the index of its first byte in the data; Length its number of bytes, 1 to 8, the most significant first.
	Offset, Length int
	// Signed numbers are in two's complement.
	Signed bool
	// AllOnesAbsent makes a field of all ones mean "not available".
	AllOnesAbsent bool
	// Scale and Add make the physical value in Unit; Scale must not be 0.
	Scale, Add float64
	// Unit is what the physical value counts: "km", "km/h", "%".
	Unit string
}

// maxOffset is beyond every record: a message has at most 4095 bytes here.
const maxOffset = 4095

// Check returns why the layout cannot be used, or nil.
func (l Layout) Check() error {
	switch {
	case l.Length < 1 || l.Length > 8:
		return fmt.Errorf("cannot use layout: its length of %d bytes is not within 1 and 8", l.Length)
	case l.Offset < 0 || l.Offset > maxOffset:
		return fmt.Errorf("cannot use layout: its offset %d is not within 0 and %d", l.Offset, maxOffset)
	case l.Scale == 0 || math.IsNaN(l.Scale) || math.IsInf(l.Scale, 0):
		return fmt.Errorf("cannot use layout: its scale %v is no finite number other than 0", l.Scale)
	case math.IsNaN(l.Add) || math.IsInf(l.Add, 0):
		return fmt.Errorf("cannot use layout: the number to add, %v, is not finite", l.Add)
	}
	return nil
}

// A Value is a number that was read.
type Value struct {
	// Raw is the field as it stood, not extended in sign.
	Raw uint64
	// Physical is the value in its unit; it means nothing when the value is not available.
	Physical float64
	// Available is false when the sender says that it has no value, when the value is outside its valid range, and when the
	// data end before the field, which leaves Raw 0.
	Available bool
}

// Decode reads the number from a record's data. It does not allocate.
func (l Layout) Decode(data []byte) Value {
	if l.Length < 1 || l.Length > 8 || l.Offset < 0 || l.Offset > len(data)-l.Length {
		return Value{}
	}
	var v Value
	for _, b := range data[l.Offset : l.Offset+l.Length] {
		v.Raw = v.Raw<<8 | uint64(b)
	}
	shift := 64 - 8*l.Length
	v.Available = !l.AllOnesAbsent || v.Raw != math.MaxUint64>>shift
	if l.Signed {
		v.Physical = l.physical(float64(int64(v.Raw<<shift) >> shift))
	} else {
		v.Physical = l.physical(float64(v.Raw))
	}
	return v
}

// physical rounds after the product, so that no processor with a fused multiply-add gets another result.
func (l Layout) physical(raw float64) float64 { return float64(raw*l.Scale) + l.Add }
