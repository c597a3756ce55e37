// Package cohort says which groups of a fleet may be shown beside the fleet's total, so that nobody gets a small group by subtraction
// (complementary suppression; Willenborg and de Waal, "Elements of Statistical Disclosure Control", 2001, section 1.2).
//
// It counts, and sees no value.
package cohort

import "cmp"

// Shown returns the groups, of these sizes by their names, that are shown: those of at least least but, where all that is not shown, rest
// included, would be something and fewer than least, for the smallest of them.
func Shown(sizes map[string]uint64, rest, least uint64) map[string]bool {
	out := make(map[string]bool)
	smallest := ""
	for name, n := range sizes {
		if n < least {
			rest += n
			continue
		}
		if len(out) == 0 || cmp.Or(cmp.Compare(n, sizes[smallest]), cmp.Compare(name, smallest)) < 0 {
			smallest = name
		}
		out[name] = true
	}
	if rest > 0 && rest < least {
		delete(out, smallest)
	}
	return out
}
