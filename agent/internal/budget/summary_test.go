package budget

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rawstone/agent/internal/budget/internal/charge"
	"rawstone/pkg/dp"
)

// pure is a categorical release's cost.
var pure = Cost{MicroEpsilon: 500_000}

// TestCharges lists what a window holds, newest last, beside a plain count.
func TestCharges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := &Ledger{limit: 1 << 60, window: 10}
		var all []Spent
		var epoch uint64
		for range rapid.IntRange(0, 30).Draw(rt, "charges") {
			epoch += rapid.Uint64Range(1, 6).Draw(rt, "step")
			c := charge.Charge{Epoch: epoch, MicroEpsilon: 1, PicoDelta: 2, Nano: rapid.Int64Range(1, 9).Draw(rt, "nano")}.Follow(l.last)
			l.remember(c)
			all = append(all, Spent{Index: c.Index, Epoch: epoch, Cost: Cost{1, 2}, Nano: c.Nano})
		}
		at := rapid.Uint64Range(0, epoch+12).Draw(rt, "at")
		var want []Spent
		var spent int64
		for _, s := range all {
			if end := max(at, epoch); s.Epoch+10 > end {
				want, spent = append(want, s), spent+s.Nano
			}
		}
		if d := cmp.Diff(want, l.Charges(at), cmpopts.EquateEmpty()); d != "" {
			rt.Error(d)
		}
		if s := l.Summary(at); s.Spent != spent || s.Left != s.Limit-spent || s.Releases != uint64(len(all)) {
			rt.Errorf("%+v, want %d spent", s, spent)
		}
	})
}

// TestNext finds the first epoch at which Charge would succeed, beside trying one after another.
func TestNext(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		price, err := week.NanoMu2()
		if err != nil {
			t.Fatal(err)
		}
		l := &Ledger{limit: 3*price + price/2, window: 10}
		fits := func(epoch uint64, nano int64) bool {
			return (l.last.Index == 0 || epoch > l.last.Epoch) && l.spent(epoch)+nano <= l.limit
		}
		for range rapid.IntRange(0, 8).Draw(rt, "charges") {
			epoch := l.last.Epoch + rapid.Uint64Range(1, 6).Draw(rt, "step")
			if nano := rapid.SampledFrom([]int64{1, price / 2, price}).Draw(rt, "nano"); fits(epoch, nano) {
				l.remember(charge.Charge{Epoch: epoch, Nano: nano}.Follow(l.last))
			}
		}
		from := rapid.Uint64Range(0, l.last.Epoch+30).Draw(rt, "from")
		got, err := l.Next(from, week)
		if err != nil {
			rt.Fatal(err)
		}
		want := from
		for want <= l.last.Epoch && l.last.Index > 0 || !fits(want, price) {
			want++
		}
		if got != want {
			rt.Errorf("from %d the next is %d, want %d", from, got, want)
		}
	})
	l := &Ledger{limit: 1000, window: 10}
	_, err := l.Next(0, week)
	wantError(t, err, ErrExhausted, "and the limit is 1000")
	_, err = l.Next(0, Cost{})
	wantError(t, err, nil, "cannot price release")
	price, err := week.NanoMu2()
	if err != nil {
		t.Fatal(err)
	}
	l.limit = price
	l.remember(charge.Charge{Epoch: math.MaxUint64 - 3, Nano: price}.Follow(l.last))
	_, err = l.Next(math.MaxUint64-1, week) // leaves the window beyond the last epoch
	wantError(t, err, ErrPast, "")
	l.remember(charge.Charge{Epoch: math.MaxUint64, Nano: 1}.Follow(l.last))
	l.limit = 9 * price
	_, err = l.Next(7, week)
	wantError(t, err, ErrPast, "")
}

func categorical(t testing.TB, epsilon float64) *dp.Categorical {
	t.Helper()
	c, err := dp.NewCategorical(dp.SubsetSelection, 8, epsilon)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPureReleases: charges of one unit serve both kinds of noise, and a year of pure ones is composed as such.
func TestPureReleases(t *testing.T) {
	cfg := newPlace(t).config(t)
	var err error
	if cfg.Limit, err = YearLimit(pure, 40); err != nil {
		t.Fatal(err)
	}
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x := make([]int64, 8)
	for i := range uint64(20) {
		permit, err := l.Charge(t.Context(), i, pure)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []Mechanism{mechanism(t, 0.5), mechanism(t, 0.01), categorical(t, 0.500001)} {
			_, err = permit.Release(m, make([]int64, m.Dim()))
			wantError(t, err, nil, "costs more than was charged")
		}
		values, err := permit.Release(categorical(t, 0.5), x)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Store(t.Context(), permit, fmt.Append(nil, values)); err != nil {
			t.Fatal(err)
		}
	}
	price, err := pure.NanoMu2()
	if err != nil {
		t.Fatal(err)
	}
	s := l.Summary(0)
	if s.PureCharges != 20 || s.PureEpsilon != 500_000 || s.Spent != 20*price {
		t.Fatalf("%+v", s)
	}
	const delta = 1e-6
	got, err := s.Epsilon(delta)
	if err != nil {
		t.Fatal(err)
	}
	squares, err := dp.Epsilon(delta, math.Sqrt(float64(s.Spent)/1e9))
	if err != nil {
		t.Fatal(err)
	}
	optimal, err := dp.ComposePure(0.5, 20, delta)
	if err != nil {
		t.Fatal(err)
	}
	if got != optimal || !(got < squares) || !(got < 20*0.5) {
		t.Errorf("20 releases at 0.5 are %g; optimal %g, by squares %g", got, optimal, squares)
	}
	if year, err := YearEpsilon(pure, 20, delta); err != nil || year != got {
		t.Errorf("a year of 20 is %g, %v; want %g", year, err, got)
	}
	// One charge with another ε, or with a δ, ends it; sums of squares go on.
	for i, other := range []Cost{{MicroEpsilon: 600_000}, week} {
		l := l
		if i == 1 {
			p := newPlace(t)
			l = p.ledger(t)
			if _, err := l.Charge(t.Context(), 1, pure); err != nil {
				t.Fatal(err)
			}
		}
		permit, err := l.Charge(t.Context(), 20, other)
		if err != nil {
			t.Fatal(err)
		}
		s := l.Summary(0)
		if s.PureCharges != 0 || s.PureEpsilon != 0 {
			t.Errorf("%+v after a charge of %+v", s, other)
		}
		want, err := dp.Epsilon(delta, math.Sqrt(float64(s.Spent)/1e9))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.Epsilon(delta); err != nil || got != want {
			t.Errorf("%g, %v; want %g", got, err, want)
		}
		// A charge with a δ covers a pure release of less.
		if _, err := permit.Release(categorical(t, 0.1), x); err != nil {
			t.Error(err)
		}
	}
	// A window that mixed charges have left is pure again.
	if _, err := l.Charge(t.Context(), 10_000, pure); err != nil {
		t.Fatal(err)
	}
	if s := l.Summary(0); s.PureCharges != 1 || s.PureEpsilon != 500_000 {
		t.Errorf("%+v", s)
	}
}

// TestLimitIsExact: a charge that fills the limit to the last unit fits, and one unit less does not hold it.
func TestLimitIsExact(t *testing.T) {
	price, err := week.NanoMu2()
	if err != nil {
		t.Fatal(err)
	}
	for short, ok := range map[int64]bool{0: true, 1: false} {
		cfg := newPlace(t).config(t)
		cfg.Limit = 2*price - short
		l, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		report(t, l, 1)
		if _, err := l.Charge(t.Context(), 2, week); (err == nil) != ok || !ok && !errors.Is(err, ErrExhausted) {
			t.Errorf("%d short: %v", short, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestYearEpsilon(t *testing.T) {
	if epsilon, err := YearEpsilon(week, 52, 1e-6); err != nil || math.Round(epsilon*10) != 91 {
		t.Errorf("a year is %g, %v; want 9.1", epsilon, err)
	}
	if _, err := YearEpsilon(week, 0, 1e-6); err == nil {
		t.Error("a year of nothing")
	}
	if _, err := YearEpsilon(week, 52, math.NaN()); err == nil {
		t.Error("a delta that is no number")
	}
	if epsilon, err := YearEpsilon(Cost{MicroEpsilon: 1000}, 100_000, 1e-6); err != nil || !(epsilon > 0 && epsilon < 100) {
		t.Errorf("more than can be composed as pure: %g, %v", epsilon, err)
	}
}

// claimed is a mechanism that says what it likes of itself.
type claimed struct {
	Mechanism
	mu, epsilon, delta float64
}

func (c claimed) Mu() float64      { return c.mu }
func (c claimed) Epsilon() float64 { return c.epsilon }
func (c claimed) Delta() float64   { return c.delta }

// TestPermitCovers: what a mechanism may claim under a charge, to the last bit.
func TestPermitCovers(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for i, c := range []struct {
		cost Cost
		m    claimed
		ok   bool
	}{
		{week, claimed{mu: 0.1, epsilon: 1, delta: 1e-6}, true},
		{week, claimed{mu: math.NaN(), epsilon: 1, delta: 1e-6}, false},
		{week, claimed{mu: 0, epsilon: 1, delta: 1e-6}, false},
		{week, claimed{mu: -0.1, epsilon: 1, delta: 1e-6}, false},
		{week, claimed{mu: math.Inf(1), epsilon: 1, delta: 1e-6}, false},
		{pure, claimed{mu: 0.1, epsilon: 0.5}, true},
		{pure, claimed{mu: 0.1, epsilon: math.Nextafter(0.5, 1)}, false},
		{pure, claimed{mu: 0.1, epsilon: math.NaN()}, false},
		{pure, claimed{mu: 0.1, epsilon: 0.1, delta: 1e-300}, false},
		{pure, claimed{mu: 0.1, epsilon: 0.1, delta: math.NaN()}, false},
		{pure, claimed{mu: 9, epsilon: 0.1}, false},
	} {
		permit, err := l.Charge(t.Context(), uint64(i), c.cost)
		if err != nil {
			t.Fatal(err)
		}
		c.m.Mechanism = mechanism(t, 1)
		if _, err := permit.Release(c.m, []int64{1, 2}); (err == nil) != c.ok {
			t.Errorf("%+v: %v, want success %v", c.m, err, c.ok)
		}
	}
}
