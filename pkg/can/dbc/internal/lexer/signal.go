package lexer

import "bytes"

// A Signal is what an SG_ line says, as it stands there.
type Signal struct {
	Name string
	// Multiplexor is the mark M, Selected the mark m; Selector is the number of m, when it is Numbered.
	Multiplexor, Selected, Numbered bool
	Selector                        uint64
	Start, Length                   uint64
	BigEndian, Signed               bool
	Scale, Offset, Min, Max         float64
	Unit                            string
}

const signalForm = "the signal is skipped: write SG_ name : start|length@order sign (scale,offset) [min|max] \"unit\" receivers"

// ParseSignal reads the body of an SG_ line; reason is a sentence when it is none.
func ParseSignal(body []byte) (s Signal, reason string) {
	c := NewCursor(body)
	if s.Name = c.Name(); s.Name == "" {
		return s, signalForm
	}
	if !c.Accept(':') {
		mark := c.Name()
		number, multiplexor := bytes.CutSuffix([]byte(mark), []byte("M"))
		if s.Multiplexor = multiplexor; len(number) > 0 {
			n := NewCursor(number)
			if s.Selected = n.Accept('m'); !s.Selected {
				return s, signalForm
			}
			s.Selector, s.Numbered = n.Unsigned()
			if !n.End() || multiplexor && !s.Numbered {
				return s, signalForm
			}
		}
		if !c.Accept(':') {
			return s, signalForm
		}
	}
	var ok1, ok3 bool
	s.Start, ok1 = c.Unsigned()
	ok2 := c.Accept('|')
	s.Length, ok3 = c.Unsigned()
	ok4 := c.Accept('@')
	order, ok5 := c.Unsigned()
	s.Signed = c.Accept('-')
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || order > 1 || !s.Signed && !c.Accept('+') {
		return s, signalForm
	}
	s.BigEndian = order == 0
	for _, part := range []struct {
		mark byte
		into *float64
	}{{'(', &s.Scale}, {',', &s.Offset}, {')', nil}, {'[', &s.Min}, {'|', &s.Max}, {']', nil}} {
		if !c.Accept(part.mark) {
			return s, signalForm
		}
		if part.into == nil {
			continue
		}
		var ok bool
		if *part.into, ok = c.Float(); !ok {
			return s, "the signal is skipped: scale, offset and range must be finite decimal numbers"
		}
	}
	unit, ok := c.Quoted()
	if !ok {
		return s, signalForm
	}
	s.Unit = unit
	return s, ""
}
