package j1939

// A Parameter is a suspect parameter: where it lies in its group and what it means (J1939-71, 5.2 and 5.3). Physical = Raw ·
// Scale + Add.
type Parameter struct {
	SPN  uint32
	Name string
	PGN  PGN
	// Byte is its first byte, counted from 1 as the standard does; Bit its lowest bit there, counted from 1 too.
	Byte, Bit int
	// Bits is its length: 1 to 7 within one byte, or 8, 16, 24 or 32 from Bit 1 on.
	Bits       int
	Scale, Add float64
	Unit       string
}

// State says what a raw value is (J1939-71, table 1).
type State uint8

// The states of a value.
const (
	// Absent: the payload ends before the parameter.
	Absent State = iota
	// Valid: the physical value holds.
	Valid
	// Specific: an indicator whose meaning the parameter defines (FB…).
	Specific
	// Reserved: an indicator that the standard keeps for itself (FC… and FD…).
	Reserved
	// Erroneous: the sender's sensor or module failed (FE…).
	Erroneous
	// NotAvailable: the sender does not have the parameter (FF…).
	NotAvailable
)

// String is the state in words.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case Valid:
		return "valid"
	case Specific:
		return "parameter specific indicator"
	case Reserved:
		return "reserved indicator"
	case Erroneous:
		return "error indicator"
	case NotAvailable:
		return "not available"
	}
	return "unknown state"
}

// A Value is what a parameter said.
type Value struct {
	// Raw is the field as it stood; 0 when it is absent.
	Raw uint64
	// Physical is the value in the parameter's unit; it means nothing unless Available.
	Physical float64
	// Available is true for State Valid only.
	Available bool
	// State is the reason.
	State State
}

// Decode reads the parameter from a whole payload of its group. It does not allocate.
func (p *Parameter) Decode(data []byte) Value {
	first, shift, width := p.Byte-1, p.Bit-1, (p.Bits+7)/8
	if first < 0 || shift < 0 || shift > 7 || p.Bits < 1 || p.Bits > 32 || width == 1 && shift+p.Bits > 8 || width > 1 && shift != 0 || first > len(data)-width {
		return Value{}
	}
	var raw uint64
	for i, b := range data[first : first+width] {
		raw |= uint64(b) << (8 * i)
	}
	raw = raw >> shift & (1<<p.Bits - 1)
	v := Value{Raw: raw, State: state(raw, p.Bits)}
	v.Available = v.State == Valid
	// Rounding after the product keeps a fused multiply-add from giving another result on another processor.
	v.Physical = float64(float64(raw)*p.Scale) + p.Add
	return v
}

// state judges a raw value by its length (J1939-71, tables 1 and 2).
func state(raw uint64, bits int) State {
	if bits < 8 {
		// Two and four bits have an error indicator below all ones; of the other lengths, one bit has no indicators at all.
		switch top := uint64(1)<<bits - 1; {
		case raw == top && bits > 1:
			return NotAvailable
		case raw == top-1 && (bits == 2 || bits == 4):
			return Erroneous
		}
		return Valid
	}
	switch high := raw >> (bits - 8) & 0xFF; {
	case high <= 0xFA:
		return Valid
	case high == 0xFB:
		return Specific
	case high <= 0xFD:
		return Reserved
	case high == 0xFE:
		return Erroneous
	}
	return NotAvailable
}

// SPN returns a parameter by its number, if it is known (J1939-71; the digital annex J1939DA).
func SPN(spn uint32) (Parameter, bool) {
	p, ok := parameter(spn)
	p.SPN = spn
	return p, ok
}

func parameter(spn uint32) (Parameter, bool) {
	const perHour = 1.0 / 256 // km/h of wheel and vehicle speeds
	switch spn {
	case 69:
		return Parameter{Name: "two speed axle switch", PGN: 65265, Byte: 1, Bit: 1, Bits: 2, Scale: 1}, true
	case 70:
		return Parameter{Name: "parking brake switch", PGN: 65265, Byte: 1, Bit: 3, Bits: 2, Scale: 1}, true
	case 84:
		return octets("wheel-based vehicle speed", 65265, 2, 2, perHour, 0, "km/h"), true
	case 86:
		return octets("cruise control set speed", 65265, 6, 1, 1, 0, "km/h"), true
	case 91:
		return octets("accelerator pedal position 1", 61443, 2, 1, 0.4, 0, "%"), true
	case 92:
		return octets("engine percent load at current speed", 61443, 3, 1, 1, 0, "%"), true
	case 96:
		return octets("fuel level 1", 65276, 2, 1, 0.4, 0, "%"), true
	case 110:
		return octets("engine coolant temperature", 65262, 1, 1, 1, -40, "degC"), true
	case 168:
		return octets("battery potential", 65271, 5, 2, 0.05, 0, "V"), true
	case 171:
		return octets("ambient air temperature", 65269, 4, 2, 0.03125, -273, "degC"), true
	case 183:
		return octets("engine fuel rate", 65266, 1, 2, 0.05, 0, "l/h"), true
	case 190:
		return octets("engine speed", 61444, 4, 2, 0.125, 0, "rpm"), true
	case 244:
		return octets("trip distance", 65248, 1, 4, 0.125, 0, "km"), true
	case 245:
		return octets("total vehicle distance", 65248, 5, 4, 0.125, 0, "km"), true
	case 247:
		return octets("engine total hours of operation", 65253, 1, 4, 0.05, 0, "h"), true
	case 250:
		return octets("engine total fuel used", 65257, 5, 4, 0.5, 0, "l"), true
	case 517:
		return octets("navigation-based vehicle speed", 65256, 3, 2, perHour, 0, "km/h"), true
	case 527:
		return Parameter{Name: "cruise control states", PGN: 65265, Byte: 7, Bit: 6, Bits: 3, Scale: 1}, true
	case 595:
		return Parameter{Name: "cruise control active", PGN: 65265, Byte: 4, Bit: 1, Bits: 2, Scale: 1}, true
	case 596:
		return Parameter{Name: "cruise control enable switch", PGN: 65265, Byte: 4, Bit: 3, Bits: 2, Scale: 1}, true
	case 597:
		return Parameter{Name: "brake switch", PGN: 65265, Byte: 4, Bit: 5, Bits: 2, Scale: 1}, true
	case 904:
		return octets("front axle speed", 65215, 1, 2, perHour, 0, "km/h"), true
	case 917:
		return octets("high resolution total vehicle distance", 65217, 1, 4, 5, 0, "m"), true
	case 918:
		return octets("high resolution trip distance", 65217, 5, 4, 5, 0, "m"), true
	case 1624:
		return octets("tachograph vehicle speed", 65132, 7, 2, perHour, 0, "km/h"), true
	}
	return Parameter{}, false
}

func octets(name string, pgn PGN, first, n int, scale, add float64, unit string) Parameter {
	return Parameter{Name: name, PGN: pgn, Byte: first, Bit: 1, Bits: 8 * n, Scale: scale, Add: add, Unit: unit}
}
