package backlog

import (
	"testing"

	"pgregory.net/rapid"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/terms"
)

func calendar(t rapid.TB) dispatch.Calendar {
	c, err := dispatch.New(dispatch.Config{Timing: terms.Timing{DayS: 86400}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLaws plays cars that stand off for any number of days, whose drivers change the cadence and whose reports come to nothing at times.
func TestLaws(t *testing.T) {
	c := calendar(t)
	rapid.Check(t, func(t *rapid.T) {
		secret := [32]byte{rapid.Byte().Draw(t, "secret")}
		day := rapid.Uint32Range(400, 30_000).Draw(t, "day")
		var st archive.State
		var boundary, leaves uint32
		for range rapid.IntRange(1, 40).Draw(t, "turns") {
			book := Book{
				Plan:  func(every int) dispatch.Plan { return c.Plan(secret, every) },
				Every: rapid.SampledFrom([]int{1, 7, 30}).Draw(t, "every"), Most: rapid.IntRange(1, 60).Draw(t, "most"),
			}
			missed := book.Missed(st, day)
			if len(missed) > book.Most {
				t.Fatalf("%d boundaries, at most %d", len(missed), book.Most)
			}
			told := 0
			for _, b := range missed {
				if b <= boundary || b > day {
					t.Fatalf("boundary %d after %d on day %d", b, boundary, day)
				}
				boundary = b
				if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
					Passed(&st, b)
					continue
				}
				if !Noticed(st, b) {
					told++
				}
				l := book.Leaves(st, day)
				if l <= day || l <= leaves && uint64(leaves) <= uint64(day)+uint64(book.Most)+1 {
					t.Fatalf("a report of day %d leaves on %d, the one before on %d", day, l, leaves)
				}
				leaves = l
				Made(&st, b, missed[len(missed)-1], l)
			}
			if told > 1 {
				t.Fatalf("%d reports of one backlog tell of use", told)
			}
			if more := book.Missed(st, day); len(more) > 0 {
				t.Fatalf("%v is missed again", more)
			}
			changed, fresh := book.Begin(&st, day)
			if fresh != (boundary == 0 && changed) {
				t.Fatalf("fresh is %v, boundary %d", fresh, boundary)
			}
			if *st.Boundary < boundary || *st.Boundary > day || st.Every != uint32(book.Every) {
				t.Fatalf("boundary %d after %d on day %d, one every %d", *st.Boundary, boundary, day, st.Every)
			}
			boundary = *st.Boundary
			if again, _ := book.Begin(&st, day); again || len(book.Missed(st, day)) > 0 {
				t.Fatal("the change alone makes a boundary")
			}
			day += uint32(rapid.SampledFrom([]int{0, 1, 1, 2, 9, 400}).Draw(t, "days"))
		}
	})
}

// TestWrongDay: a leaving day that only a wrong clock can have made holds nothing back.
func TestWrongDay(t *testing.T) {
	book := Book{Most: 53}
	for _, c := range []struct {
		st   archive.State
		want uint32
	}{
		{archive.State{}, 1001},
		{archive.State{Left: 1005}, 1006},
		{archive.State{Leaves: 1010}, 1011},
		{archive.State{Leaves: 1054}, 1055},
		{archive.State{Leaves: 1055}, 1001},
		{archive.State{Leaves: 1<<32 - 1}, 1001},
	} {
		if got := book.Leaves(c.st, 1000); got != c.want {
			t.Errorf("after %d and %d it leaves on %d, want %d", c.st.Left, c.st.Leaves, got, c.want)
		}
	}
}
