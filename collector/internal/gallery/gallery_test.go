package gallery

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/simulation"
)

// TestPage renders a short run and an empty one: well-formed drawings without a number that is none, a name for every line, and the same
// figures in the file for machines.
func TestPage(t *testing.T) {
	p, err := simulation.LoadProfile("../../../configs/simulation/launch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.DropsPerDay, p.Name = 4, `a <b> & "c"`
	short, err := simulation.Run(t.Context(), simulation.Config{Profile: p, Vehicles: 5000, Years: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*simulation.Result{short, {Years: 1}} {
		dir := filepath.Join(t.TempDir(), "new", "dir")
		if err := Write(dir, r); err != nil {
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
		var got simulation.Result
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
	if err := (view{short}).render(&page); err != nil {
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
	if err := Write(file, short); err == nil || !strings.Contains(err.Error(), "cannot write simulation") {
		t.Errorf("a file for a directory: %v", err)
	}
}
