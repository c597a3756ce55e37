package consent

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"rawstone/agent/internal/report"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// An Option is something that the driver may turn on.
type Option struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	// Tells says in plain words what a report or a claim tells with it on.
	Tells string `json:"tells"`
}

// A View is the decision as the driver sees it: all that the charter lets them turn on.
type View struct {
	Families []Option `json:"families"`
	Kinds    []Option `json:"kinds"`
	Cadence  Cadence  `json:"cadence"`
	// ReportDays is the time between two usage reports in program days, which the charter's yearly number may make longer than that between
	// two claims, ClaimDays.
	ClaimDays  int `json:"claim_days"`
	ReportDays int `json:"report_days"`
}

// View returns the decision for the driver.
func (c *Consent) View() View {
	choice, charter := c.Choice(), c.cfg.Charter
	v := View{Families: []Option{}, Kinds: []Option{}, Cadence: choice.Cadence, ClaimDays: choice.Cadence.Days()}
	v.ReportDays = report.EveryDays(&charter.Usage, v.ClaimDays)
	for _, l := range wire.Layouts() {
		if charter.Usage.Families&l.Family != 0 || choice.Families&l.Family != 0 {
			v.Families = append(v.Families, Option{l.Name, choice.Families&l.Family != 0, Tells(l.Name)})
		}
	}
	kinds := append(slices.Clone(charter.Kinds), choice.Kinds...)
	slices.Sort(kinds)
	for _, k := range slices.Compact(kinds) {
		if k != terms.KindMileage {
			v.Kinds = append(v.Kinds, Option{k, slices.Contains(choice.Kinds, k), Tells(k)})
		}
	}
	return v
}

// Tells says in plain words what a family or a kind tells, empty for a name that is neither.
func Tells(name string) string {
	switch name {
	case "hours":
		return "minutes in use in each hour of the day"
	case "speed":
		return "minutes in each of ten bands of speed"
	case "trips":
		return "number of trips in each of ten bands of length"
	case "charge":
		return "minutes of charging in each tenth of the battery's charge"
	case "feature":
		return "minutes of driving with each of ten features in use, such as driver assistance"
	case terms.KindSafe:
		return "that a span was driven with little speeding and few hard brakes, where it was"
	}
	if feature, ok := strings.CutPrefix(name, terms.KindFeature); ok && terms.CheckKind(name) == nil {
		return "that at least so many kilometres of a span were driven with " + feature + " in use, in few and wide steps"
	}
	return ""
}

func days(n int) string {
	if n == 1 {
		return "day"
	}
	return fmt.Sprintf("%d days", n)
}

// Write prints the view.
func (v View) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	list := func(head, none string, options []Option) {
		fmt.Fprintln(t, head)
		for _, o := range options {
			on := "off"
			if o.On {
				on = "on"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", o.Name, on, o.Tells)
		}
		if len(options) == 0 {
			fmt.Fprintln(t, "  "+none)
		}
	}
	list("Usage reports: totals of a dispatch under noise. What is off is not even recorded.", "The program's charter allows none.", v.Families)
	list("Claims: exact, and always of mileage. What is off is not proven and earns nothing.", "The program's charter allows no other kinds.", v.Kinds)
	fmt.Fprintf(t, "Cadence: %s. A claim every %s, a usage report every %s, none while nothing of it is on.\n", v.Cadence, days(v.ClaimDays), days(v.ReportDays))
	fmt.Fprintln(t, "Change with `agent consent --config FILE NAME on` (or off) and `agent cadence --config FILE daily` (or weekly, monthly).")
	return t.Flush()
}
