package decode

import (
	"bufio"

	"rawstone/agent/internal/decode/tally"
	"rawstone/pkg/can"
)

// summary prints what a capture says in sum.
type summary struct {
	tally *tally.Tally
	out   *bufio.Writer
	json  bool
}

func newSummary(src source, o *Options, out *bufio.Writer) *summary {
	var names []string
	for _, c := range src.columns() {
		names = append(names, c.long)
	}
	return &summary{tally: tally.New(src.summary(), names), out: out, json: o.JSON}
}

func (s *summary) begin(bus string) { s.tally.Begin(bus) }

func (s *summary) frame(f *can.Frame) { s.tally.Frame(f) }

func (s *summary) value(f *can.Frame, v *value) error {
	s.tally.Value(f.Bus, v.column, v.number, v.available)
	return nil
}

func (s *summary) end(broken int) error {
	if s.json {
		return s.tally.WriteJSON(s.out, broken)
	}
	return s.tally.WriteText(s.out, broken)
}
