package simulation

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.2: "0.2", 0.001: "0.001", 7: "7", 12.4: "12", 999: "999", 1000: "1\u202f000", 210_000_000: "210\u202f000\u202f000", 0.6000000000000001: "0.6", 2.5: "2.5",
	} {
		if got := number(v); got != want {
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

// TestPage renders a short run and an empty one: well-formed drawings without a number that is none, a name for every line, and the same
// figures in the file for machines.
func TestPage(t *testing.T) {
	p := launch(t)
	p.DropsPerDay, p.Name = 4, `a <b> & "c"`
	short, err := Run(t.Context(), Config{Profile: p, Vehicles: 5000, Years: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Result{short, {Years: 1}} {
		dir := filepath.Join(t.TempDir(), "new", "dir")
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Join(dir, PageFile))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, DataFile))
		if err != nil {
			t.Fatal(err)
		}
		var got Result
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(r, &got); d != "" {
			t.Error(d)
		}
		if bytes.Contains(page, []byte("NaN")) || bytes.Contains(page, []byte("Inf")) {
			t.Error("the page has a number that is none")
		}
		drawings := strings.Split(string(page), "<svg")[1:]
		if len(drawings) != 4 {
			t.Fatalf("%d drawings", len(drawings))
		}
		for i, d := range drawings {
			d, _, _ = strings.Cut(d, "</svg>")
			for x := xml.NewDecoder(strings.NewReader("<svg" + d + "</svg>")); ; {
				if _, err := x.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("drawing %d: %v", i, err)
				}
			}
			if groups, names := strings.Count(d, "<g "), strings.Count(d, `class="key"`); groups == 0 || names < groups {
				t.Errorf("drawing %d has %d lines and %d names", i, groups, names)
			}
		}
	}
	var page bytes.Buffer
	if err := short.render(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a &lt;b&gt; &amp;", "10th to 90th percentile", "joined in year 1", "cultivation, of 90 million", "Gini coefficient", "thousand km a year"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := short.Write(file); err == nil || !strings.Contains(err.Error(), "cannot write simulation") {
		t.Errorf("a file for a directory: %v", err)
	}
}
