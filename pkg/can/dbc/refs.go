package dbc

import "rawstone/pkg/can/dbc/internal/lexer"

// tableLine reads VAL_TABLE_ name pairs ;
func (p *parser) tableLine(st lexer.Statement) {
	c := lexer.NewCursor(st.Body)
	name := c.Name()
	if name == "" {
		p.warn(st.Line, "the value table is skipped: write VAL_TABLE_ name number \"text\" … ;")
		return
	}
	p.tables[name] = p.pairs(st.Line, &c)
}

// pairs reads number "text" pairs to the end of a statement; what follows a broken one is lost.
func (p *parser) pairs(line int, c *lexer.Cursor) map[int64]string {
	table := map[int64]string{}
	for !c.End() {
		key, ok1 := c.Integer()
		text, ok2 := c.Quoted()
		if !ok1 || !ok2 || p.values == MaxValues {
			p.warn(line, "the value table ends after %d entries: write number \"text\", at most %d in a file", len(table), MaxValues)
			break
		}
		p.values++
		table[key] = text
	}
	return table
}

// target takes the identifier and the signal name that VAL_, SIG_VALTYPE_ and SG_MUL_VAL_ begin with, and returns the signals
// meant: several when messages share the identifier, none when that was warned of.
func (p *parser) target(st lexer.Statement, c *lexer.Cursor) (messages []*Message, signals []*Signal) {
	number, ok := c.Unsigned()
	name := c.Name()
	if !ok || name == "" {
		p.warn(st.Line, "the line is skipped: write %s id signal …", st.Keyword)
		return nil, nil
	}
	if number == independent {
		return nil, nil
	}
	if id, _, ok := messageID(number); ok {
		for _, m := range p.byID[id] {
			if s := p.signals[signalKey{m, name}]; s != nil {
				messages, signals = append(messages, m), append(signals, s)
			}
		}
	}
	if len(signals) == 0 {
		p.warn(st.Line, "the line is skipped: no message %d with a signal %q was read", number, name)
	}
	return messages, signals
}

// valueLine reads VAL_ id signal pairs ; or with a table's name in place of the pairs. Without an identifier it is about an
// environment variable and has no use here.
func (p *parser) valueLine(st lexer.Statement) {
	c := lexer.NewCursor(st.Body)
	number := c
	if _, ok := number.Unsigned(); !ok {
		return
	}
	_, signals := p.target(st, &c)
	if len(signals) == 0 {
		return
	}
	var table map[int64]string
	rest := c
	if name := rest.Name(); name != "" && p.tables[name] != nil && rest.End() {
		table = p.tables[name]
	} else {
		table = p.pairs(st.Line, &c)
	}
	for _, s := range signals {
		s.Values = table
	}
}

// typeLine reads SIG_VALTYPE_ id signal : type ; with 0 for integer, 1 for binary32, 2 for binary64.
func (p *parser) typeLine(st lexer.Statement) {
	c := lexer.NewCursor(st.Body)
	_, signals := p.target(st, &c)
	c.Accept(':')
	kind, ok := c.Unsigned()
	for _, s := range signals {
		if ok && (kind == 1 && s.Length == 32 || kind == 2 && s.Length == 64) {
			s.Float = true
		} else if !ok || kind != 0 {
			p.warn(st.Line, "signal %q of %d bits stays an integer: write 1 for a float of 32 bits, 2 for one of 64", s.Name, s.Length)
		}
	}
}

// rangesLine reads SG_MUL_VAL_ id signal switch from-to, from-to ;
func (p *parser) rangesLine(st lexer.Statement) {
	c := lexer.NewCursor(st.Body)
	messages, signals := p.target(st, &c)
	if len(signals) == 0 {
		return
	}
	name, ok := c.Name(), true
	var ranges []Range
	for ok && len(ranges) <= maxRanges && !c.End() {
		var r Range
		r.From, ok = c.Unsigned()
		if r.To = r.From; ok && c.Accept('-') {
			r.To, ok = c.Unsigned()
		}
		ok = ok && r.From <= r.To
		ranges = append(ranges, r)
		c.Accept(',')
	}
	if !ok || len(ranges) == 0 || len(ranges) > maxRanges {
		p.warn(st.Line, "the line is skipped: write SG_MUL_VAL_ id signal switch from-to, … ; with at most %d ranges", maxRanges)
		return
	}
	for i, s := range signals {
		if name == s.Name || p.signals[signalKey{messages[i], name}] == nil {
			p.warn(st.Line, "the line is skipped: message %q has no other signal %q", messages[i].Name, name)
			continue
		}
		s.Mux = &Mux{Switch: name, Ranges: ranges}
		p.lines[s] = st.Line
	}
}

// resolveSwitches finds the switch of simple multiplexing: the message's one signal marked M.
func (p *parser) resolveSwitches() {
	for _, m := range p.file.Messages {
		name, n := "", 0
		for _, s := range m.Signals {
			if s.Multiplexor && s.Mux == nil {
				name = s.Name
				n++
			}
		}
		for _, s := range m.Signals {
			switch {
			case s.Mux == nil || s.Mux.Switch != "":
			case n == 1:
				s.Mux.Switch = name
			default:
				p.warn(p.lines[s], "signal %q is multiplexed, and message %q has %d signals marked M: name one with SG_MUL_VAL_", s.Name, m.Name, n)
			}
		}
	}
}
