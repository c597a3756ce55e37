package figure

import (
	"strconv"

	"rawstone/pkg/dp"
)

const (
	// roundCount is what numbers of reports are rounded to.
	roundCount = 100
	// digits is how many significant digits an estimate has.
	digits = 4
)

// Tell makes what was computed what readers may see: no number of reports below dp.MinReports or of a hidden model, other numbers to the
// hundred, and no digits from which they could be computed.
func (r *Result) Tell() {
	any := false
	for i := range r.Families {
		f := &r.Families[i]
		n := f.N
		f.N = 0
		hidden := len(f.Bins) > 0 && f.Bins[0].Share.Suppressed == FewOthers
		switch {
		case hidden:
			f.Fewer = "fewer than 1,000 reports beside it"
		case n < dp.MinReports:
			f.Fewer = "fewer than 1,000 reports"
		default:
			f.N = (n + roundCount/2) / roundCount * roundCount
			any = true
		}
		for j := range f.Bins {
			b := &f.Bins[j]
			if n > 0 {
				b.Sum.scale(float64(f.N) / float64(n)) // a total over a mean is the number of reports
			}
			for _, v := range []*Value{&b.Mean, &b.Share, &b.Sum} {
				v.tell(f.N)
			}
		}
		for j := range f.Adjusted {
			f.Adjusted[j].Value = Rounded(f.Adjusted[j].Value)
		}
	}
	if !any {
		r.PerVehicle = 0
	}
}

func (v *Value) scale(by float64) {
	for _, x := range v.numbers() {
		*x *= by
	}
}

func (v *Value) tell(n uint64) {
	v.N, v.Variance, v.NoiseVariance = n, 0, 0
	for _, x := range v.numbers() {
		*x = Rounded(*x)
	}
}

func (v *Value) numbers() []*float64 { return []*float64{&v.Mean, &v.StdErr, &v.Low, &v.High, &v.Bias} }

// Rounded returns the nearest number of so many decimal digits as are told.
func Rounded(x float64) float64 {
	y, err := strconv.ParseFloat(strconv.FormatFloat(x, 'e', digits-1, 64), 64)
	if err != nil {
		return 0 // beyond the range of numbers, which no mean of bounded values is
	}
	return y
}
