package dbc

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/lexer"
)

// Parse reads a DBC file; name is only for warnings. It always returns a File, with all it understood. Text that is not
// UTF-8 is read as ISO 8859-1. Warnings are in the order of lines; of more than 1,000 the last one says how many are missing.
func Parse(name string, data []byte) (*File, []Warning) {
	p := &parser{
		name: name, file: &File{}, byID: map[can.ID][]*Message{}, signals: map[signalKey]*Signal{},
		lines: map[*Signal]int{}, tables: map[string]map[int64]string{},
	}
	if len(data) > MaxFile {
		p.warn(0, "the file is larger than 16 MiB and is not read: split it")
		return p.file, p.warnings
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if bytes.IndexByte(data, '\n') < 0 {
		data = bytes.ReplaceAll(data, []byte{'\r'}, []byte{'\n'}) // line ends of old Macintosh tools
	}
	p.statements(lexer.NewScanner(data, func(line int, reason string) { p.warn(line, "%s", reason) }))
	p.resolveSwitches()
	slices.SortStableFunc(p.warnings, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	if p.unsaid > 0 {
		p.warnings = append(p.warnings, Warning{File: name, Reason: fmt.Sprintf("%d more warnings are not listed", p.unsaid)})
	}
	return p.file, p.warnings
}

// statements reads messages, signals and tables first, then what refers to them, wherever in the file it stands.
func (p *parser) statements(s *lexer.Scanner) {
	var references []lexer.Statement
	for st, ok := s.Next(); ok; st, ok = s.Next() {
		switch st.Keyword {
		case "BO_":
			p.messageLine(st)
		case "SG_":
			p.signalLine(st)
		case "VAL_TABLE_":
			p.tableLine(st)
		case "VAL_", "SIG_VALTYPE_", "SG_MUL_VAL_":
			if len(references) == maxReferences {
				p.warn(st.Line, "the line is skipped: the file has more than %d of its kind", maxReferences)
				continue
			}
			references = append(references, st)
		}
	}
	for _, st := range references {
		switch st.Keyword {
		case "VAL_":
			p.valueLine(st)
		case "SIG_VALTYPE_":
			p.typeLine(st)
		default:
			p.rangesLine(st)
		}
	}
}

type signalKey struct {
	message *Message
	name    string
}

type parser struct {
	name     string
	file     *File
	warnings []Warning
	unsaid   int // warnings beyond maxWarnings

	message *Message // that SG_ lines belong to
	skip    bool     // SG_ lines belong to nothing, and that was said
	byID    map[can.ID][]*Message
	signals map[signalKey]*Signal
	lines   map[*Signal]int // of multiplexed signals
	tables  map[string]map[int64]string
	values  int // entries in all tables
}

func (p *parser) warn(line int, format string, args ...any) {
	if len(p.warnings) == maxWarnings {
		p.unsaid++
		return
	}
	p.warnings = append(p.warnings, Warning{File: p.name, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// independent is the message that some tools put signals of no message into.
const independent = 0xC0000000

func (p *parser) messageLine(st lexer.Statement) {
	p.message, p.skip = nil, true
	c := lexer.NewCursor(st.Body)
	number, ok1 := c.Unsigned()
	name := c.Name()
	c.Accept(':')
	length, ok2 := c.Unsigned()
	if !ok1 || name == "" || !ok2 {
		p.warn(st.Line, "the message is skipped with its signals: write BO_ id name: length sender")
		return
	}
	if number == independent || name == "VECTOR__INDEPENDENT_SIG_MSG" {
		return
	}
	id, flagged, ok := messageID(number)
	switch {
	case !ok:
		p.warn(st.Line, "message %q is skipped with its signals: its identifier %d has more than 29 bits", name, number)
		return
	case len(p.file.Messages) == MaxMessages:
		p.warn(st.Line, "message %q is skipped with its signals: the file has more than %d messages", name, MaxMessages)
		return
	case len(p.byID[id]) == maxSameID:
		p.warn(st.Line, "message %q is skipped with its signals: %d others have its identifier", name, maxSameID)
		return
	}
	if bytes.Contains(st.Body, []byte(" SG_ ")) {
		p.warn(st.Line, "a signal on the line of message %q is skipped: give it a line of its own", name)
	}
	if !flagged {
		p.warn(st.Line, "identifier %d of message %q is read as an extended one: add 2147483648 to say so", number, name)
	}
	if others := p.byID[id]; len(others) > 0 {
		p.warn(st.Line, "message %q has the identifier of %q: both are kept, a frame is decoded as either", name, others[0].Name)
	}
	p.message, p.skip = &Message{ID: id, Name: name, Length: int(min(length, maxLength))}, false
	p.file.Messages = append(p.file.Messages, p.message)
	p.byID[id] = append(p.byID[id], p.message)
}

// messageID converts the number of a BO_ line: bit 31 marks an extended identifier. flagged is false when the number needs the
// mark and lacks it.
func messageID(number uint64) (id can.ID, flagged, ok bool) {
	switch {
	case number <= uint64(can.MaxStandard):
		return can.ID(number), true, true
	case number <= uint64(can.MaxExtended):
		return can.ID(number) | can.Extended, false, true
	}
	number -= uint64(can.Extended) // wraps around below the mark
	return can.ID(number) | can.Extended, true, number <= uint64(can.MaxExtended)
}

func (p *parser) signalLine(st lexer.Statement) {
	if p.message == nil {
		if !p.skip {
			p.warn(st.Line, "the signal is skipped: it follows no BO_ line")
		}
		return
	}
	text, reason := lexer.ParseSignal(st.Body)
	if reason != "" {
		p.warn(st.Line, "%s", reason)
		return
	}
	s := &Signal{
		Name: text.Name, Start: int(min(text.Start, maxLength)), Length: int(min(text.Length, maxLength)), BigEndian: text.BigEndian,
		Signed: text.Signed, Scale: text.Scale, Offset: text.Offset, Min: text.Min, Max: text.Max, Unit: text.Unit,
		Multiplexor: text.Multiplexor,
	}
	switch {
	case text.Selected && text.Numbered:
		s.Mux = &Mux{Ranges: []Range{{text.Selector, text.Selector}}}
	case text.Selected:
		s.Multiplexor = true
		p.warn(st.Line, "the mark m of signal %q lacks its number and is read as M, the switch", s.Name)
	}
	key := signalKey{p.message, s.Name}
	field, ok := locate(s)
	switch {
	case p.signals[key] != nil:
		p.warn(st.Line, "signal %q is skipped: message %q has one of that name above", s.Name, p.message.Name)
		return
	case len(p.signals) == MaxSignals:
		p.warn(st.Line, "signal %q is skipped: the file has more than %d signals", s.Name, MaxSignals)
		return
	case !ok:
		p.warn(st.Line, "signal %q is skipped: 1 to 64 bits within 64 bytes can be decoded, not %d", s.Name, s.Length)
		return
	case int(field.Need) > p.message.Length:
		p.warn(st.Line, "signal %q ends in byte %d of a message of %d: only longer frames have it", s.Name, field.Need, p.message.Length)
	}
	if s.Mux != nil {
		p.lines[s] = st.Line
	}
	p.signals[key] = s
	p.message.Signals = append(p.message.Signals, s)
}
