package inclusion

import (
	"strings"
	"testing"
	"time"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// TestChangeOfValidators: a proof under validators that the car has not heard of waits for a notice, over a restart; one that those who were
// replaced have cosigned frees nothing.
func TestChangeOfValidators(t *testing.T) {
	w := newWorld(t)
	old, next := w.validator, must(ledger.GenerateValidatorKey("next"))
	change := &ledger.Witness{Serial: 1, FromDay: 20, Validators: []terms.Validator{next.Public()}}
	r := w.claim(2, nil)
	w.proves(r.Submission, 2)
	w.now = w.now.Add(time.Hour)

	w.heard, w.day, w.validator = 15, 21, next
	w.turn(1, 2)
	w.turn(1, 2)
	w.count(outcomeUndecided, 2)
	w.checker = must(New(w.checker.cfg)) // a restart
	w.turn(1, 2)
	w.count(outcomeUndecided, 1)
	if s := must(w.checker.Summary()); len(w.told) != 0 || s.False != 0 || must(w.archive.Receipts())[0].False != nil {
		t.Errorf("told %q, %+v", w.told, s)
	}
	// It is owed all the same.
	w.now = w.now.Add(Overdue)
	w.turn(1, 2)
	if len(w.told) != 1 || !strings.Contains(w.told[0], "within 24 hours") {
		t.Errorf("told %q", w.told)
	}

	w.changes, w.heard = []*ledger.Witness{change}, 21
	w.day, w.validator = 19, old // dated back
	w.turn(1, 2)
	w.count(outcomeUndecided, 3)
	w.day = 21
	w.turn(1, 2)
	w.count(outcomeFalse, 1)
	if len(w.told) != 2 || must(w.archive.Receipts())[0].False == nil {
		t.Errorf("told %q; a proof under keys that were replaced is no evidence", w.told)
	}

	w.validator = next
	w.turn(0, 1)
	w.count(outcomeProven, 1)
}
