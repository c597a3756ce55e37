package notice

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// TestNobodyIsLeftBehind: whatever policies and changes of validators are logged, however much of what may be left out is, and whichever
// notices a car hears, it accepts each newer one, refutes none that is honest, and knows the validators of the day.
func TestNobodyIsLeftBehind(t *testing.T) {
	w := newWorld(t)
	made := make(map[string][]byte) // signing takes most of the time
	once := func(name string, sign func() []byte) []byte {
		if made[name] == nil {
			made[name] = sign()
		}
		return made[name]
	}
	rapid.Check(t, func(t *rapid.T) {
		var log [][]byte
		var heard *Opened
		from, serial, policy := uint32(0), uint16(0), uint16(0)
		begins := map[uint32]int{0: 0} // sets, by their first day
		on := func(day uint32) (to int) {
			for first := range day + 1 {
				if next, ok := begins[first]; ok {
					to = next
				}
			}
			return to
		}
		for day := range uint32(12) {
			switch rapid.IntRange(0, 3).Draw(t, "logged") {
			case 0:
				policy++
				log = append(log, once(fmt.Sprint("policy ", policy, " ", day), func() []byte {
					return w.seal(w.policy(policy, terms.KindMileage, day0+day, day0+day))
				}))
			case 1: // at least a day ahead, and above the last
				serial++
				from = max(from, day) + uint32(rapid.IntRange(1, 3).Draw(t, "ahead"))
				to := rapid.IntRange(1, 3).Draw(t, "set")
				begins[from] = to
				log = append(log, once(fmt.Sprint("change ", serial, " ", from, " ", to), func() []byte { return w.change(serial, from, set(to)) }))
			}
			_, needed, err := bounds(w.root, w.program, w.id, log, day0+day+uint32(rapid.IntRange(0, 2).Draw(t, "late")), day0+day)
			if err != nil {
				t.Fatal(err)
			}
			if !rapid.Bool().Draw(t, "hears") {
				continue
			}
			n := w.on(day, set(on(day)), rapid.IntRange(0, needed).Draw(t, "left out"), log...)
			o, err := n.Open(w.root, w.program, w.id)
			if err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
			if heard != nil {
				if err := o.After(heard); err != nil {
					t.Fatalf("day %d: %v", day, err)
				}
				if o.Refutes(heard, w.program.Timing) || heard.Refutes(o, w.program.Timing) {
					t.Fatalf("day %d: an honest notice is refuted", day)
				}
			}
			heard = o
			for ahead := day; ahead < day+6; ahead++ { // all that is logged by now is known
				if got := ledger.On(w.program, o.Changes, day0+ahead).Validators[0]; got != set(on(ahead))[0].Public() {
					t.Fatalf("on day %d the validators of day %d are thought to be %s", day, ahead, got.Name)
				}
			}
		}
	})
}
