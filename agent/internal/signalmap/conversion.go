package signalmap

import (
	"errors"
	"math"
	"math/big"
	"slices"

	"rawstone/agent/internal/decimal"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can/dbc"
)

// A Companion is a DBC signal on which others depend. The zero Companion is none.
type Companion struct {
	Bus       int // in Map.Buses
	Name      string
	AnySource bool
}

// A Conversion turns values of a source into samples.
type Conversion struct {
	// Unit is the unit of the values, or Other while the raw value of Flag is Equals.
	Unit   vss.Unit
	Flag   Companion
	Equals int64
	Other  vss.Unit
	// Valid is a companion whose raw value must be among Values.
	Valid  Companion
	Values []int64

	scale, offset float64
	active        []int64  // raw values that mean 1, nil for none
	wrap          uint64   // 2^wrap_bits, or 0
	num, den      int64    // millimetres of one count of a counter that wraps
	step          *big.Rat // of the value, in Unit, or nil for a float
}

// Wraps reports whether the source is a counter that wraps: it passes through the raw values that otherwise say that there is none.
func (c *Conversion) Wraps() bool { return c.wrap != 0 }

// numbers returns scale and offset, nil for one that has a fault.
func (s *Signal) numbers(f *faults) (scale, offset *big.Rat) {
	scale, err := s.Scale.Rat(1)
	if err == nil && scale.Sign() == 0 {
		scale, err = nil, errors.New("must not be 0")
	}
	if err != nil {
		f.key("scale", "%v", err)
	}
	if offset, err = s.Offset.Rat(0); err != nil {
		f.key("offset", "%v", err)
	}
	return scale, offset
}

// resolveConversion works out unit and modulus; step is the source's own step, 0 for a float.
func (src *Source) resolveConversion(s *Signal, name string, step float64, scale, offset *big.Rat, f *faults) {
	var err error
	src.scale, _ = scale.Float64()
	src.offset, _ = offset.Float64()
	role := src.Signal.Role
	boolean := role == vss.Charging || role == vss.Assist
	if s.Active != nil {
		if !boolean || len(s.Active) == 0 || len(s.Active) > MaxValues || s.Unit != "" || s.Scale != "" || s.Offset != "" {
			f.key("active", "is for a path that is a boolean, without unit, scale and offset, and has 1 to %d values", MaxValues)
			return
		}
		src.active, name = slices.Clone(s.Active), ""
	}
	if src.Unit, err = vss.ParseUnit(role, name); err != nil {
		if s.Unit == "" {
			f.on("unit: %v", err)
		} else {
			f.key("unit", "%v", err)
		}
		return
	}
	if role != vss.Distance {
		if s.WrapBits != 0 {
			f.key("wrap_bits", "is for a distance: remove it")
		}
		return
	}
	src.Signal.Resolution = 1
	if step != 0 {
		src.step = new(big.Rat).Mul(decimal.Exact(step), scale)
		src.Signal.Resolution = resolution(src.step, src.Unit)
	}
	if s.WrapBits != 0 && f.count == 0 {
		src.resolveWrap(s, offset, f)
	}
}

// resolveWrap works out the modulus of a counter.
func (src *Source) resolveWrap(s *Signal, offset *big.Rat, f *faults) {
	const maxDenominator = 1_000_000 // so that a count times the numerator fits 63 bits
	if s.WrapBits < 1 || s.WrapBits > 32 {
		f.key("wrap_bits", "%d is not within 1 to 32", s.WrapBits)
		return
	}
	if offset.Sign() != 0 {
		f.key("offset", "a counter that wraps has none: remove it")
		return
	}
	src.wrap = 1 << s.WrapBits
	count := new(big.Rat).Mul(src.step, src.Unit.Factor())
	modulus := new(big.Rat).Mul(count, new(big.Rat).SetInt64(int64(src.wrap)))
	if count.Sign() <= 0 || !modulus.IsInt() || !modulus.Num().IsInt64() || modulus.Num().Int64() > src.Unit.Limit() || count.Denom().Cmp(big.NewInt(maxDenominator)) > 0 {
		f.key("wrap_bits", "%d steps of %.40s mm are no whole number of millimetres from 1 to %d: correct scale, unit or wrap_bits", src.wrap, count.RatString(), src.Unit.Limit())
		return
	}
	src.num, src.den = count.Num().Int64(), count.Denom().Int64()
	src.Signal.Modulus = modulus.Num().Int64()
}

// resolution is a step in millimetres, rounded up, at least 1 and at most the largest distance.
func resolution(step *big.Rat, u vss.Unit) int64 {
	mm := new(big.Rat).Mul(step, u.Factor())
	mm.Abs(mm)
	q, r := new(big.Int).QuoRem(mm.Num(), mm.Denom(), new(big.Int))
	if r.Sign() != 0 {
		q.Add(q, big.NewInt(1))
	}
	if !q.IsInt64() {
		return u.Limit()
	}
	return min(max(q.Int64(), 1), u.Limit())
}

// Sample converts a value in unit u; raw is its number before any factor. It does not allocate.
func (c *Conversion) Sample(u vss.Unit, raw int64, physical float64) (int64, bool) {
	switch {
	case c.active != nil:
		if slices.Contains(c.active, raw) {
			return 1, true
		}
		return 0, true
	case c.wrap != 0:
		if uint64(raw) >= c.wrap {
			return 0, false
		}
		return (raw*c.num + c.den/2) / c.den, true
	}
	// The conversion forbids fusing, so that every processor gets the same number.
	return u.Sample(float64(physical*c.scale) + c.offset)
}

// find looks a DBC signal up and tells why it cannot be had.
func (m *Map) find(bus int, name string, anySource bool, key string, f *faults) *dbc.Signal {
	if m.Buses[bus].DBC == "" {
		f.key(key, "bus %.40q has no dbc file", m.Buses[bus].Name)
		return nil
	}
	db := m.database(m.Buses[bus].DBC)
	if db.err != nil {
		f.count++ // told with the bus
		return nil
	}
	sig, err := db.find(name, anySource)
	if err != nil {
		f.key(key, "%v", err)
		return nil
	}
	if math.IsNaN(sig.Scale) || math.IsInf(sig.Scale, 0) || sig.Scale == 0 {
		f.key(key, "the factor %v of signal %s is no number to count with", sig.Scale, sig.Name)
		return nil
	}
	return sig
}
