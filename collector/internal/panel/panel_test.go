package panel

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rawstone/pkg/ledger"
)

// A follower notes the numbers of what it is given.
type follower struct {
	next   uint64
	err    error
	silent bool
}

func (f *follower) Next(ctx context.Context) (uint64, error) {
	if f.silent {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return f.next, f.err
}

func (f *follower) Follow(_ context.Context, entries ...ledger.Entry) error {
	for _, e := range entries {
		if e.Number != f.next {
			return errors.New("an entry out of order")
		}
		f.next++
	}
	return nil
}

// TestAsk has validators that are behind, ahead, broken, silent and not on the list; the others answer after they have seen everything.
func TestAsk(t *testing.T) { synctest.Test(t, testAsk) }

func testAsk(t *testing.T) {
	broken := errors.New("broken")
	p := Panel[*follower]{
		Validators: []*follower{{}, {next: 7}, {next: 8}, {err: broken}, {silent: true}, {}, {next: 3}},
		Patience:   time.Minute,
		Entries: func(_ context.Context, from uint64) (out []ledger.Entry, err error) {
			for n := from; n < from+3; n++ { // also beyond the last that is asked for
				out = append(out, ledger.Entry{Number: n})
			}
			return out, nil
		},
	}
	answers, reasons := Ask(t.Context(), p, 7, []byte{0, 1, 2, 3, 4, 6}, func(_ context.Context, i uint8, f *follower) (uint64, error) {
		if i == 6 {
			return 0, broken
		}
		return f.next + uint64(i), nil
	})
	for i, want := range []string{"", "", "validator 2: it has seen 8 entries", "validator 3: broken", "validator 4: context deadline", "not asked", "validator 6: broken"} {
		if want == "" && (reasons[i] != nil || answers[i] != 7+uint64(i)) || want != "" && (reasons[i] == nil || !strings.HasPrefix(reasons[i].Error(), want)) {
			t.Errorf("validator %d: %d, %v", i, answers[i], reasons[i])
		}
	}
	if !errors.Is(reasons[3], broken) || p.Validators[5].next != 0 || p.Validators[6].next != 7 {
		t.Errorf("%+v, %v", p.Validators, reasons)
	}
	p.Patience = time.Hour
	p.Entries = func(context.Context, uint64) ([]ledger.Entry, error) { return nil, nil }
	p.Validators = p.Validators[5:6]
	if _, reasons = Ask(t.Context(), p, 1, nil, func(context.Context, uint8, *follower) (int, error) { return 0, nil }); reasons[0] == nil {
		t.Error("an answer without the entries")
	}
}
