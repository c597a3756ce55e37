package statistics

import (
	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/dashboard"
	"rawstone/pkg/terms"
)

// The JSON document: a list with one of these for each charter that has reports, the one in force first.
type (
	charter struct {
		Charter     uint16   `json:"charter"`
		ID          string   `json:"charter_id"`
		InForce     bool     `json:"in_force"`
		FromDay     uint32   `json:"from_day"`
		ToDay       uint32   `json:"to_day"`
		From        string   `json:"from"`
		Until       string   `json:"until"`
		Model       string   `json:"model,omitempty"`
		Privacy     cost     `json:"privacy"`
		Categorical bool     `json:"categorical"`
		Clipped     float64  `json:"clipped_share"`
		PerVehicle  float64  `json:"reports_per_vehicle_at_most,omitempty"` // left out where nothing is told
		Families    []family `json:"families"`
	}
	cost struct {
		Epsilon     float64 `json:"epsilon"`
		Delta       float64 `json:"delta"`
		YearEpsilon float64 `json:"year_epsilon"`
		YearDelta   float64 `json:"year_delta"`
		Dispatches  int     `json:"dispatches"`
	}
	family struct {
		Name string `json:"family"`
		Unit string `json:"unit"`
		// Reports is to the hundred; left out where Fewer says that it is not told.
		Reports uint64 `json:"reports,omitempty"`
		Fewer   string `json:"reports_suppressed,omitempty"`
		Bins    []bin  `json:"bins"`
		// Adjusted are after post-processing; null where the estimate is suppressed, left out where nobody asked.
		Adjusted []*float64 `json:"adjusted,omitempty"`
	}
	bin struct {
		Bin   string    `json:"bin"`
		Mean  *estimate `json:"mean,omitempty"`
		Share *estimate `json:"share,omitempty"`
		Sum   *estimate `json:"sum,omitempty"`
	}
	// estimate has either numbers or the reason why there are none.
	estimate struct {
		*numbers
		Suppressed string `json:"suppressed,omitempty"`
	}
	numbers struct {
		Value float64 `json:"value"`
		Low   float64 `json:"low"`
		High  float64 `json:"high"`
		Bias  float64 `json:"clipping_bias"`
	}
)

func document(results []analytics.Result, clock terms.Clock) []charter {
	out := []charter{}
	for _, r := range results {
		w := r.Query.Window
		c := charter{
			Charter: r.Charter.Serial, ID: r.Charter.ID.String(), InForce: r.InForce, FromDay: w.From, ToDay: w.To,
			From: clock.DayStart(w.From).Format("2006-01-02T15:04:05Z07:00"), Until: clock.DayStart(w.To + 1).Format("2006-01-02T15:04:05Z07:00"),
			Model: r.Query.Model, Privacy: cost(r.Privacy), Categorical: r.Categorical, Clipped: r.Clipped, PerVehicle: r.PerVehicle,
		}
		for _, f := range r.Families {
			c.Families = append(c.Families, familyOf(r, f))
		}
		out = append(out, c)
	}
	return out
}

func familyOf(r analytics.Result, f analytics.Family) family {
	out := family{Name: f.Name, Unit: dashboard.Unit(f.Family), Reports: f.N, Fewer: f.Fewer}
	for i, b := range f.Bins {
		one := bin{Bin: dashboard.Label(f.Family, i), Share: estimateOf(b.Share)}
		if !r.Categorical {
			one.Mean, one.Sum = estimateOf(b.Mean), estimateOf(b.Sum)
		}
		out.Bins = append(out.Bins, one)
	}
	for _, a := range f.Adjusted {
		var v *float64
		if a.Given {
			v = &a.Value
		}
		out.Adjusted = append(out.Adjusted, v)
	}
	return out
}

func estimateOf(v analytics.Value) *estimate {
	if v.Suppressed != "" {
		return &estimate{Suppressed: string(v.Suppressed)}
	}
	return &estimate{numbers: &numbers{v.Mean, v.Low, v.High, v.Bias}}
}
