package obd

// A Parameter is a standard value: where it lies, what it means and which values are valid.
type Parameter struct {
	Layout
	// PID identifies it in service 01; DID F400+PID in service 22.
	PID uint8
	// Name is the standard's, in short.
	Name string
	// Size is the number of data bytes of the whole record, of which Layout reads some.
	Size int
	// Min and Max bound the valid physical values.
	Min, Max float64
}

// Decode reads the value from a record's data. A value outside Min and Max is not available.
func (p *Parameter) Decode(data []byte) Value {
	v := p.Layout.Decode(data)
	if v.Physical < p.Min || v.Physical > p.Max {
		v.Available = false
	}
	return v
}

// mirror is the first of the data identifiers that repeat the PIDs (SAE J1979-2, F400 to F4FF).
const mirror = 0xF400

// MirrorDID returns the data identifier that repeats a PID in service 22.
func MirrorDID(pid uint8) uint16 { return mirror | uint16(pid) }

// DID returns the standard parameter that a data identifier repeats (F400 to F4FF), if it is known.
func DID(did uint16) (Parameter, bool) {
	if did&0xFF00 != mirror {
		return Parameter{}, false
	}
	return PID(uint8(did))
}

// PID returns a standard parameter of service 01, if it is known (SAE J1979 appendix B, J1979-DA).
func PID(pid uint8) (Parameter, bool) {
	p, ok := parameter(pid)
	if !ok {
		return Parameter{}, false
	}
	p.PID = pid
	p.Size = int(length(pid))
	return p, true
}

func parameter(pid uint8) (Parameter, bool) {
	const percent = 100.0 / 255
	switch pid {
	case 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0, 0xC0:
		return number("supported PIDs", 4, 1, 0, ""), true
	case 0x04:
		return number("calculated engine load", 1, percent, 0, "%"), true
	case 0x05:
		return number("engine coolant temperature", 1, 1, -40, "degC"), true
	case 0x0C:
		return number("engine speed", 2, 0.25, 0, "rpm"), true
	case 0x0D:
		return number("vehicle speed", 1, 1, 0, "km/h"), true
	case 0x0F:
		return number("intake air temperature", 1, 1, -40, "degC"), true
	case 0x10:
		return number("mass air flow", 2, 0.01, 0, "g/s"), true
	case 0x11:
		return number("absolute throttle position", 1, percent, 0, "%"), true
	case 0x1F:
		return number("time since engine start", 2, 1, 0, "s"), true
	case 0x21:
		return number("distance travelled while MIL is on", 2, 1, 0, "km"), true // stays at 65535 once there
	case 0x2F:
		return number("fuel level", 1, percent, 0, "%"), true
	case 0x31:
		return number("distance travelled since codes cleared", 2, 1, 0, "km"), true // stays at 65535 once there
	case 0x33:
		return number("barometric pressure", 1, 1, 0, "kPa"), true
	case 0x42:
		return number("control module voltage", 2, 0.001, 0, "V"), true
	case 0x46:
		return number("ambient air temperature", 1, 1, -40, "degC"), true
	case 0x4D:
		return number("engine run time while MIL is on", 2, 1, 0, "min"), true
	case 0x4E:
		return number("engine run time since codes cleared", 2, 1, 0, "min"), true
	case 0x51:
		p := number("type of fuel", 1, 1, 0, "")
		p.Max = 0x17 // the rest is reserved
		return p, true
	case 0x5B:
		return number("hybrid or electric battery charge", 1, percent, 0, "%"), true
	case 0x5C:
		return number("engine oil temperature", 1, 1, -40, "degC"), true
	case 0x5E:
		return number("engine fuel rate", 2, 0.05, 0, "l/h"), true
	case 0xA4:
		p := number("transmission actual gear ratio", 2, 0.001, 0, "") // bytes 1 and 2 say which gears it supports
		p.Offset = 2
		return p, true
	case 0xA6:
		p := number("odometer", 4, 0.1, 0, "km")
		p.AllOnesAbsent = true
		return p, true
	}
	return Parameter{}, false
}

// number is a parameter at the begin of its record whose whole range is valid.
func number(name string, length int, scale, add float64, unit string) Parameter {
	l := Layout{Length: length, Scale: scale, Add: add, Unit: unit}
	top := float64(uint64(1)<<(8*length) - 1)
	return Parameter{Layout: l, Name: name, Min: l.physical(0), Max: l.physical(top)}
}

// StandardSize is the Sizes of the standard: PIDs of service 01 and the DIDs F400 to F4FF that repeat them. It knows more
// lengths than PID knows parameters, so that an answer can be split around what nobody asked for.
func StandardSize(service uint8, id uint16) int {
	switch {
	case service == ServiceCurrentData && id <= 0xFF, service == ServiceReadData && id&0xFF00 == mirror:
		return int(length(uint8(id)))
	}
	return 0
}

// length returns the data bytes of a PID (SAE J1979 appendix B), 0 when it is not known. Those whose length depends on the
// vehicle's other answers (06 to 09 and 55 to 58 with more than two banks) have that of the usual vehicle.
func length(pid uint8) uint8 {
	// One digit for each PID from 00 on, in rows of sixteen.
	const lengths = "" +
		"4422111111112111" +
		"2111222222221112" +
		"4222444444441111" +
		"1221444444442222" +
		"4422211111111224" +
		"4112211112111221" +
		"4112"
	switch {
	case int(pid) < len(lengths):
		return lengths[pid] - '0'
	case pid == 0x80 || pid == 0xA0 || pid == 0xA4 || pid == 0xA6 || pid == 0xC0:
		return 4
	}
	return 0
}

// Supported reports whether a vehicle has pid, given the answer bitmap to the support PID base (00, 20, 40 …): base+1 is its
// highest bit, base+32 its lowest.
func Supported(base uint8, bitmap uint32, pid uint8) bool {
	n := int(pid) - int(base)
	return n >= 1 && n <= 32 && bitmap>>(32-n)&1 != 0
}
