package cohort

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestShown(t *testing.T) {
	for _, c := range []struct {
		sizes map[string]uint64
		rest  uint64
		want  []string
	}{
		{map[string]uint64{"A": 5000, "B": 1500}, 0, []string{"A", "B"}},
		{map[string]uint64{"A": 5000, "B": 1500}, 999, []string{"A"}},
		{map[string]uint64{"A": 5000, "B": 1500}, 1000, []string{"A", "B"}},
		{map[string]uint64{"A": 5000, "B": 1500, "C": 1}, 0, []string{"A"}},
		{map[string]uint64{"A": 1500, "B": 1500, "C": 999}, 1, []string{"A", "B"}},
		{map[string]uint64{"A": 1500, "B": 1500, "C": 998}, 1, []string{"B"}}, // of equals the first
		{map[string]uint64{"A": 5000}, 1, nil},
		{map[string]uint64{"A": 999}, 0, nil},
		{nil, 5, nil},
	} {
		want := make(map[string]bool)
		for _, name := range c.want {
			want[name] = true
		}
		if d := cmp.Diff(want, Shown(c.sizes, c.rest, 1000)); d != "" {
			t.Errorf("%v and %d: %s", c.sizes, c.rest, d)
		}
	}
}

// TestLaw: what the fleet has besides the groups that are shown is nothing or large enough, and no more than one that is large enough is
// hidden.
func TestLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.MapOf(rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}), rapid.Uint64Range(0, 2500)).Draw(t, "sizes")
		rest := rapid.Uint64Range(0, 1200).Draw(t, "rest")
		got, hidden, left := Shown(sizes, rest, 1000), 0, rest
		for name, n := range sizes {
			switch {
			case got[name] && n < 1000:
				t.Fatalf("%q with %d is shown", name, n)
			case !got[name]:
				left += n
				if n >= 1000 {
					hidden++
				}
			}
		}
		if len(got) > 0 && left > 0 && left < 1000 || hidden > 1 {
			t.Fatalf("%v of %v are shown: %d left, %d hidden", got, sizes, left, hidden)
		}
	})
}
