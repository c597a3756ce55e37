package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.2: "0.2", 0.001: "0.001", 7: "7", 12.4: "12", 999: "999", 1000: "1\u202f000", 210_000_000: "210\u202f000\u202f000", 0.6000000000000001: "0.6", 2.5: "2.5",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

func TestScale(t *testing.T) {
	s := scale{from: 0, to: 10, begin: 100, end: 600}
	if d := cmp.Diff([]float64{0, 2, 4, 6, 8, 10}, s.ticks(60)); d != "" {
		t.Error(d)
	}
	for v, want := range map[float64]float64{0: 100, 5: 350, 10: 600, 11: 600, -1: 100} {
		if got := s.at(v); got != want {
			t.Errorf("%v lies at %v, want %v", v, got, want)
		}
	}
	l := scale{from: -1, to: 2, begin: 300, end: 0, log: true}
	if d := cmp.Diff([]float64{0.1, 1, 10, 100}, l.ticks(40)); d != "" {
		t.Error(d)
	}
	if got := l.at(10); math.Abs(got-100) > 1e-9 || l.at(0) != 300 {
		t.Errorf("10 lies at %v and 0 at %v, want 100 and 300", got, l.at(0))
	}
}

// TestSVG draws lines with and without points, with values that a logarithmic scale has no place for, and names that are no markup.
func TestSVG(t *testing.T) {
	points := []Point{{0, 0}, {1, 0.5}, {2, 3000}}
	full := Chart{
		Title: "<title>", X: "km & h", Y: "y", LogY: true, Band: &Band{"<band>", points, points},
		Lines: []Line{{"<a>", points, 1}, {"b", nil, 0}, {"c", points, 2}, {"d", points[:1], 0}},
	}
	plain := full
	plain.LogY, plain.Band, plain.MaxY = false, nil, 1
	for _, c := range []Chart{full, plain, {}, {LogY: true}} {
		svg := string(c.SVG())
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a number is none: %s", svg)
		}
		text := ""
		for x := xml.NewDecoder(strings.NewReader(svg)); ; {
			token, err := x.Token()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v: %s", err, svg)
			}
			if chars, ok := token.(xml.CharData); ok {
				text += string(chars) + "\n"
			}
		}
		for _, l := range c.Lines {
			if !strings.Contains(text, l.Name+"\n") {
				t.Errorf("line %q has no name", l.Name)
			}
		}
		if c.Band != nil && !strings.Contains(text, "<band>") {
			t.Error("the band has no name")
		}
	}
	// The first line: three markers and the legend's, of which one has no place on a logarithmic scale.
	if got := strings.Count(string(full.SVG()), "<circle"); got != 3 {
		t.Errorf("%d markers, want 3", got)
	}
	if got := strings.Count(string(plain.SVG()), "<circle"); got != 4 {
		t.Errorf("%d markers, want 4", got)
	}
}
