package decode

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"rawstone/pkg/can"
)

// maxIDs bounds the identifiers that are told apart; a capture of a car has hundreds.
const maxIDs = 1 << 16

// tally sums a capture up.
type tally struct {
	out     *bufio.Writer
	json    bool
	sources []database
	names   []string // by column
	frames  int
	buses   []busTally
	signals [][]*signalTally // by bus and column, nil for what did not come
	seen    map[busID]struct{}
}

type busID struct {
	bus uint8
	id  can.ID
}

// A busTally is about one bus. IDs is a lower bound when More is set.
type busTally struct {
	Bus    string `json:"bus"`
	Frames int    `json:"frames"`
	IDs    int    `json:"ids"`
	More   bool   `json:"more_ids,omitempty"`
}

// A signalTally is about one signal on one bus: Count values, of which the sender marked NotAvailable so, and of the others the first, last,
// least and greatest; null when there is none.
type signalTally struct {
	Signal       string   `json:"signal"`
	Bus          string   `json:"bus"`
	Count        int      `json:"count"`
	NotAvailable int      `json:"not_available"`
	First        *float64 `json:"first"`
	Last         *float64 `json:"last"`
	Min          *float64 `json:"min"`
	Max          *float64 `json:"max"`
}

func newTally(src source, o *Options, out *bufio.Writer) *tally {
	t := &tally{out: out, json: o.JSON, sources: src.summary(), seen: map[busID]struct{}{}}
	for _, c := range src.columns() {
		t.names = append(t.names, c.long)
	}
	return t
}

func (t *tally) begin(bus string) {
	t.buses = append(t.buses, busTally{Bus: bus})
	t.signals = append(t.signals, nil)
}

func (t *tally) frame(f *can.Frame) {
	t.frames++
	b := &t.buses[f.Bus]
	b.Frames++
	key := busID{f.Bus, f.ID}
	if _, ok := t.seen[key]; ok {
		return
	}
	if len(t.seen) == maxIDs {
		b.More = true
		return
	}
	t.seen[key] = struct{}{}
	b.IDs++
}

func (t *tally) value(f *can.Frame, v *value) error {
	if t.signals[f.Bus] == nil {
		t.signals[f.Bus] = make([]*signalTally, len(t.names))
	}
	s := t.signals[f.Bus][v.column]
	if s == nil {
		s = &signalTally{Signal: t.names[v.column], Bus: t.buses[f.Bus].Bus}
		t.signals[f.Bus][v.column] = s
	}
	s.Count++
	if !v.available {
		s.NotAvailable++
		return nil
	}
	if s.First == nil {
		four := [4]float64{v.number, v.number, v.number, v.number}
		s.First, s.Last, s.Min, s.Max = &four[0], &four[1], &four[2], &four[3]
	}
	*s.Last, *s.Min, *s.Max = v.number, min(*s.Min, v.number), max(*s.Max, v.number)
	return nil
}

func (t *tally) end(broken int) error {
	seen, unseen := []*signalTally{}, 0
	for column := range t.names {
		n := len(seen)
		for _, signals := range t.signals {
			if signals != nil && signals[column] != nil {
				seen = append(seen, signals[column])
			}
		}
		if len(seen) == n {
			unseen++
		}
	}
	if t.json {
		e := json.NewEncoder(t.out)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			DBC     []database     `json:"dbc"`
			Frames  int            `json:"frames"`
			Broken  int            `json:"broken_lines"`
			Buses   []busTally     `json:"buses"`
			Signals []*signalTally `json:"signals"`
			Unseen  int            `json:"signals_not_seen"`
		}{append([]database{}, t.sources...), t.frames, broken, append([]busTally{}, t.buses...), seen, unseen})
	}
	w := tabwriter.NewWriter(t.out, 0, 8, 2, ' ', 0)
	for _, db := range t.sources {
		on := ""
		if db.Bus != "" {
			on = " on " + db.Bus
		}
		fmt.Fprintf(w, "%s%s: %d messages, %d signals, %d warnings\n", db.File, on, db.Messages, db.Signals, db.Warnings)
	}
	fmt.Fprintf(w, "capture: %d frames, %d broken lines\n", t.frames, broken)
	if len(t.buses) > 0 {
		io.WriteString(w, "\nBUS\tFRAMES\tIDS\n")
	}
	for _, b := range t.buses {
		more := ""
		if b.More {
			more = " and more"
		}
		fmt.Fprintf(w, "%s\t%d\t%d%s\n", b.Bus, b.Frames, b.IDs, more)
	}
	if len(seen) > 0 {
		io.WriteString(w, "\nSIGNAL\tBUS\tCOUNT\tFIRST\tLAST\tMIN\tMAX\tNOT AVAILABLE\n")
	}
	for _, s := range seen {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%d\n", s.Signal, s.Bus, s.Count, text(s.First), text(s.Last), text(s.Min), text(s.Max), s.NotAvailable)
	}
	fmt.Fprintf(w, "\n%d signals seen, %d not\n", len(t.names)-unseen, unseen)
	return w.Flush()
}

func text(v *float64) string {
	if v == nil {
		return "-"
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}
