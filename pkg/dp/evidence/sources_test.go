package evidence

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSourceMutants breaks the real sources, one fault at a time, and runs the short measurements against each: they must fail. It
// builds a package for each fault, hence only in the long form.
func TestSourceMutants(t *testing.T) {
	if !long() {
		t.Skip("set RAWSTONE_PRIVACY=long")
	}
	for _, m := range []struct{ name, file, old, broken string }{
		{"sensitivity of l0 = 1", "gaussian.go", "const sensitivityL0 = 2", "const sensitivityL0 = 1"},
		{"noise for half the clip", "gaussian.go", "sensitivityL0, g.params.Clip, g.params.Epsilon", "sensitivityL0, (g.params.Clip+1)/2, g.params.Epsilon"},
		{"nothing is clipped", "gaussian.go", "if norm2 <= c2 {", "if norm2 <= c2 || c2 > 0 {"},
		{"the first coordinate keeps its value", "gaussian.go", "for i := range y {\n\t\ty[i], err = source", "for i := range y[1:] {\n\t\ti++\n\t\ty[i], err = source"},
		{"a threshold larger by a quarter", "categorical.go", "threshold: choice.Threshold,", "threshold: choice.Threshold + choice.Threshold/4,"},
		{"a subset smaller by one", "categorical.go", "missing, left := int64(c.subset), int64(c.bins)", "missing, left := max(int64(c.subset)-1, 1), int64(c.bins)"},
		{"a subset larger by one", "categorical.go", "missing, left := int64(c.subset), int64(c.bins)", "missing, left := int64(c.subset)+1, int64(c.bins)"},
		{"idle always tells the truth", "categorical.go", "return c.draw(category, c.kept(rand.U64())", "return c.draw(category, category == c.bins || c.kept(rand.U64())"},
		{"the first categories are preferred", "categorical.go", "if uniform(left) < missing {", "if uniform(left+1) <= missing {"},
	} {
		t.Run(m.name, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("..", m.file))
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(text, []byte(m.old)); n != 1 {
				t.Fatalf("%s has %q %d times, want once: bring this mutation up to date", m.file, m.old, n)
			}
			broken := filepath.Join(t.TempDir(), m.file)
			if err := os.WriteFile(broken, bytes.Replace(text, []byte(m.old), []byte(m.broken), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: broken}})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			run := exec.Command("go", "test", "-count", "1", "-overlay", file, "-run", "^Test(Attacks|GaussianLaw|CategoricalLaw)$", ".")
			run.Env = append(os.Environ(), "RAWSTONE_PRIVACY=")
			out, err := run.CombinedOutput()
			if err == nil {
				t.Fatal("not caught: every measurement passed")
			}
			for line := range strings.Lines(string(out)) {
				// The real mechanism was found guilty, and not only a mutant of it innocent.
				if strings.Contains(line, ": claims ε = ") || strings.Contains(line, ": caught true, want false") {
					t.Logf("caught: %s", strings.TrimSpace(line))
					return
				}
			}
			t.Errorf("not caught by a measurement of the real mechanism: %v\n%s", err, out)
		})
	}
}
