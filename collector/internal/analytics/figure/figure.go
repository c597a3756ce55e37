// Package figure is what the statistics say: estimates of windows, families and bins, and how they are told.
//
// Told figures have no number of reports below dp.MinReports, no exact ones above, and no digits from which one could be computed. The package
// computes no estimate.
package figure

import (
	"rawstone/collector/internal/analytics/cost"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Charter is one under which reports were made.
type Charter struct {
	// ID is its identifier, Serial its number.
	ID     wire.Hash
	Serial uint16
	// Usage fixes how its reports were noised.
	Usage terms.Usage
}

// FewOthers says that a model is suppressed because the rest of the fleet, by subtraction, would be fewer than 1,000 reports.
const FewOthers dp.Suppression = "others n < 1,000"

// Window is a range of program days, both ends included.
type Window struct{ From, To uint32 }

// Query says what is estimated.
type Query struct {
	Window Window
	// Model is of which vehicles; empty for all of them, those of unknown model included.
	Model string
	// Adjusted asks for post-processing beside the estimates.
	Adjusted bool
}

// Value is one estimate and what clipping changes it by on the simulated population with every family on, in the same unit. The bias is not
// subtracted; 0 where nothing is clipped.
type Value struct {
	dp.Estimate
	Bias float64
}

// Bin is what is known of one value of a family.
type Bin struct {
	// Mean is in minutes, or trips, per vehicle and dispatch. Sum is the total over the reports of the window. Both are zero for
	// categorical reports.
	Mean, Sum Value
	// Share is the bin's part of its family; of categorical reports, that of the dispatches in which the bin was the largest.
	Share Value
}

// Adjusted is a post-processed value without a confidence interval: a mean or, of categorical reports, a share. It is given where the estimate
// beside it is published.
type Adjusted struct {
	Value float64
	Given bool
}

// Family is the estimate of one family, its bins in the order of the usage vector; of categorical reports there is one more, for idle.
type Family struct {
	wire.Layout
	// N is the number of reports with the family on, to the hundred. Where it is not told it is 0, and Fewer says why in words.
	N     uint64
	Fewer string
	Bins  []Bin
	// Adjusted is as long as Bins where it was asked for, otherwise nil.
	Adjusted []Adjusted
}

// Result is what the reports of one charter say.
type Result struct {
	Charter Charter
	// InForce says that it is the charter of today's reports.
	InForce bool
	Query   Query
	Privacy cost.Privacy
	// Categorical says that each report names a bin, so that there are shares alone.
	Categorical bool
	// Clipped is the share of simulated vehicle-weeks that clipping changes.
	Clipped float64
	// PerVehicle is 0 where nothing is told, or the number of reports that one vehicle may have in the window, by which the intervals are widened.
	PerVehicle float64
	Families   []Family
}
