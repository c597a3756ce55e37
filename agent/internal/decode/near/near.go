// Package near finds the names that somebody may have meant by one that nobody knows, for the sentence that refuses it.
//
// Its answer depends on the names alone and not on their order. It refuses to choose: it returns suggestions, and none rather than
// far-fetched ones.
package near

import (
	"cmp"
	"slices"
	"strings"
)

// Names returns up to three names that differ from name by few letters or contain it, case aside, the nearest first.
func Names(name string, known map[string]bool) []string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	lower := strings.ToLower(name)
	limit := max(2, len(name)/4)
	for k := range known {
		other := strings.ToLower(k)
		d := distance(lower, other, limit)
		if d > limit && len(name) > 2 && strings.Contains(other, lower) {
			d = limit + 1 + len(other) - len(lower)
		} else if d > limit {
			continue
		}
		near = append(near, candidate{k, d})
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range near[:min(len(near), 3)] {
		names = append(names, c.name)
	}
	return names
}

// distance is Levenshtein's, in bytes, or more than limit when it is that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, corner+1)
		}
	}
	return row[len(b)]
}
