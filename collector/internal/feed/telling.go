package feed

import "context"

// maxSkip bounds how many times entries are sent before a validator is told again what it did not erase.
const maxSkip = 256

// A telling is what a client has told its validator of erasures. One that is refused stops neither later ones nor the ledger.
type telling struct {
	erased uint64   // the last erasure that it was told
	undone []uint64 // those up to it that it did not do
	// skip is how many times none is told, after failed times in a row with something undone.
	skip   int
	failed int
}

// tell tells the validator the erasures that it has not done yet, unless it refused lately.
func (t *telling) tell(ctx context.Context, c *Client) {
	if c.c.Erasure == nil {
		return
	}
	if len(t.undone) > 0 {
		if t.skip--; t.skip < 0 {
			t.again(ctx, c)
		}
	}
	for ctx.Err() == nil {
		numbers, err := c.c.Erasure(ctx, t.erased+1)
		if err != nil {
			c.unerased(t.erased+1, err)
			return
		}
		if len(numbers) == 0 {
			return
		}
		t.erased++
		if !t.done(ctx, c, t.erased, numbers) {
			t.undone = append(t.undone, t.erased)
		}
	}
}

// again tells what was not done.
func (t *telling) again(ctx context.Context, c *Client) {
	var left []uint64
	for _, n := range t.undone {
		numbers, err := c.c.Erasure(ctx, n)
		if err != nil {
			c.unerased(n, err)
		}
		if err != nil || !t.done(ctx, c, n, numbers) {
			left = append(left, n)
		}
	}
	t.undone, t.skip = left, min(1<<min(t.failed, 8), maxSkip)
	if t.failed++; len(left) == 0 {
		t.failed = 0
	}
}

func (t *telling) done(ctx context.Context, c *Client, erasure uint64, numbers []uint64) bool {
	err := c.Erase(ctx, numbers)
	if err != nil {
		c.unerased(erasure, err)
	}
	return err == nil
}

func (c *Client) unerased(erasure uint64, err error) {
	if c.c.Unerased != nil {
		c.c.Unerased(erasure, err)
	}
}
