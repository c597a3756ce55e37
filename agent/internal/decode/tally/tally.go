// Package tally sums a capture up: how many frames and identifiers each bus had, and what each signal said on each bus.
//
// Memory depends on the number of signals, buses and identifiers, each bounded, and not on the length of the capture. The package
// refuses to merge buses, and to count as a number what a sender marked as not available.
package tally

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"rawstone/pkg/can"
)

// maxIDs bounds the identifiers that are told apart; a capture of a car has hundreds.
const maxIDs = 1 << 16

// A Database is what a summary tells of a DBC file.
type Database struct {
	File     string `json:"file"`
	Bus      string `json:"bus,omitempty"` // that it is for; empty for every bus
	Messages int    `json:"messages"`
	Signals  int    `json:"signals"`
	Warnings int    `json:"warnings"`
}

// A Tally is the sum of a capture. It is not safe for concurrent use.
type Tally struct {
	databases []Database
	names     []string // of the signals
	frames    int
	buses     []busTally
	signals   [][]*signalTally // by bus and signal, nil for what did not come
	seen      map[busID]struct{}
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

// New returns a Tally of signals with these names, unique ones, which come from these databases.
func New(databases []Database, names []string) *Tally {
	return &Tally{databases: databases, names: names, seen: map[busID]struct{}{}}
}

// Begin adds a bus; the first is the one whose frames have Bus 0.
func (t *Tally) Begin(bus string) {
	t.buses = append(t.buses, busTally{Bus: bus})
	t.signals = append(t.signals, nil)
}

// Frame counts a frame of a bus that has begun.
func (t *Tally) Frame(f *can.Frame) {
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

// Value counts a value of the signal with that index in names, on a bus that has begun; of one that is not available, number means
// nothing.
func (t *Tally) Value(bus uint8, signal int, number float64, available bool) {
	if t.signals[bus] == nil {
		t.signals[bus] = make([]*signalTally, len(t.names))
	}
	s := t.signals[bus][signal]
	if s == nil {
		s = &signalTally{Signal: t.names[signal], Bus: t.buses[bus].Bus}
		t.signals[bus][signal] = s
	}
	s.Count++
	if !available {
		s.NotAvailable++
		return
	}
	if s.First == nil {
		four := [4]float64{number, number, number, number}
		s.First, s.Last, s.Min, s.Max = &four[0], &four[1], &four[2], &four[3]
	}
	*s.Last, *s.Min, *s.Max = number, min(*s.Min, number), max(*s.Max, number)
}

// observed returns the signals that came, by name and then by bus, and how many came on no bus.
func (t *Tally) observed() (seen []*signalTally, unseen int) {
	seen = []*signalTally{}
	for signal := range t.names {
		n := len(seen)
		for _, signals := range t.signals {
			if signals != nil && signals[signal] != nil {
				seen = append(seen, signals[signal])
			}
		}
		if len(seen) == n {
			unseen++
		}
	}
	return seen, unseen
}

// WriteJSON writes the sum as one document; broken is how many lines of the capture were left out.
func (t *Tally) WriteJSON(out io.Writer, broken int) error {
	seen, unseen := t.observed()
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		DBC     []Database     `json:"dbc"`
		Frames  int            `json:"frames"`
		Broken  int            `json:"broken_lines"`
		Buses   []busTally     `json:"buses"`
		Signals []*signalTally `json:"signals"`
		Unseen  int            `json:"signals_not_seen"`
	}{append([]Database{}, t.databases...), t.frames, broken, append([]busTally{}, t.buses...), seen, unseen})
}

// WriteText writes the sum as tables for people; broken is as in WriteJSON.
func (t *Tally) WriteText(out io.Writer, broken int) error {
	seen, unseen := t.observed()
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, db := range t.databases {
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

// text writes a number as people do where that shows no more digits than a float64 tells apart of every number: up to 15
// significant ones, in at most 24 characters.
func text(v *float64) string {
	if v == nil {
		return "-"
	}
	mantissa, _, _ := strings.Cut(strconv.FormatFloat(*v, 'e', -1, 64), "e")
	plain := strconv.FormatFloat(*v, 'f', -1, 64)
	if len(strings.TrimLeft(mantissa, "-")) <= len("1.")+14 && len(plain) <= 24 {
		return plain
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}
