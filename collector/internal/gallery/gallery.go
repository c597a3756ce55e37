// Package gallery shows what a simulation gave: a page of charts and tables that needs nothing beside it, and the same figures as JSON.
//
// The package computes no figure of its own and fetches nothing.
package gallery

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"

	"rawstone/collector/internal/chart"
	"rawstone/collector/internal/simulation"
	"rawstone/pkg/reward"
)

//go:embed page.html.tmpl
var page string

const (
	// PageFile and DataFile are the names of what Write writes.
	PageFile = "simulation.html"
	DataFile = "simulation.json"
)

// Write writes the page and the machine-readable file of a result into a directory, which it makes.
func Write(dir string, result *simulation.Result) error {
	s := view{result}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write simulation: %w", err)
	}
	for name, render := range map[string]func(io.Writer) error{PageFile: s.render, DataFile: s.encode} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("cannot write simulation: %w", err)
		}
		if err := render(f); err != nil {
			f.Close()
			return fmt.Errorf("cannot write simulation: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("cannot write simulation: %w", err)
		}
	}
	return nil
}

func (s view) encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(s.Result)
}

// A view is a result as its page shows it.
type view struct{ *simulation.Result }

func stones(milli uint64) float64 { return float64(milli) / reward.Milli }

func years(day uint32) float64 { return float64(day) / simulation.YearDays }

// byJoining shows who joins sooner and later.
func (s view) byJoining() chart.Chart {
	median, mean := chart.Line{Name: "median", Every: len(s.Joining) / 8}, chart.Line{Name: "mean", Every: len(s.Joining) / 8}
	spread := &chart.Band{Name: "10th to 90th percentile"}
	for _, j := range s.Joining {
		at := years(j.FromDay+j.ToDay) / 2
		median.Points = append(median.Points, chart.Point{X: at, Y: stones(j.Median)})
		mean.Points = append(mean.Points, chart.Point{X: at, Y: stones(j.Mean)})
		spread.Low = append(spread.Low, chart.Point{X: at, Y: stones(j.P10)})
		spread.High = append(spread.High, chart.Point{X: at, Y: stones(j.P90)})
	}
	return chart.Chart{Title: "Stones by joining date", X: "joined, years after the start", Y: "stones per owner, logarithmic", LogY: true, Lines: []chart.Line{median, mean}, Band: spread}
}

// byDistance shows who drives more and less, for up to four years of joining.
func (s view) byDistance() chart.Chart {
	c := chart.Chart{Title: "Stones by distance", X: "distance driven, thousand km a year", Y: "stones per owner (median), logarithmic", LogY: true}
	// The first year and the last but evenly between; those who joined in the very last year have had no time.
	last := max(s.Years-1, 1)
	years := []int{1}
	for i := 1; i < 4; i++ {
		if y := 1 + (last-1)*i/3; y > years[len(years)-1] {
			years = append(years, y)
		}
	}
	for _, year := range years {
		l := chart.Line{Name: fmt.Sprintf("joined in year %d", year)}
		for _, d := range s.Distance {
			if d.Year == year {
				l.Points = append(l.Points, chart.Point{X: float64(d.FromKm+d.ToKm) / 2000, Y: stones(d.Median)})
			}
		}
		l.Every = len(l.Points) / 8
		c.Lines = append(c.Lines, l)
	}
	return c
}

// overTime is a chart of what the ends of the months show.
func (s view) overTime(title, y string, maxY float64, names []string, values func(simulation.Sample) []float64) chart.Chart {
	c := chart.Chart{Title: title, X: "years after the start", Y: y, MaxY: maxY}
	for i, name := range names {
		l := chart.Line{Name: name, Every: len(s.Months) / 8}
		for _, m := range s.Months {
			l.Points = append(l.Points, chart.Point{X: years(m.Day), Y: values(m)[i]})
		}
		c.Lines = append(c.Lines, l)
	}
	return c
}

func (s view) giniOverTime() chart.Chart {
	return s.overTime("Inequality", "Gini coefficient", 1, []string{"stones held", "distance driven"},
		func(m simulation.Sample) []float64 { return []float64{m.GiniStones, m.GiniKm} })
}

func (s view) supplyLeft() chart.Chart {
	return s.overTime("Supply left", "million stones", 0, []string{"mining, of 210 million", "cultivation, of 90 million"},
		func(m simulation.Sample) []float64 {
			return []float64{stones(m.MinedLeft) / 1e6, stones(m.CultivatedLeft) / 1e6}
		})
}

type figure struct {
	Title, Text string
	SVG         template.HTML
}

type row struct {
	Year, Owners, Mined, Cultivated, MinedLeft, CultivatedLeft string
	GiniStones, GiniKm                                         string
}

func (s view) render(w io.Writer) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	whole := func(milli uint64) string { return chart.Number(float64(milli / reward.Milli)) }
	var rows []row
	for i, m := range s.Months {
		if m.Day%simulation.YearDays == 0 || i == len(s.Months)-1 {
			rows = append(rows, row{
				Year: chart.Number(years(m.Day)), Owners: chart.Number(float64(m.Owners)), Mined: whole(reward.MinedSupply - m.MinedLeft),
				Cultivated: whole(reward.CultivatedSupply - m.CultivatedLeft), MinedLeft: whole(m.MinedLeft), CultivatedLeft: whole(m.CultivatedLeft),
				GiniStones: fmt.Sprintf("%.3f", m.GiniStones), GiniKm: fmt.Sprintf("%.3f", m.GiniKm),
			})
		}
	}
	last := simulation.Sample{}
	if len(s.Months) > 0 {
		last = s.Months[len(s.Months)-1]
	}
	figures := make([]figure, 0, 4)
	for _, f := range []struct {
		chart chart.Chart
		text  string
	}{
		{s.byJoining(), "Stones held in the end by the quarter in which the owner joined. Mined stones and those from mine boxes together."},
		{s.byDistance(), "Median of the owners who drive as far, in classes of 2,500 km a year; classes of fewer than 30 owners are left out."},
		{s.giniOverTime(), "0: everybody has as much; 1: one has everything. Owners who have joined so far, what they hold and what they have driven since."},
		{s.supplyLeft(), "What no owner holds yet: emission halves with each era of 210,000 drops; mine boxes are paid from the cultivation pool."},
	} {
		figures = append(figures, figure{f.chart.Title, f.text, f.chart.SVG()})
	}
	return t.Execute(w, map[string]any{
		"Result": s.Result, "Vehicles": chart.Number(float64(s.Vehicles)), "Owners": chart.Number(float64(last.Owners)), "Mined": whole(s.Mined), "Cultivated": whole(s.Cultivated),
		"Drops": chart.Number(float64(s.Drops)), "Boxes": chart.Number(float64(s.Boxes)), "Goods": chart.Number(float64(s.Goods)), "Gini": fmt.Sprintf("%.3f", last.GiniStones),
		"Figures": figures, "Rows": rows, "Data": DataFile,
	})
}
