package simulation

import (
	"fmt"
	"math"
	"slices"

	"rawstone/pkg/reward"
)

// A Result is what a simulation shows. Amounts are milli-stones, distances whole kilometres, days program days.
type Result struct {
	Profile     string `json:"profile"`
	Seed        string `json:"seed"`
	Vehicles    int    `json:"vehicles"`
	Years       int    `json:"years"`
	DropsPerDay uint32 `json:"drops_per_day"`
	// Drops counts those that had weight.
	Drops      uint64 `json:"drops"`
	Mined      uint64 `json:"mined_milli"`
	Cultivated uint64 `json:"cultivated_milli"`
	// Boxes counts the boxes opened, Goods those that held goods.
	Boxes uint64 `json:"boxes"`
	Goods uint64 `json:"goods"`
	// Months has a sample for the end of each month.
	Months []Sample `json:"months"`
	// Joining has the owners by the quarter in which they joined.
	Joining []Joined `json:"by_joining_date"`
	// Distance has the owners by the year in which they joined and how far they drive.
	Distance []Driven `json:"by_distance"`
}

// A Sample is the state at the end of a day.
type Sample struct {
	Day            uint32 `json:"day"`
	Owners         int    `json:"owners"`
	MinedLeft      uint64 `json:"mined_left_milli"`
	CultivatedLeft uint64 `json:"cultivated_left_milli"`
	// GiniStones and GiniKm are the Gini coefficients of the owners' stones and of all the distance that they have driven: 0 when all have
	// as much, towards 1 when one has everything.
	GiniStones float64 `json:"gini_stones"`
	GiniKm     float64 `json:"gini_km"`
}

// A Spread is how the stones of some owners are distributed.
type Spread struct {
	Owners int    `json:"owners"`
	P10    uint64 `json:"p10_milli"`
	Median uint64 `json:"median_milli"`
	P90    uint64 `json:"p90_milli"`
	Mean   uint64 `json:"mean_milli"`
}

// A Joined is the spread of owners who joined on the days from FromDay to before ToDay.
type Joined struct {
	FromDay uint32 `json:"from_day"`
	ToDay   uint32 `json:"to_day"`
	Spread
}

// A Driven is the spread of owners who joined in a year, from 1, and have driven FromKm to below ToKm a year since.
type Driven struct {
	Year   int    `json:"joined_in_year"`
	FromKm uint64 `json:"from_km_per_year"`
	ToKm   uint64 `json:"to_km_per_year"`
	Spread
}

const (
	// binKm is the width of a class of yearly distance.
	binKm = 2500
	// minOwners is how many owners a class must have to be shown.
	minOwners = 30
)

func (r *run) begin() *Result {
	return &Result{Profile: r.Profile.Name, Seed: r.Profile.Seed, Vehicles: r.Vehicles, Years: r.Years, DropsPerDay: r.Profile.DropsPerDay}
}

// issued is what all drops have drawn.
func (r *run) issued() uint64 { return reward.Emission(r.height) - r.carry }

func (s *Result) sample(r *run, day uint32, owners int) {
	lists := [2][]uint64{make([]uint64, owners), slices.Clone(r.fleet.metres[:owners])}
	for v := range owners {
		lists[0][v] = r.fleet.mined[v] + r.fleet.cultivated[v]
	}
	var g [2]float64
	each(2, func(i int) { g[i] = gini(lists[i]) })
	s.Months = append(s.Months, Sample{
		Day: day, Owners: owners, MinedLeft: reward.MinedSupply - r.issued(), CultivatedLeft: r.pool.Left(), GiniStones: g[0], GiniKm: g[1],
	})
}

// end fills in what is known on the last day, and refuses a result whose accounts do not add up.
func (s *Result) end(r *run, days uint32) error {
	f := r.fleet
	mined, cultivated := uint64(0), uint64(0)
	for v := range f.mined {
		mined += f.mined[v]
		cultivated += f.cultivated[v]
	}
	if mined != r.issued() || cultivated != r.pool.Issued() || r.pool.Reserved() != 0 {
		return fmt.Errorf("cannot simulate: accounts hold %d mined and %d cultivated milli-stones, %d and %d were issued: this is a fault of the program",
			mined, cultivated, r.issued(), r.pool.Issued())
	}
	s.Drops, s.Mined, s.Cultivated, s.Boxes, s.Goods = r.height, mined, cultivated, r.requests, r.goods

	// Owners lie in the order in which they joined; those who joined before a day are the first.
	joined := func(day uint32) int { return r.Profile.joined(r.Vehicles, day) }
	for q := range uint32(4 * r.Years) {
		j := Joined{FromDay: q * YearDays / 4, ToDay: (q + 1) * YearDays / 4}
		begin, end := 0, joined(j.ToDay-1)
		if q > 0 {
			begin = joined(j.FromDay - 1)
		}
		var list []uint64
		for v := begin; v < end; v++ {
			list = append(list, f.mined[v]+f.cultivated[v])
		}
		if j.Spread = spread(list); j.Owners >= minOwners {
			s.Joining = append(s.Joining, j)
		}
	}
	for year := range r.Years {
		classes := make(map[uint64][]uint64)
		begin, last := 0, uint32(year+1)*YearDays-1
		if year > 0 {
			begin = joined(uint32(year)*YearDays - 1)
		}
		day := uint32(year) * YearDays
		for v := begin; v < joined(last); v++ {
			for day < last && joined(day) <= v {
				day++
			}
			class := f.metres[v] * YearDays / uint64(days-day) / (1000 * binKm)
			classes[class] = append(classes[class], f.mined[v]+f.cultivated[v])
		}
		for class := range uint64(2 * maxYearKm / binKm) {
			d := Driven{Year: year + 1, FromKm: class * binKm, ToKm: (class + 1) * binKm, Spread: spread(classes[class])}
			if d.Owners >= minOwners {
				s.Distance = append(s.Distance, d)
			}
		}
	}
	return nil
}

// spread sorts the list.
func spread(list []uint64) Spread {
	if len(list) == 0 {
		return Spread{}
	}
	slices.Sort(list)
	sum := uint64(0)
	for _, x := range list {
		sum += x
	}
	n := len(list)
	return Spread{Owners: n, P10: list[n/10], Median: list[n/2], P90: list[n*9/10], Mean: sum / uint64(n)}
}

// gini is the Gini coefficient of a list, which it sorts: (2·Σ i·x_i)/(n·Σ x_i) − (n+1)/n over the ascending x_1 … x_n, rounded to four
// digits; 0 when all is 0.
func gini(list []uint64) float64 {
	slices.Sort(list)
	sum, ranked := 0.0, 0.0
	for i, x := range list {
		sum += float64(x)
		ranked += float64(i+1) * float64(x)
	}
	if sum == 0 {
		return 0
	}
	n := float64(len(list))
	return math.Round((2*ranked/(n*sum)-(n+1)/n)*1e4) / 1e4
}
