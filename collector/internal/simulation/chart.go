package simulation

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// A chart is a line chart. Its lines are told apart by dashes and markers as well as by colour, so that it reads in black and white.
type chart struct {
	title, x, y string
	lines       []line
	band        *band
	// logY has a logarithmic scale for y, on which what is not above 0 has no place.
	logY bool
	// maxY bounds y when it is not 0.
	maxY float64
}

type point struct{ x, y float64 }

type line struct {
	name   string
	points []point
	// every is how many points have one marker; 0 for 1.
	every int
}

// A band is an area between two lines over the same x.
type band struct {
	name      string
	low, high []point
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

// number writes a value with a narrow no-break space between thousands.
func number(v float64) string {
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
func (c chart) bounds(top float64) (x, y scale) {
	x = scale{from: 0, begin: left, end: chartWidth - right}
	y = scale{begin: chartHeight - bottom, end: top, log: c.logY, from: math.Inf(1), to: math.Inf(-1)}
	lists := [][]point{}
	for _, l := range c.lines {
		lists = append(lists, l.points)
	}
	if c.band != nil {
		lists = append(lists, c.band.low, c.band.high)
	}
	for _, list := range lists {
		for _, p := range list {
			x.to = max(x.to, p.x)
			if p.y > 0 || !c.logY {
				y.from, y.to = min(y.from, p.y), max(y.to, p.y)
			}
		}
	}
	if x.to == 0 {
		x.to = 1
	}
	switch {
	case c.logY && y.to > 0:
		y.from, y.to = math.Floor(math.Log10(y.from)), math.Ceil(math.Log10(y.to))
		y.to = max(y.to, y.from+1)
	case c.logY:
		y.from, y.to = 0, 1
	default:
		y.from = 0
		if c.maxY > 0 {
			y.to = c.maxY
		} else {
			y.to = max(y.to, 1) * 1.05
		}
	}
	return x, y
}

// svg draws the chart.
func (c chart) svg() template.HTML {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	names := len(c.lines)
	if c.band != nil {
		names++
	}
	rows := (names + 1) / 2
	top := float64(14 + rows*legendLine + 12)
	x, y := c.bounds(top)

	p(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, chartHeight, html.EscapeString(c.title+": "+c.y+" by "+c.x))
	for _, v := range y.ticks(40) {
		p(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, chartWidth-right, y.at(v), y.at(v))
		p(`<text class="tick" x="%d" y="%.1f" text-anchor="end">%s</text>`, left-8, y.at(v)+5, number(v))
	}
	for _, v := range x.ticks(tickGap) {
		p(`<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x.at(v), x.at(v), chartHeight-bottom, chartHeight-bottom+5)
		p(`<text class="tick" x="%.1f" y="%d" text-anchor="middle">%s</text>`, x.at(v), chartHeight-bottom+21, number(v))
	}
	p(`<path class="axis" d="M%d %.1fV%dH%d"/>`, left, top, chartHeight-bottom, chartWidth-right)
	p(`<text class="label" x="%d" y="%d" text-anchor="middle">%s</text>`, (left+chartWidth-right)/2, chartHeight-10, html.EscapeString(c.x))
	middle := (top + chartHeight - bottom) / 2
	p(`<text class="label" x="16" y="%.1f" text-anchor="middle" transform="rotate(-90 16 %.1f)">%s</text>`, middle, middle, html.EscapeString(c.y))

	place := func(i int) (float64, float64) {
		return left + float64(i%2)*(chartWidth-left-right)/2, float64(14 + i/2*legendLine)
	}
	if c.band != nil {
		var d strings.Builder
		for i, q := range c.band.high {
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(i, 1)], x.at(q.x), y.at(max(q.y, math.SmallestNonzeroFloat64)))
		}
		for i := len(c.band.low) - 1; i >= 0; i-- {
			q := c.band.low[i]
			fmt.Fprintf(&d, "L%.1f %.1f", x.at(q.x), y.at(max(q.y, math.SmallestNonzeroFloat64)))
		}
		p(`<path class="band" d="%sZ"/>`, d.String())
		lx, ly := place(len(c.lines))
		p(`<rect class="band" x="%.1f" y="%.1f" width="40" height="12"/><text class="key" x="%.1f" y="%.1f">%s</text>`, lx, ly-6, lx+48, ly+5, html.EscapeString(c.band.name))
	}
	for i, l := range c.lines {
		var d strings.Builder
		every, shown := max(l.every, 1), 0
		var marks []point
		for k, q := range l.points {
			if c.logY && q.y <= 0 {
				continue
			}
			fmt.Fprintf(&d, "%c%.1f %.1f", "ML"[min(shown, 1)], x.at(q.x), y.at(q.y))
			if shown++; k%every == every/2 {
				marks = append(marks, point{x.at(q.x), y.at(q.y)})
			}
		}
		lx, ly := place(i)
		p(`<g class="s%d"><path d="%s"/><path d="M%.1f %.1fh40"/>`, i%4, d.String(), lx, ly)
		for _, m := range append(marks, point{lx + 20, ly}) {
			b.WriteString(marker(i, m))
		}
		p(`</g><text class="key" x="%.1f" y="%.1f">%s</text>`, lx+48, ly+5, html.EscapeString(l.name))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // numbers, fixed text and what EscapeString has returned
}

// marker is a circle, a square, a triangle or a diamond.
func marker(kind int, m point) string {
	switch kind % 4 {
	case 0:
		return fmt.Sprintf(`<circle cx="%.1f" cy="%.1f" r="3.5"/>`, m.x, m.y)
	case 1:
		return fmt.Sprintf(`<rect x="%.1f" y="%.1f" width="7" height="7"/>`, m.x-3.5, m.y-3.5)
	case 2:
		return fmt.Sprintf(`<path class="mark" d="M%.1f %.1fl4.5 8h-9z"/>`, m.x, m.y-5)
	}
	return fmt.Sprintf(`<path class="mark" d="M%.1f %.1fl4.5 4.5-4.5 4.5-4.5-4.5z"/>`, m.x, m.y-4.5)
}
