package rulebook

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const perDay = 144 // drops

// change is a signed change to one validator.
func (w *world) change(serial uint16, from uint32, k *ledger.ValidatorKey) []byte {
	return must(ledger.SealWitness(w.root, &ledger.Witness{
		Version: wire.Version, Program: w.id, Serial: serial, FromDay: from, Validators: []terms.Validator{k.Public()},
	}))
}

// by is the notice of a drop, of its own day, that one validator stands for.
func (w *world) by(k *ledger.ValidatorKey, drop uint64, out int, documents ...[]byte) []byte {
	before, day := w.validator, w.day
	defer func() { w.validator, w.day = before, day }()
	w.validator, w.day = k, uint32(drop/perDay)
	return w.notice(drop, out, documents...)
}

func refused(t *testing.T, b *Book, n []byte, what, want, outcome string) {
	t.Helper()
	before := counted(b, outcome)
	if err := b.Take(n); err == nil || !strings.Contains(err.Error(), want) || counted(b, outcome) != before+1 {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
}

func wantChanges(t *testing.T, b *Book, day uint32, want ...uint16) {
	t.Helper()
	changes, got := b.Validators()
	var serials []uint16
	for _, c := range changes {
		serials = append(serials, c.Serial)
	}
	if d := cmp.Diff(want, serials); d != "" || got != day {
		t.Errorf("of day %d, want %d; changes (-want +got):\n%s", got, day, d)
	}
}

// TestChanges goes through two changes of validators: with each notice, with restarts in place of a network, and at once after a long
// time away. The keys of those who were replaced get nobody anywhere.
func TestChanges(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	first, second, third := w.validator, must(ledger.GenerateValidatorKey("second")), must(ledger.GenerateValidatorKey("third"))
	log := [][]byte{w.policy(1, s.lock, nil), w.change(1, 10, second), w.policy(2, s.lock, nil), w.change(2, 20, third)}
	stop := w.policy(3, s.lock, func(p *terms.Policy) { p.Stop = true })

	b := w.open(t, newBlobs(s))
	wantChanges(t, b, 0)
	take(t, b, w.by(first, 9*perDay-1, 0, log[:1]...))
	wantChanges(t, b, 8)
	old := w.by(first, 10*perDay-2, 0, log[:2]...)
	take(t, b, old)
	take(t, b, w.by(first, 10*perDay-1, 0, log[:2]...)) // their last one
	wantChanges(t, b, 9, 1)
	check := func(b *Book, day uint32, changes ...uint16) {
		t.Helper()
		wantChanges(t, b, day, changes...)
		const later = 300 * perDay
		refused(t, b, w.by(first, later, 0, log[:2]...), "old keys, with the change", "does not match", outcomeRefused)
		refused(t, b, w.by(first, later, 0, log[:1]...), "old keys, without the change", "keeps back change of validators", outcomeRefused)
		refused(t, b, w.by(first, later, 2, log[:3]...), "old keys, the change behind the chain", "keeps back change of validators", outcomeRefused)
		refused(t, b, w.by(first, 10*perDay, 0, log[:2]...), "old keys, the very next drop", "does not match", outcomeRefused)
		w.day = 9
		refused(t, b, w.notice(later, 0, log[:2]...), "old keys, dated back", "says that it is of day 9", outcomeRefused)
		refused(t, b, old, "an old notice", "and the car has heard that of drop", outcomeOlder)
		wantChanges(t, b, day, changes...)
	}
	check(b, 9, 1)
	check(w.again(b, newBlobs()), 9, 1)
	take(t, b, w.by(second, 10*perDay, 0, log[:2]...))
	check(b, 10, 1)
	take(t, b, w.by(second, 20*perDay-1, 0, log...))
	check(b, 19, 1, 2)
	again := w.again(b, newBlobs())
	check(again, 19, 1, 2)
	refused(t, again, w.by(second, 20*perDay, 0, log...), "the keys of the last but one", "does not match", outcomeRefused)
	take(t, again, w.by(third, 20*perDay, 2, log...))
	wantChanges(t, again, 20, 2)
	if err := again.Take(w.by(third, 21*perDay, 3, append(log, stop)...)); err != nil {
		t.Error(err)
	}
	wantSerials(t, w.again(again, newBlobs()), "3 false")

	// Who was away over both needs the newest notice alone, whatever is left out of it.
	for out := range 4 {
		away := w.open(t, newBlobs(s))
		take(t, away, w.by(first, 1, 0))
		take(t, away, w.by(third, 400*perDay, out, log...))
		if _, day := away.Validators(); day != 400 || len(away.Rules().Policies) != []int{2, 1, 1, 0}[out] {
			t.Errorf("%d left out: day %d, %d policies", out, day, len(away.Rules().Policies))
		}
		refused(t, away, w.by(second, 500*perDay, 0, log[:3]...), "replaced twice", "keeps back change of validators 2", outcomeRefused)
	}
}

// TestPoison: who holds the keys of replaced validators can deceive a car that has not heard of it, until it hears.
func TestPoison(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	first, second := w.validator, must(ledger.GenerateValidatorKey("second"))
	log := [][]byte{w.policy(1, s.lock, nil), w.change(1, 10, second)}
	for name, poison := range map[string][]byte{
		"ages ahead":               w.by(first, 100_000*perDay, 0, log[:1]...),
		"a drop that overflows":    w.by(first, 1<<63, 0, log[:1]...),
		"dated back":               w.notice(1<<40, 0, log[:1]...),
		"with the change left out": w.by(first, 100_000*perDay, 2, log...),
	} {
		b := w.open(t, newBlobs(s))
		take(t, b, poison)
		for _, b := range []*Book{w.again(b, newBlobs(s)), b} {
			honest := w.by(second, 30*perDay, 0, log...)
			take(t, b, honest)
			wantChanges(t, b, 30, 1)
			wantSerials(t, b, "1 false")
			again := w.again(b, newBlobs(s))
			for _, b := range []*Book{b, again} {
				if err := b.Take(poison); err == nil {
					t.Errorf("%s: believed again", name)
				}
				refused(t, b, w.by(second, 29*perDay, 0, log...), name, "and the car has heard that of drop", outcomeOlder)
			}
			if err := os.RemoveAll(filepath.Join(b.cfg.Dir, recordFile)); err != nil { // the next one begins with the poison again
				t.Fatal(err)
			}
		}
	}
}

// TestDamagedChange holds that a change on flash is verified as if it had just come.
func TestDamagedChange(t *testing.T) {
	w, other, s := newWorld(wire.Development), newWorld(wire.Development), setups()[0]
	second := must(ledger.GenerateValidatorKey("second"))
	other.id = w.id
	forged := w.by(second, 30*perDay, 0, w.policy(1, s.lock, nil), other.change(1, 10, second))
	b := w.open(t, newBlobs(s))
	text := must(codec.Encode(record{Version: recordVersion, Heard: 1, Notice: forged}))
	if err := os.WriteFile(filepath.Join(b.cfg.Dir, recordFile), text, 0o600); err != nil {
		t.Fatal(err)
	}
	wantChanges(t, w.again(b, newBlobs(s)), 0)
	refused(t, b, forged, "a change under another root", "does not match", outcomeRefused)
}
