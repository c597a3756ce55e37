// Package chart draws line charts as SVG that a page holds.
//
// Lines are told apart by dashes and markers as well as by colour, and each has its name beside a sample, so that a chart reads in black
// and white. Colours come from the page: classes s0 to s3 for lines, band, grid, axis, tick, label and key for the rest.
//
// The package computes nothing about what it shows, and runs no script.
package chart

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// A Chart is a line chart of finite values, x from 0. X and Y name the axes with their units.
type Chart struct {
	Title, X, Y string
	// Lines are at most four.
	Lines []Line
	// Band is nil where there is none.
	Band *Band
	// LogY has a logarithmic scale for y, on which what is not above 0 has no place.
	LogY bool
	// MaxY bounds y when it is not 0.
	MaxY float64
}

// A Point is a value.
type Point struct{ X, Y float64 }

// A Line is points in ascending order of X.
type Line struct {
	Name   string
	Points []Point
	// Every is how many points have one marker; 0 for 1.
	Every int
}

// A Band is an area between two lines over the same X.
type Band struct {
	Name      string
	Low, High []Point
}

// The page's measures in CSS pixels.
const (
	chartWidth, chartHeight = 640, 400
	left, right             = 96, 20
	bottom                  = 60
	legendLine              = 22
	// tickGap is the least distance of two ticks of the x axis.
	tickGap = 60
)

// scale turns values into places.
type scale struct {
	from, to   float64 // in values, or their logarithms
	begin, end float64 // in pixels
	log        bool
}

func (s scale) at(v float64) float64 {
	if s.log {
		v = math.Log10(v)
	}
	v = min(max(v, s.from), s.to)
	return s.begin + (v-s.from)/(s.to-s.from)*(s.end-s.begin)
}

// ticks returns round values on the scale, at least about gap pixels apart.
func (s scale) ticks(gap float64) (list []float64) {
	if s.log {
		for e := s.from; e <= s.to; e++ {
			list = append(list, math.Pow(10, e))
		}
		return list
	}
	least := (s.to - s.from) * gap / math.Abs(s.end-s.begin)
	step := math.Pow(10, math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 5, 10} {
		if step*m >= least {
			step *= m
			break
		}
	}
	for i := math.Ceil(s.from / step); i*step <= s.to*(1+1e-9); i++ {
		list = append(list, i*step)
	}
	return list
}

// Number writes a value with a narrow no-break space between thousands.
func Number(v float64) string {
	digits := 0
	if v != 0 && math.Abs(v) < 10 {
		digits = max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	for i := len(text) - 3; i > 0 && !strings.Contains(text, "."); i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// bounds returns the scales of all points.
func (c Chart) bounds(top float64) (x, y scale) {
	x = scale{from: 0, begin: left, end: chartWidth - right}
	y = scale{begin: chartHeight - bottom, end: top, log: c.LogY, from: math.Inf(1), to: math.Inf(-1)}
	lists := [][]Point{}
	for _, l := range c.Lines {
		lists = append(lists, l.Points)
	}
	if c.Band != nil {
		lists = append(lists, c.Band.Low, c.Band.High)
	}
	for _, list := range lists {
		for _, p := range list {
			x.to = max(x.to, p.X)
			if p.Y > 0 || !c.LogY {
				y.from, y.to = min(y.from, p.Y), max(y.to, p.Y)
			}
		}
	}
	if x.to == 0 {
		x.to = 1
	}
	switch {
	case c.LogY && y.to > 0:
		y.from, y.to = math.Floor(math.Log10(y.from)), math.Ceil(math.Log10(y.to))
		y.to = max(y.to, y.from+1)
	case c.LogY:
		y.from, y.to = 0, 1
	default:
		y.from = 0
		if c.MaxY > 0 {
			y.to = c.MaxY
		} else {
			y.to = max(y.to, 1) * 1.05
		}
	}
	return x, y
}

// SVG draws the chart.
func (c Chart) SVG() template.HTML {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	names := len(c.Lines)
	if c.Band != nil {
		names++
	}
	rows := (names + 1) / 2
	top := float64(14 + rows*legendLine + 12)
	x, y := c.bounds(top)

	p(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.Title+": "+c.Y+" by "+c.X))
	for _, v := range y.ticks(40) {
		p(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, chartWidth-right, y.at(v), y.at(v))
		p(`<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, y.at(v)+5, Number(v))
	}
	for _, v := range x.ticks(tickGap) {
		p(`<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x.at(v), x.at(v), chartHeight-bottom, chartHeight-bottom+5)
		p(`<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.at(v), chartHeight-bottom+21, Number(v))
	}
	p(`<path class="axis" d="M%d %.1fV%dH%d"/>`, left, top, chartHeight-bottom, chartWidth-right)
	p(`<text class="label" x="%d" y="%d" text-anchor="middle">%s</text>`, (left+chartWidth-right)/2, chartHeight-10, html.EscapeString(c.X))
	middle := (top + chartHeight - bottom) / 2
	p(`<text class="label" x="16" y="%.1f" text-anchor="middle" transform="rotate(-90 16 %.1f)">%s</text>`, middle, middle, html.EscapeString(c.Y))

	place := func(i int) (float64, float64) {
		return left + float64(i%2)*(chartWidth-left-right)/2, float64(14 + i/2*legendLine)
	}
	if c.Band != nil {
		var d strings.Builder
		for i, q := range c.Band.High {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x.at(q.X), y.at(max(q.Y, math.SmallestNonzeroFloat64)))
		}
		for i := len(c.Band.Low) - 1; i >= 0; i-- {
			q := c.Band.Low[i]
			fmt.Fprintf(&d, "L%.1f %.1f", x.at(q.X), y.at(max(q.Y, math.SmallestNonzeroFloat64)))
		}
		p(`<path class="band" d="%sZ"/>`, d.String())
		lx, ly := place(len(c.Lines))
		p(`<rect class="band" x="%.1f" y="%.1f" width="40" height="12"/><text class="key" x="%.1f" y="%.1f">%s</text>`, lx, ly-6, lx+48, ly+5, html.EscapeString(c.Band.Name))
	}
	for i, l := range c.Lines {
		var d strings.Builder
		every, shown := max(l.Every, 1), 0
		var marks []Point
		for k, q := range l.Points {
			if c.LogY && q.Y <= 0 {
				continue
			}
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(shown, 1)], x.at(q.X), y.at(q.Y))
			if shown++; k%every == every/2 {
				marks = append(marks, Point{x.at(q.X), y.at(q.Y)})
			}
		}
		lx, ly := place(i)
		p(`<g class="s%d"><path d="%s"/><path d="M%.1f %.1fh40"/>`, i%4, d.String(), lx, ly)
		for _, m := range append(marks, Point{lx + 20, ly}) {
			b.WriteString(marker(i, m))
		}
		p(`</g><text class="key" x="%.1f" y="%.1f">%s</text>`, lx+48, ly+5, html.EscapeString(l.Name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // numbers, fixed text and what EscapeString has returned
}

// marker is a circle, a square, a triangle or a diamond.
func marker(kind int, m Point) string {
	switch kind % 4 {
	case 0:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="3.5"/>`, m.X, m.Y)
	case 1:
		return fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="7" height="7"/>`, m.X-3.5, m.Y-3.5)
	case 2:
		return fmt.Sprintf(`<path class="mark" d="M%.1f %.1fl4.5 8h-9z"/>`, m.X, m.Y-5)
	}
	return fmt.Sprintf(`<path class="mark" d="M%.1f %.1fl4.5 4.5-4.5 4.5-4.5-4.5z"/>`, m.X, m.Y-4.5)
}
