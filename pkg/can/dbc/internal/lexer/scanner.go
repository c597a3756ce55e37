// Package lexer cuts the text of a DBC file into statements, and statements into tokens; SG_, the line with the richest form, it
// reads whole. It is tolerant: a line that is no statement, or a string that is never closed, costs itself and nothing after it.
// It keeps no copies, takes time linear in the text, and knows nothing of what statements mean.
package lexer

import "bytes"

// A Statement is a keyword and what follows it, up to the line end or, for those the format ends with a semicolon, up to that.
type Statement struct {
	Line    int // where it begins, from 1
	Keyword string
	Body    []byte // shares the file's memory
}

// A Scanner cuts a file into statements.
type Scanner struct {
	data []byte
	pos  int
	line int  // number of the line at pos
	end  int  // where that line ends, when it is not before pos
	open bool // a comment is never closed: no further one is
	warn func(line int, reason string)
}

// NewScanner returns a Scanner of data that tells warn what it skips, and at which line.
func NewScanner(data []byte, warn func(line int, reason string)) *Scanner {
	return &Scanner{data: data, line: 1, warn: warn}
}

// Next returns the next statement that may be of use; ok is false at the end.
func (s *Scanner) Next() (st Statement, ok bool) {
	for s.pos < len(s.data) {
		start, number := s.pos, s.line
		if s.end < start || start == 0 {
			s.end = lineEnd(s.data, start)
		}
		text := bytes.TrimLeft(s.data[start:s.end], blanks)
		s.pos, s.line = s.end+1, number+1
		if len(text) == 0 || bytes.HasPrefix(text, []byte("//")) {
			continue
		}
		if bytes.HasPrefix(text, []byte("/*")) && s.comment(text, number) {
			continue
		}
		word := firstWord(text)
		body := bytes.TrimLeft(text[len(word):], blanks)
		switch keyword := string(word); keyword {
		case "BO_", "SG_":
			if len(body) > 0 {
				return Statement{number, keyword, body}, true
			}
		case "VERSION", "NS_", "BS_", "BU_":
		default:
			if len(body) == 0 { // a name of the NS_ list, or of a long BU_ list
				continue
			}
			if !endsWithSemicolon(keyword) {
				s.warn(number, "the line begins with no keyword of a DBC file and is skipped")
				continue
			}
			s.pos, s.line = s.end-len(text)+len(word), number
			return Statement{number, keyword, s.gather(number)}, true
		}
	}
	return Statement{}, false
}

// comment skips a comment in the manner of C that begins with text on line number; ok is false when it is never closed, and then
// only its first line is lost.
func (s *Scanner) comment(text []byte, number int) (ok bool) {
	start := s.end - len(text)
	if s.open {
		return false
	}
	n := bytes.Index(s.data[start+2:], []byte("*/"))
	if s.open = n < 0; s.open {
		return false
	}
	s.pos = start + n + 4
	s.line = number + bytes.Count(s.data[start:s.pos], []byte{'\n'})
	return true
}

// gather returns the text from pos to the next semicolon outside a string and leaves pos behind it. A keyword at
// the beginning of a line ends the statement as well, even inside a string: a missing quote must not swallow the rest of the
// file.
func (s *Scanner) gather(number int) []byte {
	start, quoted := s.pos, false
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '\\' && quoted && i+1 < len(s.data) && s.data[i+1] == '"':
			if !closesStatement(s.data[i+2:]) { // else it is the last backslash of a Windows path
				i++
			}
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted:
			s.pos = i + 1
			return s.data[start:i]
		case c == '\n':
			s.line++
			if beginsStatement(s.data[i+1:]) {
				if quoted {
					s.warn(number, "a string of the statement is not closed")
				}
				s.pos = i + 1
				return s.data[start:i]
			}
		}
	}
	if quoted {
		s.warn(number, "a string of the statement is not closed")
	}
	s.pos = len(s.data)
	return s.data[start:]
}

// closesStatement reports whether nothing but a semicolon stands on the rest of the line.
func closesStatement(data []byte) bool {
	i := 0
	for i < len(data) && (data[i] == ' ' || data[i] == '\t') {
		i++
	}
	if i == len(data) || data[i] != ';' {
		return false
	}
	i++
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i == len(data) || data[i] == '\n'
}

// lineEnd returns the index of the line feed that ends the line at i, or the length of data.
func lineEnd(data []byte, i int) int {
	if n := bytes.IndexByte(data[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(data)
}

const blanks = " \t\r\v\f"

// firstWord returns the bytes before the first blank or colon.
func firstWord(text []byte) []byte {
	if i := bytes.IndexAny(text, blanks+":"); i >= 0 {
		return text[:i]
	}
	return text
}

// beginsStatement reports whether a line begins with a keyword and has something behind it.
func beginsStatement(data []byte) bool {
	text := bytes.TrimLeft(data[:min(len(data), 200)], " \t")
	i := bytes.IndexAny(text, " \t:\r\n")
	if i <= 0 || text[i] == '\r' || text[i] == '\n' {
		return false
	}
	keyword := string(text[:i])
	return keyword == "BO_" || keyword == "SG_" || keyword == "BU_" || endsWithSemicolon(keyword)
}

// endsWithSemicolon reports whether keyword begins one of the statements that may span lines.
func endsWithSemicolon(keyword string) bool {
	switch keyword {
	case "CM_", "VAL_", "VAL_TABLE_", "SIG_VALTYPE_", "SIGTYPE_VALTYPE_", "SG_MUL_VAL_", "BO_TX_BU_", "SIG_GROUP_",
		"BA_", "BA_DEF_", "BA_DEF_DEF_", "BA_DEF_SGTYPE_", "BA_SGTYPE_", "BA_REL_", "BA_DEF_REL_", "BA_DEF_DEF_REL_",
		"BU_SG_REL_", "BU_EV_REL_", "BU_BO_REL_", "EV_", "EV_DATA_", "ENVVAR_DATA_", "SGTYPE_", "SGTYPE_VAL_",
		"SIG_TYPE_REF_", "CAT_", "CAT_DEF_", "FILTER":
		return true
	}
	return false
}
