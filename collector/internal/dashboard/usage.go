package dashboard

import (
	"errors"
	"fmt"
	"net/url"
	"slices"

	"rawstone/collector/internal/admission"
	"rawstone/pkg/wire"
)

// A Span is the length of a window of program days, which ends with the last closed one.
type Span string

// The windows.
const (
	Week      Span = "week"
	FourWeeks Span = "28d"
)

// A Measure is what charts show.
type Measure string

// The measures: means per vehicle and dispatch, parts of each family, totals of the window.
const (
	Mean  Measure = "mean"
	Share Measure = "share"
	Total Measure = "sum"
)

// A Selection is what a reader has chosen.
type Selection struct {
	Span    Span
	Measure Measure
	// Model is empty for the whole fleet.
	Model string
}

// choose reads a selection from a page's query; what is left out is 28 days, means and the whole fleet.
func choose(q url.Values) (Selection, error) {
	s := Selection{FourWeeks, Mean, ""}
	for key, values := range q {
		if len(values) != 1 {
			return s, fmt.Errorf("%q stands there %d times", key, len(values))
		}
		switch v := values[0]; key {
		case "window":
			if s.Span = Span(v); s.Span != Week && s.Span != FourWeeks {
				return s, errors.New("window is neither week nor 28d")
			}
		case "show":
			if s.Measure = Measure(v); !slices.Contains([]Measure{Mean, Share, Total}, s.Measure) {
				return s, errors.New("show is none of mean, share and sum")
			}
		case "model":
			if err := admission.CheckModel(v); err != nil {
				return s, err
			}
			s.Model = v
		default:
			return s, fmt.Errorf("%.40q is none of window, show and model", key)
		}
	}
	return s, nil
}

// link is the page of a selection.
func (s Selection) link() string {
	q := url.Values{}
	if s.Span != FourWeeks {
		q.Set("window", string(s.Span))
	}
	if s.Measure != Mean {
		q.Set("show", string(s.Measure))
	}
	if s.Model != "" {
		q.Set("model", s.Model)
	}
	if len(q) == 0 {
		return "./"
	}
	return "?" + q.Encode()
}

// A Choice is what a reader may choose of one kind.
type Choice struct {
	Name    string
	Options []Option
}

// An Option leads to the page that shows it.
type Option struct {
	Name, Link string
	Current    bool
}

// choices are the ways from a selection to others; there is none of models where none is known.
func choices(s Selection, models []string) []Choice {
	option := func(name string, to Selection) Option { return Option{name, to.link(), to == s} }
	span, measure, model := Choice{Name: "Window"}, Choice{Name: "Show"}, Choice{Name: "Model"}
	for _, o := range []struct {
		span Span
		name string
	}{{Week, "week"}, {FourWeeks, "28 days"}} {
		span.Options = append(span.Options, option(o.name, Selection{o.span, s.Measure, s.Model}))
	}
	for _, o := range []struct {
		measure Measure
		name    string
	}{{Mean, "means"}, {Share, "shares"}, {Total, "totals"}} {
		measure.Options = append(measure.Options, option(o.name, Selection{s.Span, o.measure, s.Model}))
	}
	out := []Choice{span, measure}
	if s.Model != "" && !slices.Contains(models, s.Model) {
		models = append(slices.Clone(models), s.Model)
	}
	if len(models) > 0 {
		for _, m := range append([]string{""}, models...) {
			name := m
			if m == "" {
				name = "whole fleet"
			}
			model.Options = append(model.Options, option(name, Selection{s.Span, s.Measure, m}))
		}
		out = append(out, model)
	}
	return out
}

// A Bin is one estimate with its 95 % confidence interval, or why there is none. Shares are parts of one.
type Bin struct {
	Mean, Low, High float64
	// Bias is what clipping changes the estimate by in simulation; it is shown beside, never subtracted.
	Bias       float64
	Suppressed string
}

// A Family is a chart of usage estimates.
type Family struct {
	Family wire.Family
	// Reports counts the reports behind it, to the hundred; where the number is not told it is 0, and Fewer says why in words.
	Reports uint64
	Fewer   string
	// Measure is what the bins are: shares where the reports tell no more, whatever was chosen.
	Measure Measure
	// Bins are in the order of the usage vector; of reports that name one bin there is one more, for none.
	Bins []Bin
	// Suppressed says why the whole chart is, or is empty.
	Suppressed string
	// Categorical says that each report names one bin.
	Categorical bool
	// Privacy is what the chart cost each vehicle, in words.
	Privacy string
}

// A Charter is the charts of the reports that were made under one charter.
type Charter struct {
	// Name says which charter it is; empty where there is only the one in force.
	Name     string
	Families []Family
	// Privacy is the cost of one report and of a year of them, in words.
	Privacy string
	// Clipping is the measured bias of clipping, in words; empty where nothing is clipped.
	Clipping string
}

// Usage is all charts of a selection.
type Usage struct {
	// Window is the program days, in words.
	Window string
	// Models are those that may be chosen.
	Models   []string
	Charters []Charter
}
