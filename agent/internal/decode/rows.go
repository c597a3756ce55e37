package decode

import (
	"bufio"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"rawstone/agent/internal/decode/capture"
	"rawstone/pkg/can"
)

// rows prints one line a value.
type rows struct {
	out      *bufio.Writer
	json     bool
	raw      bool
	spelling capture.Spelling
	names    []string // by column, as CSV or JSON
	buses    []string
	line     []byte
}

func newRows(src source, o *Options, s capture.Spelling, out *bufio.Writer) (*rows, error) {
	r := &rows{out: out, json: o.JSON, raw: o.Raw, spelling: s}
	for _, c := range src.columns() {
		r.names = append(r.names, r.quote(c.name))
	}
	if r.json {
		return r, nil
	}
	heading := "t,bus,id,signal,value\n"
	if r.raw {
		heading = "t,bus,id,signal,value,raw\n"
	}
	_, err := out.WriteString(heading)
	return r, err
}

// quote returns a name as JSON, or as a field of CSV (RFC 4180).
func (r *rows) quote(name string) string {
	if r.json {
		text, _ := json.Marshal(name) // of a string there is no error
		return string(text)
	}
	if strings.ContainsAny(name, ",\"\r\n") {
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return name
}

func (r *rows) begin(bus string) { r.buses = append(r.buses, r.quote(bus)) }

func (r *rows) frame(*can.Frame) {}

func (r *rows) end(int) error { return nil }

func (r *rows) value(f *can.Frame, v *value) error {
	line := r.line[:0]
	if r.json {
		line = r.spelling.Append(append(line, `{"t":"`...), v.time)
		line = append(append(line, `","bus":`...), r.buses[f.Bus]...)
		line = appendID(append(line, `,"id":"`...), f.ID)
		line = append(append(line, `","signal":`...), r.names[v.column]...)
		line = append(line, `,"value":`...)
		if v.available {
			line = appendNumber(line, v.number)
		} else {
			line = append(line, "null"...)
		}
		if r.raw || !v.available {
			line = appendRaw(append(line, `,"raw":`...), v)
		}
		line = append(line, "}\n"...)
	} else {
		line = append(r.spelling.Append(line, v.time), ',')
		line = append(append(line, r.buses[f.Bus]...), ',')
		line = append(appendID(line, f.ID), ',')
		line = append(append(line, r.names[v.column]...), ',')
		if v.available {
			line = appendNumber(line, v.number)
		}
		if r.raw {
			line = appendRaw(append(line, ','), v)
		}
		line = append(line, '\n')
	}
	r.line = line
	_, err := r.out.Write(line)
	return err
}

// appendID appends candump's form: three hex digits for a standard identifier, eight for an extended one.
func appendID(dst []byte, id can.ID) []byte {
	digits := 3
	if id.IsExtended() {
		digits = 8
	}
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, "0123456789ABCDEF"[id.Raw()>>shift&15])
	}
	return dst
}

// appendNumber appends the shortest decimal number that reads back as v, which is finite, with an exponent where JSON's writers
// (ECMA-262, 6.1.6.1.20) have one.
func appendNumber(dst []byte, v float64) []byte {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, 64)
}

func appendRaw(dst []byte, v *value) []byte {
	if v.signed {
		return strconv.AppendInt(dst, int64(v.raw), 10)
	}
	return strconv.AppendUint(dst, v.raw, 10)
}
