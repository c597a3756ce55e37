package check

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func even(q int) bool { return q%2 == 0 }

// TestMemory plans questions, answers them and asks again.
func TestMemory(t *testing.T) {
	var m Memory[int]
	for _, q := range []int{3, 4, 3, 5} {
		if !m.Ask(true, q, func(int) bool { t.Error("checked while planning"); return false }) {
			t.Errorf("%d was not taken for yes", q)
		}
	}
	if !slices.Equal(m.Open(), []int{3, 4, 5}) {
		t.Errorf("open are %v", m.Open())
	}
	if m.Ask(false, 3, even) || len(m.Open()) != 3 {
		t.Error("what is open was not checked when it was asked")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := m.Answer(ended, 2, even); !errors.Is(err, context.Canceled) || len(m.Open()) != 3 {
		t.Errorf("with an ended context: %v, open are %v", err, m.Open())
	}
	if err := m.Answer(t.Context(), 2, even); err != nil || len(m.Open()) != 0 {
		t.Fatalf("%v, open are %v", err, m.Open())
	}
	for _, planning := range []bool{true, false} {
		for _, q := range []int{3, 4, 5} {
			if m.Ask(planning, q, func(int) bool { t.Error("checked again"); return false }) != even(q) {
				t.Errorf("the answer to %d is forgotten", q)
			}
		}
	}
	if m.Ask(false, 7, even) || !m.Ask(false, 8, even) {
		t.Error("what was not planned is not checked")
	}
	m.Ask(true, 9, even)
	m.Ask(true, 10, even)
	m.Keep([]bool{false, true})
	if m.Ask(true, 9, nil) || !m.Ask(true, 10, nil) || m.Ask(true, 3, nil) || len(m.Open()) != 0 {
		t.Error("answers are not kept in the order of the questions, or lose those before them")
	}
}

// TestEach holds that each number is done once, by at most so many at a time, and nothing begins after the end.
func TestEach(t *testing.T) {
	const n = 100
	var done [n]atomic.Int32
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		gate := make(chan struct{})
		result := make(chan error)
		go func() {
			result <- Each(t.Context(), 3, n, func(i int) {
				begun.Add(1)
				<-gate
				done[i].Add(1)
			})
		}()
		synctest.Wait()
		if begun.Load() != 3 {
			t.Errorf("%d at a time", begun.Load())
		}
		close(gate)
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
	for i := range done {
		if k := done[i].Load(); k != 1 {
			t.Errorf("%d was done %d times", i, k)
		}
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var begun int
	if err := Each(ctx, 1, n, func(int) {
		begun++
		if begun == 5 {
			end()
		}
	}); !errors.Is(err, context.Canceled) || begun != 5 {
		t.Errorf("%d were begun, %v", begun, err)
	}
	if err := Each(t.Context(), 3, 0, func(int) { t.Error("there is nothing to do") }); err != nil {
		t.Error(err)
	}
}
