package budget

import "fmt"

// Summary is the state of the budget.
type Summary struct {
	// Releases is the number of charges ever, LastEpoch the last one's epoch (0 when there is none), Head the chain's head.
	Releases, LastEpoch uint64
	Head                [32]byte
	// Spent is what the Window epochs that end with the epoch asked for have cost; Left is what remains of Limit. All in
	// 10⁻⁹ μ².
	Spent, Left, Limit int64
	Window             uint64
	// PureCharges is the number of charges in the window and PureEpsilon their ε in millionths, where all are pure (δ = 0) and of
	// one ε. Both are 0 otherwise.
	PureCharges int
	PureEpsilon int64
}

// Summary returns the state of the budget in the window that ends with epoch, or with the last charge where that is later.
func (l *Ledger) Summary(epoch uint64) Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Summary{Releases: l.last.Index, LastEpoch: l.last.Epoch, Head: l.last.Hash, Limit: l.limit, Window: l.window}
	charges := l.within(max(epoch, l.last.Epoch))
	for _, c := range charges {
		s.Spent += c.Nano
		if c.PicoDelta == 0 && c.MicroEpsilon == charges[0].MicroEpsilon {
			s.PureCharges++
		}
	}
	s.Left = max(l.limit-s.Spent, 0)
	if s.PureCharges < len(charges) {
		s.PureCharges = 0
	} else if s.PureCharges > 0 {
		s.PureEpsilon = charges[0].MicroEpsilon
	}
	return s
}

// Spent is one charge.
type Spent struct {
	// Index is its number in the ledger, from 1.
	Index, Epoch uint64
	Cost         Cost
	// Nano is the cost in 10⁻⁹ μ².
	Nano int64
}

// Charges returns the charges of the window that ends with epoch, or with the last charge where that is later, newest last.
func (l *Ledger) Charges(epoch uint64) []Spent {
	l.mu.Lock()
	defer l.mu.Unlock()
	charges := l.within(max(epoch, l.last.Epoch))
	list := make([]Spent, len(charges))
	for i, c := range charges {
		list[i] = Spent{Index: c.Index, Epoch: c.Epoch, Cost: Cost{MicroEpsilon: c.MicroEpsilon, PicoDelta: c.PicoDelta}, Nano: c.Nano}
	}
	return list
}

// Next returns the first epoch, not before the one given, at which a charge of cost c fits. Errors: ErrExhausted where c alone exceeds
// the limit, ErrPast where no epoch is left, and a cost outside dp's ranges.
func (l *Ledger) Next(epoch uint64, c Cost) (uint64, error) {
	nano, err := c.NanoMu2()
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if nano > l.limit {
		return 0, fmt.Errorf("%w: a release costs %d and the limit is %d (10⁻⁹ μ²)", ErrExhausted, nano, l.limit)
	}
	if l.last.Index > 0 && epoch <= l.last.Epoch {
		if epoch = l.last.Epoch + 1; epoch == 0 {
			return 0, ErrPast
		}
	}
	for l.spent(epoch) > l.limit-nano {
		// Until the oldest release has left the window.
		if epoch = l.within(epoch)[0].Epoch + l.window; epoch < l.window {
			return 0, ErrPast
		}
	}
	return epoch, nil
}

// Epsilon returns the ε at total delta of everything spent in the window: by the sum of squares, which is exact for Gaussian noise, or
// by the optimal composition of pure releases where all are such and that is less. delta's range is that of dp.Epsilon.
func (s Summary) Epsilon(delta float64) (float64, error) {
	return epsilon(s.Spent, s.PureEpsilon, s.PureCharges, delta)
}

// LimitEpsilon returns the ε at total delta of the whole Limit, by the sum of squares.
func (s Summary) LimitEpsilon(delta float64) (float64, error) { return epsilon(s.Limit, 0, 0, delta) }
