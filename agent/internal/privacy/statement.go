package privacy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/terms"
)

// pureDelta is the total δ at which a year of pure releases is told, whose charter names none.
const pureDelta = 1e-6

// A Statement is what the driver is told of the year's privacy budget.
type Statement struct {
	// Ledger says how it stands; Problem what is wrong, empty where nothing is. What was spent is known with StateSound alone: the
	// figures of it are 0 otherwise, and null in JSON.
	Ledger  State  `json:"ledger"`
	Problem string `json:"problem,omitempty"`
	// Days is the length of the sliding year in program days.
	Days uint64 `json:"days"`
	// Spent is the ε of all releases of the year together, and Limit that of as many as the charter allows, each at a total δ of Delta.
	Spent float64 `json:"spent_epsilon"`
	// AtLeast is, with StateRolledBack, what the older copy has of it.
	AtLeast float64 `json:"spent_epsilon_at_least,omitempty"`
	Limit   float64 `json:"limit_epsilon"`
	Delta   float64 `json:"total_delta"`
	// Yearly is how many reports the charter allows in a year; LeftMilli the part of the budget that is left, in thousandths.
	Yearly    int `json:"yearly_reports"`
	LeftMilli int `json:"left_milli"`
	// Releases are those of the year, oldest first; Ever counts all.
	Releases []Release `json:"releases"`
	Ever     uint64    `json:"releases_ever"`
	// Next is the UTC date of the first program day from today on which another report fits, empty where none does.
	Next string `json:"next,omitempty"`
}

// MarshalJSON writes null for what is not known.
func (s Statement) MarshalJSON() ([]byte, error) {
	type known Statement
	if s.Ledger == StateSound {
		return json.Marshal(known(s))
	}
	return json.Marshal(struct {
		known
		Spent     *float64  `json:"spent_epsilon"`
		LeftMilli *int      `json:"left_milli"`
		Releases  []Release `json:"releases"`
		Ever      *uint64   `json:"releases_ever"`
	}{known: known(s)})
}

// A Release is one report, whether it left the car or was lost.
type Release struct {
	// Day is the program day of the dispatch by the ECU's clock, Date the UTC date on which it begins.
	Day  uint64 `json:"day"`
	Date string `json:"date"`
	// Epsilon and Delta are what it cost by itself.
	Epsilon float64 `json:"epsilon"`
	Delta   float64 `json:"delta"`
	// Told says in the journal's words what it told, empty where the journal does not have it: it was lost before it was made, or the
	// journal was wiped since.
	Told string `json:"told,omitempty"`
	// Outcome says in the journal's words how it ended, empty while it waits to be sent or where the journal does not have it.
	Outcome string `json:"outcome,omitempty"`
}

// Statement returns how the budget stands today. journal returns what the journal has of the report of a program day: what it tells and
// how it ended, empty for nothing.
func (p *Purse) Statement(t terms.Timing, today uint32, journal func(day uint32) (told, outcome string)) (Statement, error) {
	s := Statement{Ledger: p.State(), Problem: p.Problem(), Days: budget.DefaultWindow, Yearly: int(p.usage.YearlyDispatches), Delta: float64(p.cost.PicoDelta) / 1e12, Releases: []Release{}}
	if s.Delta == 0 {
		s.Delta = pureDelta
	}
	var err error
	if s.Limit, err = budget.YearEpsilon(p.cost, int64(s.Yearly), s.Delta); err != nil {
		return Statement{}, fmt.Errorf("cannot state privacy budget: %w", err)
	}
	if p.ledger == nil {
		return s, nil
	}
	now := uint64(today)
	sum := p.ledger.Summary(now)
	if s.Ledger != StateSound {
		if s.Ledger == StateRolledBack {
			s.AtLeast, err = sum.Epsilon(s.Delta)
		}
		return s, err
	}
	s.Ever, s.LeftMilli = sum.Releases, p.Left(today)
	if s.Spent, err = sum.Epsilon(s.Delta); err != nil {
		return Statement{}, fmt.Errorf("cannot state privacy budget: %w", err)
	}
	for _, c := range p.ledger.Charges(now) {
		told, outcome := journal(uint32(c.Epoch))
		s.Releases = append(s.Releases, Release{
			Day: c.Epoch, Date: date(t, c.Epoch), Epsilon: float64(c.Cost.MicroEpsilon) / 1e6, Delta: float64(c.Cost.PicoDelta) / 1e12, Told: told, Outcome: outcome,
		})
	}
	next, err := p.ledger.Next(now, p.cost)
	if err == nil {
		s.Next = date(t, next)
	} else if !errors.Is(err, budget.ErrExhausted) && !errors.Is(err, budget.ErrPast) {
		return Statement{}, fmt.Errorf("cannot state privacy budget: %w", err)
	}
	return s, nil
}

func date(t terms.Timing, epoch uint64) string {
	return t.DayStart(uint32(epoch)).Format(time.DateOnly)
}

// families returns the families in the journal's sentence.
func (r Release) families() string {
	if r.Told == "" {
		return "not in the journal"
	}
	if _, after, ok := strings.Cut(r.Told, ": "); ok {
		if names, _, ok := strings.Cut(after, "."); ok {
			return names
		}
	}
	return r.Told
}

// end says how the release ended.
func (r Release) end() string {
	if r.Outcome == "" && r.Told != "" {
		return "waits to be sent"
	}
	return r.Outcome
}

// Write prints the statement.
func (s Statement) Write(w io.Writer) error {
	if s.Ledger != StateSound {
		least := ""
		if s.AtLeast > 0 {
			least = fmt.Sprintf(": at least epsilon = %.2f in the last %d days, at a total delta of %g", s.AtLeast, s.Days, s.Delta)
		}
		_, err := fmt.Fprintf(w, "Usage reports are off: %s.\nWhat was spent is not known%s.\n", s.Problem, least)
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "Privacy budget of the last %d days: %d of %d reports; together epsilon = %.2f at a total delta of %g\n", s.Days, len(s.Releases), s.Yearly, s.Spent, s.Delta)
	fmt.Fprintf(t, "(a full year: %.2f; it does not add up in a straight line).\n", s.Limit)
	if s.Problem == "" {
		fmt.Fprintln(t, "The ledger is sound.")
	} else {
		fmt.Fprintf(t, "Usage reports are off: %s.\n", s.Problem)
	}
	if len(s.Releases) > 0 {
		fmt.Fprintln(t, "\nDATE\tEPSILON\tDELTA\tFAMILIES\tOUTCOME")
		for _, r := range s.Releases {
			fmt.Fprintf(t, "%s\t%g\t%g\t%s\t%s\n", r.Date, r.Epsilon, r.Delta, r.families(), r.end())
		}
		fmt.Fprintln(t)
	} else if s.Ledger == StateSound {
		fmt.Fprintln(t, "No usage report was made in that time.")
	}
	if s.Next != "" {
		fmt.Fprintf(t, "The next report fits on %s.\n", s.Next)
	} else if s.Ledger == StateSound {
		fmt.Fprintln(t, "No further report fits.")
	}
	return t.Flush()
}
