// Package adjust makes noised means obey what is known of the truth: none is negative, and two families that count the same minutes have
// the same total.
//
// It is optional post-processing, which costs no privacy and adds no information. What it returns is biased where it moves a value, and has
// no confidence interval: it is shown beside the estimates that have one, never in their place.
package adjust

import "slices"

// NonNegative returns the values nearest to v (least squares), none of which is negative and which add up to total: the projection onto a
// scaled simplex, which is the maximum-likelihood estimate under noise of one variance (Duchi and others, "Efficient Projections onto the
// l1-Ball for Learning in High Dimensions", 2008, figure 1; Wang and others, "Locally Differentially Private Frequency Estimation with
// Consistency", 2020, "Norm-Sub"). A total that is not positive gives zeros.
func NonNegative(v []float64, total float64) []float64 {
	out := make([]float64, len(v))
	if !(total > 0) {
		return out
	}
	sorted := slices.Clone(v)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	// The largest k values stay positive after each has given up the same amount.
	sum, each := 0.0, 0.0
	for i, x := range sorted {
		sum += x
		if e := (sum - total) / float64(i+1); x > e {
			each = e
		}
	}
	for i, x := range v {
		out[i] = max(x-each, 0)
	}
	return out
}

// Common returns the total of two groups of means that estimate the same total, from totals whose variances are a's and b's: weighted by
// their inverses. Variances are positive.
func Common(a, varianceA, b, varianceB float64) float64 {
	return (a*varianceB + b*varianceA) / (varianceA + varianceB)
}

// Total returns the sum of v.
func Total(v []float64) (sum float64) {
	for _, x := range v {
		sum += x
	}
	return sum
}
