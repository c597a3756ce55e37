package dp

import (
	"fmt"
	"math"

	"github.com/google/differential-privacy/go/v3/rand"

	"rawstone/pkg/dp/internal/subset"
)

// MaxBins bounds the bins of a categorical mechanism.
const MaxBins = subset.MaxCategories - 1

// Scheme says how a categorical mechanism answers. Zero is none.
type Scheme uint8

// The schemes.
const (
	// SubsetSelection answers with a subset of the categories of the size that estimates best at ε: about k/(e^ε + 1).
	SubsetSelection Scheme = 1
	// RandomizedResponse answers with one category.
	RandomizedResponse Scheme = 2
)

// Categorical releases one of k = bins + 1 categories, of which the last is "idle". It is pure: δ = 0. It is immutable and safe
// for concurrent use.
type Categorical struct {
	bins    int
	epsilon float64
	mu      float64
	subset  int
	// threshold of 2⁶⁴ draws put the true category into the subset.
	threshold   uint64
	keep, other float64
}

// NewCategorical checks its arguments and finds subset size and threshold. bins is the number of totals released from, 1 to
// MaxBins, and epsilon the guarantee of one release, in [MinEpsilon, MaxEpsilon].
func NewCategorical(s Scheme, bins int, epsilon float64) (*Categorical, error) {
	if s != SubsetSelection && s != RandomizedResponse {
		return nil, fmt.Errorf("cannot make categorical mechanism: scheme %d is neither subset selection (1) nor randomised response (2)", s)
	}
	if bins < 1 || bins > MaxBins {
		return nil, fmt.Errorf("cannot make categorical mechanism: %d bins, want 1 to %d", bins, MaxBins)
	}
	mu, err := Mu(epsilon, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make categorical mechanism: %w", err)
	}
	choice := subset.Size(bins+1, 1, epsilon)
	if s == SubsetSelection {
		choice = subset.Best(bins+1, epsilon)
	}
	return &Categorical{
		bins: bins, epsilon: epsilon, mu: mu, subset: choice.Size, threshold: choice.Threshold, keep: choice.Keep, other: choice.Other,
	}, nil
}

// Mu returns what one release costs in Gaussian differential privacy, Mu(Epsilon(), 0).
func (c *Categorical) Mu() float64 { return c.mu }

// Epsilon returns the ε of one release.
func (c *Categorical) Epsilon() float64 { return c.epsilon }

// Delta returns 0: the guarantee is pure.
func (c *Categorical) Delta() float64 { return 0 }

// Dim returns the number of totals that Release takes.
func (c *Categorical) Dim() int { return c.bins }

// Categories returns k, one more than the bins.
func (c *Categorical) Categories() int { return c.bins + 1 }

// Subset returns the number of categories in a release, 1 for randomised response.
func (c *Categorical) Subset() int { return c.subset }

// Keep returns the probability that the true category is in the release.
func (c *Categorical) Keep() float64 { return c.keep }

// Other returns the probability that any one category that is not the true one is in the release. It is below Keep.
func (c *Categorical) Other() float64 { return c.other }

// Category returns the index of the largest of x, the lowest where several are, and Dim() ("idle") where none is positive. The
// result is private: it is for Release. The only error is a wrong length.
func (c *Categorical) Category(x []int64) (int, error) {
	if len(x) != c.bins {
		return 0, fmt.Errorf("cannot choose category: %d totals, want %d", len(x), c.bins)
	}
	category, largest := c.bins, int64(0)
	for i, v := range x {
		if v > largest {
			category, largest = i, v
		}
	}
	return category, nil
}

// Release returns Categories() values: 1 for each category in the drawn subset, else 0. Each call draws anew and costs Mu()
// again. The only error is a wrong length.
func (c *Categorical) Release(x []int64) ([]int64, error) {
	category, err := c.Category(x)
	if err != nil {
		return nil, err
	}
	return c.draw(category, c.kept(rand.U64()), rand.I63n), nil
}

// kept reports whether the uniform draw u puts the true category into the subset.
func (c *Categorical) kept(u uint64) bool { return u < c.threshold }

// draw returns a uniform subset among those that hold category, or among those that do not. It draws one number for each other
// category whatever happens (selection sampling: Knuth, volume 2, 3.4.2, algorithm S). uniform(n) is uniform on [0, n).
func (c *Categorical) draw(category int, keep bool, uniform func(n int64) int64) []int64 {
	values := make([]int64, c.Categories())
	missing, left := int64(c.subset), int64(c.bins)
	if keep {
		values[category] = 1
		missing--
	}
	for i := range values {
		if i == category {
			continue
		}
		if uniform(left) < missing {
			values[i] = 1
			missing--
		}
		left--
	}
	return values
}

// Check refuses what no Release returns: another number of values than Categories(), or of ones than Subset(), or other values.
func (c *Categorical) Check(values []int64) error {
	if len(values) != c.Categories() {
		return fmt.Errorf("cannot accept release: %d values, want %d", len(values), c.Categories())
	}
	ones := 0
	for i, v := range values {
		if v != 0 && v != 1 {
			return fmt.Errorf("cannot accept release: value %d is %d, want 0 or 1", i, v)
		}
		ones += int(v)
	}
	if ones != c.subset {
		return fmt.Errorf("cannot accept release: %d categories are in the subset, want %d", ones, c.subset)
	}
	return nil
}

// Share returns the share of releases whose true category is the one that count of n releases hold, unbiased: (count/n −
// Other)/(Keep − Other). More than n, or more than MaxReleases, is an error; suppression is as for Moments.
func (c *Categorical) Share(count, n uint64) (Estimate, error) {
	return c.ClusteredShare(count, n, 1)
}

// ClusteredShare is Share for a window in which one vehicle may report several times; per as for Moments.Clustered.
func (c *Categorical) ClusteredShare(count, n uint64, per float64) (Estimate, error) {
	if count > n || n > MaxReleases {
		return Estimate{}, fmt.Errorf("cannot estimate: %d of %d releases, want at most all of at most %d", count, n, int64(MaxReleases))
	}
	if err := checkPer(per); err != nil {
		return Estimate{}, err
	}
	gain, seen := c.keep-c.other, float64(count)/float64(n)
	share := (seen - c.other) / gain
	variance := seen * (1 - seen) * float64(n) / float64(n-1) / (gain * gain)
	// The mechanism's part: the variance of an answer whose truth is known.
	f := math.Min(math.Max(share, 0), 1)
	noise := (f*c.keep*(1-c.keep) + (1-f)*c.other*(1-c.other)) / (gain * gain)
	return publish(n, share, variance, noise, per), nil
}
