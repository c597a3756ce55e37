// Package statistics is the command `collector statistics`. It parses, asks package analytics and prints what it says, suppressions
// included; it decides nothing.
package statistics

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/admission"
	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/dashboard"
	"rawstone/pkg/command"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
)

// An Open returns the estimator of the configuration that a command names, which has read all reports, and the program's clock. close ends
// its use.
type Open func(cmd *cobra.Command) (e *analytics.Estimator, clock terms.Clock, close func() error, err error)

// Command returns the command.
func Command(open Open) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "statistics --config FILE [--window week|28d] [--day N] [--model NAME] [--adjusted] [--json]",
		Short: "Print usage estimates with 95 % confidence intervals, clipping bias and privacy cost",
		Long: `Print what the usage reports of a window say: means per vehicle and dispatch, shares and totals, each with its 95 % confidence interval, the
bias of clipping on a simulated fleet beside it, and what it cost every vehicle in privacy. Estimates from fewer than 1,000 reports, with a
relative standard error above 30 %, and of a model without which fewer than 1,000 reports would be left are suppressed. Numbers of reports are
rounded to hundreds and not told below 1,000; estimates have four digits.

A window ends with --day, by default the last program day that is over. Reports that come late count on the day that they were made for, so
that the same window may say more later. Reports under an earlier charter, which had other noise, are estimated apart.

--adjusted adds values after post-processing, in a column of their own: none is negative, and hours and speeds add up to the same minutes
where the same reports tell both. They have no confidence interval.`,
		Example: "  collector statistics --config /etc/rawstone/collector.yaml --window week\n" +
			"  collector statistics --config /etc/rawstone/collector.yaml --model \"Granite 2\" --json",
		Args: cobra.NoArgs,
	}
	window := cmd.Flags().String("window", "28d", "week or 28d")
	day := cmd.Flags().Int64("day", 0, "last program day of the window; by default the last one that is over")
	var q analytics.Query
	cmd.Flags().StringVar(&q.Model, "model", "", "vehicles of one model; by default the whole fleet")
	cmd.Flags().BoolVar(&q.Adjusted, "adjusted", false, "add post-processed values")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		days, ok := map[string]uint32{"week": analytics.Week, "28d": analytics.FourWeeks}[*window]
		if !ok {
			return fmt.Errorf("cannot estimate: window %q is neither week nor 28d", *window)
		}
		if err := admission.CheckModel(q.Model); err != nil {
			return fmt.Errorf("cannot estimate: %w", err)
		}
		e, clock, end, err := open(cmd)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, end()) }()
		today := clock.Today()
		last := today - min(today, 1)
		if cmd.Flags().Changed("day") {
			if *day < 0 {
				return fmt.Errorf("cannot estimate: --day %d is no program day: they begin at 0, and today is %s", *day, clock.Date(today))
			}
			if *day > int64(today) {
				return fmt.Errorf("cannot estimate: day %d is yet to come; today is %s", *day, clock.Date(today))
			}
			last = uint32(*day)
		}
		unknown(cmd.ErrOrStderr(), q.Model, e.Models())
		q.Window = analytics.Ending(last, days)
		results, err := e.Estimate(q)
		if err != nil {
			return err
		}
		if *asJSON {
			w := json.NewEncoder(cmd.OutOrStdout())
			w.SetEscapeHTML(false) // "n < 1,000" is for people
			return w.Encode(document(results, clock))
		}
		for _, r := range results {
			if err := print(cmd.OutOrStdout(), r, clock); err != nil {
				return err
			}
		}
		return nil
	}
	return command.WithConfig(cmd)
}

// unknown says of a model that it cannot be told of, whether its name is misspelt or its reports are few: which of the two is not told.
func unknown(w io.Writer, model string, models []string) {
	if model == "" || slices.Contains(models, model) {
		return
	}
	there := "there is no model yet with enough of them"
	if len(models) > 0 {
		there = "those with enough of them: " + strings.Join(models, ", ")
	}
	fmt.Fprintf(w, "there are no reports of a model %q, or fewer than %d; %s\n", model, dp.MinReports, there)
}

// print writes a charter's estimates for people.
func print(out io.Writer, r analytics.Result, clock terms.Clock) error {
	whose := "the whole fleet"
	if r.Query.Model != "" {
		whose = "model " + r.Query.Model
	}
	force := "in force"
	if !r.InForce {
		force = "an earlier one"
	}
	p := r.Privacy
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s to %s, %s, under charter %d, %s.\n", clock.Date(r.Query.Window.From), clock.Date(r.Query.Window.To), whose, r.Charter.Serial, force)
	fmt.Fprintf(w, "Each report cost its vehicle ε = %.3g, δ = %.0e; a year of %d composes to ε = %.1f at a total δ of %.0e.\n",
		p.Epsilon, p.Delta, p.Dispatches, p.YearEpsilon, p.YearDelta)
	if !r.Categorical {
		fmt.Fprintf(w, "Clipping changes %.1f %% of the simulated weeks; its bias is in the estimates and not subtracted.\n", 100*r.Clipped)
	}
	if r.PerVehicle > 0 {
		fmt.Fprintf(w, "Intervals are of 95 %%, for up to %.0f reports of one vehicle in the window.\n", r.PerVehicle)
	}
	for _, f := range r.Families {
		fmt.Fprintf(w, "\n%s, %s\n", dashboard.Title(f.Family), cmp.Or(f.Fewer, fmt.Sprintf("some %d reports", f.N)))
		head := "BIN\tMEAN\tINTERVAL\tBIAS\tSHARE\tINTERVAL\tBIAS\tTOTAL\tINTERVAL"
		if r.Categorical {
			head = "BIN\tSHARE OF DISPATCHES\tINTERVAL"
		}
		if f.Adjusted != nil {
			head += "\tADJUSTED"
		}
		fmt.Fprintln(w, head)
		for i, b := range f.Bins {
			row := dashboard.Label(f.Family, i)
			if !r.Categorical {
				row += "\t" + value(b.Mean, 1, "%.2f") + "\t" + bias(b.Mean, 1, "%.2f")
			}
			row += "\t" + value(b.Share, 100, "%.2f %%")
			if !r.Categorical {
				row += "\t" + bias(b.Share, 100, "%.2f %%") + "\t" + value(b.Sum, 1, "%.0f")
			}
			if f.Adjusted != nil {
				row += "\t" + adjusted(f.Adjusted[i], r.Categorical)
			}
			fmt.Fprintln(w, row)
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}

// value writes an estimate and its interval, or why there is none.
func value(v analytics.Value, times float64, format string) string {
	if v.Suppressed != "" {
		return "suppressed\t" + string(v.Suppressed)
	}
	return fmt.Sprintf(format+"\t["+format+", "+format+"]", times*v.Mean, times*v.Low, times*v.High)
}

func bias(v analytics.Value, times float64, format string) string {
	if v.Suppressed != "" {
		return ""
	}
	text := fmt.Sprintf(format, times*v.Bias)
	if v.Bias < 0 && !strings.ContainsAny(text, "123456789") {
		return text[1:] // no minus before a zero
	}
	return text
}

func adjusted(a analytics.Adjusted, share bool) string {
	switch {
	case !a.Given:
		return ""
	case share:
		return fmt.Sprintf("%.2f %%", 100*a.Value)
	}
	return fmt.Sprintf("%.2f", a.Value)
}
