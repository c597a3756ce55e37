package inclusion

import (
	"testing"
	"time"

	"rawstone/pkg/inclusion"
	"rawstone/pkg/wire"
)

// TestShortReceiptIsKept: a receipt that accepts a claim and credits less than it proved frees nothing, whatever is proven of it.
func TestShortReceiptIsKept(t *testing.T) {
	w := newWorld(t)
	w.claim(2, func(r *wire.Receipt) { r.Credits = nil })
	w.now = w.now.Add(time.Hour)
	w.turn(1, 2)
	if len(w.asked) != 0 {
		t.Errorf("asked %v", w.asked)
	}
	w.count(outcomeShort, 1)
	w.now = w.now.Add(Overdue)
	w.turn(1, 2)
	if len(w.told) != 1 {
		t.Errorf("the driver is told %q", w.told)
	}
}

// TestOneDoesNotHoldUpOthers has one receipt that the collector is always too busy for: the next one is asked about all the same.
func TestOneDoesNotHoldUpOthers(t *testing.T) {
	w := newWorld(t)
	first := w.claim(2, nil)
	second := w.claim(3, nil)
	w.answers[first.Submission.String()] = func() (int, []byte) { return 503, refusal(inclusion.ReasonBusy) }
	w.answers[second.Submission.String()] = func() (int, []byte) { return 404, refusal(inclusion.ReasonNotYet) }
	w.now = w.now.Add(time.Hour)
	for range 2 {
		w.turn(2, 3)
	}
	w.count(outcomeFailed, 2)
	w.count("not_yet", 2)
}
