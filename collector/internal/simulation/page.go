package simulation

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"

	"rawstone/pkg/reward"
)

//go:embed page.html.tmpl
var page string

const (
	// PageFile and DataFile are the names of what Write writes.
	PageFile = "simulation.html"
	DataFile = "simulation.json"
)

// Write writes the page and the machine-readable file into a directory, which it makes.
func (s *Result) Write(dir string) error {
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

func (s *Result) encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(s)
}

func stones(milli uint64) float64 { return float64(milli) / reward.Milli }

func years(day uint32) float64 { return float64(day) / yearDays }

// byJoining shows who joins sooner and later.
func (s *Result) byJoining() chart {
	median, mean := line{name: "median", every: 4}, line{name: "mean", every: 4}
	spread := &band{name: "10th to 90th percentile"}
	for _, j := range s.Joining {
		at := years(j.FromDay+j.ToDay) / 2
		median.points = append(median.points, point{at, stones(j.Median)})
		mean.points = append(mean.points, point{at, stones(j.Mean)})
		spread.low = append(spread.low, point{at, stones(j.P10)})
		spread.high = append(spread.high, point{at, stones(j.P90)})
	}
	return chart{title: "Stones by joining date", x: "joined, years after the start", y: "stones per owner, logarithmic", logY: true, lines: []line{median, mean}, band: spread}
}

// byDistance shows who drives more and less, for up to four years of joining.
func (s *Result) byDistance() chart {
	c := chart{title: "Stones by distance", x: "distance driven, thousand km a year", y: "stones per owner (median), logarithmic", logY: true}
	// The first year and the last but evenly between; those who joined in the very last year have had no time.
	last := max(s.Years-1, 1)
	years := []int{1}
	for i := 1; i < 4; i++ {
		if y := 1 + (last-1)*i/3; y > years[len(years)-1] {
			years = append(years, y)
		}
	}
	for _, year := range years {
		l := line{name: fmt.Sprintf("joined in year %d", year), every: 3}
		for _, d := range s.Distance {
			if d.Year == year {
				l.points = append(l.points, point{float64(d.FromKm+d.ToKm) / 2000, stones(d.Median)})
			}
		}
		c.lines = append(c.lines, l)
	}
	return c
}

// overTime is a chart of the months, from the day before the first.
func (s *Result) overTime(title, y string, maxY float64, names []string, values func(Sample) []float64) chart {
	c := chart{title: title, x: "years after the start", y: y, maxY: maxY}
	for i, name := range names {
		l := line{name: name, every: max(len(s.Months)/10, 1)}
		for _, m := range s.Months {
			l.points = append(l.points, point{years(m.Day), values(m)[i]})
		}
		c.lines = append(c.lines, l)
	}
	return c
}

func (s *Result) giniOverTime() chart {
	return s.overTime("Inequality", "Gini coefficient", 1, []string{"stones held", "distance driven"},
		func(m Sample) []float64 { return []float64{m.GiniStones, m.GiniKm} })
}

func (s *Result) supplyLeft() chart {
	return s.overTime("Supply left", "million stones", 0, []string{"mining, of 210 million", "cultivation, of 90 million"},
		func(m Sample) []float64 { return []float64{stones(m.MinedLeft) / 1e6, stones(m.CultivatedLeft) / 1e6} })
}

type figure struct {
	Title, Text string
	SVG         template.HTML
}

type row struct {
	Year, Owners, Mined, Cultivated, MinedLeft, CultivatedLeft string
	GiniStones, GiniKm                                         string
}

func (s *Result) render(w io.Writer) error {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	whole := func(milli uint64) string { return number(float64(milli / reward.Milli)) }
	var rows []row
	for i, m := range s.Months {
		if m.Day%yearDays == 0 || i == len(s.Months)-1 {
			rows = append(rows, row{
				Year: number(years(m.Day)), Owners: number(float64(m.Owners)), Mined: whole(reward.MinedSupply - m.MinedLeft),
				Cultivated: whole(reward.CultivatedSupply - m.CultivatedLeft), MinedLeft: whole(m.MinedLeft), CultivatedLeft: whole(m.CultivatedLeft),
				GiniStones: fmt.Sprintf("%.3f", m.GiniStones), GiniKm: fmt.Sprintf("%.3f", m.GiniKm),
			})
		}
	}
	last := Sample{}
	if len(s.Months) > 0 {
		last = s.Months[len(s.Months)-1]
	}
	figures := make([]figure, 0, 4)
	for _, f := range []struct {
		chart chart
		text  string
	}{
		{s.byJoining(), "Stones held in the end by the quarter in which the owner joined. Mined stones and those from mine boxes together."},
		{s.byDistance(), "Median of the owners who drive as far, in classes of 2,500 km a year; classes of fewer than 30 owners are left out."},
		{s.giniOverTime(), "0: everybody has as much; 1: one has everything. Owners who have joined so far, what they hold and what they have driven since."},
		{s.supplyLeft(), "What no owner holds yet: emission halves with each era of 210,000 drops; mine boxes are paid from the cultivation pool."},
	} {
		figures = append(figures, figure{f.chart.title, f.text, f.chart.svg()})
	}
	return t.Execute(w, map[string]any{
		"Result": s, "Vehicles": number(float64(s.Vehicles)), "Owners": number(float64(last.Owners)), "Mined": whole(s.Mined), "Cultivated": whole(s.Cultivated),
		"Drops": number(float64(s.Drops)), "Boxes": number(float64(s.Boxes)), "Goods": number(float64(s.Goods)), "Gini": fmt.Sprintf("%.3f", last.GiniStones),
		"Figures": figures, "Rows": rows, "Data": DataFile,
	})
}
