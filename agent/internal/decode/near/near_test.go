package near

import (
	"slices"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"Speed": true, "SPEED2": true, "Sped": true, "Odometer": true, "VehicleSpeed": true, "Spoon": true}
	for name, want := range map[string][]string{
		"speed":    {"Speed", "SPEED2", "Sped"}, // the nearest first, of equal ones by name, three at most
		"Odo":      {"Odometer"},
		"Od":       nil, // two letters are in everything
		"Nonsense": nil,
		"":         nil,
	} {
		if got := Names(name, known); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "axc", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3}, {"abcdefgh", "x", 6}} {
		if got := distance(c.a, c.b, 5); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
