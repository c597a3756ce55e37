// Package check gathers yes-or-no questions whose answers are dear, such as whether a signature holds, answers them together on all
// cores, and remembers the answers for as long as one batch of decisions lasts.
//
// A memory never changes an answer: a question that was not planned is checked when it is asked. It knows nothing of what is asked; two
// questions are one when they are equal, so that a question must hold all that its answer depends on.
package check

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Memory holds the questions of one sort that are open and the answers to the others. The zero value is empty. It may be used from one
// goroutine at a time.
type Memory[Q comparable] struct {
	open    []Q
	noted   map[Q]bool // those in open
	answers map[Q]bool
}

// Ask returns the answer to a question. One that is not known is noted and taken for yes while planning, and checked otherwise.
func (m *Memory[Q]) Ask(planning bool, q Q, check func(Q) bool) bool {
	if ok, known := m.answers[q]; known {
		return ok
	}
	if !planning {
		return check(q)
	}
	if !m.noted[q] {
		if m.noted == nil {
			m.noted = make(map[Q]bool)
		}
		m.noted[q] = true
		m.open = append(m.open, q)
	}
	return true
}

// Open returns the questions that were noted and not answered, each once, in the order in which they were first asked.
func (m *Memory[Q]) Open() []Q { return m.open }

// Len returns the number of questions that were answered together.
func (m *Memory[Q]) Len() int { return len(m.answers) }

// Keep closes the open questions with their answers, one for each in the order of Open.
func (m *Memory[Q]) Keep(ok []bool) {
	if m.answers == nil {
		m.answers = make(map[Q]bool, len(ok))
	}
	for i, q := range m.open {
		m.answers[q] = ok[i]
	}
	m.open, m.noted = nil, nil
}

// Answer checks the open questions, each by itself, and keeps the answers. When ctx ends before it is done, it keeps none of them and
// returns the context's error. Check is called from several goroutines.
func (m *Memory[Q]) Answer(ctx context.Context, workers int, check func(Q) bool) error {
	ok := make([]bool, len(m.open))
	if err := Each(ctx, workers, len(ok), func(i int) { ok[i] = check(m.open[i]) }); err != nil {
		return err
	}
	m.Keep(ok)
	return nil
}

// Each calls do with 0 to n-1 from at most so many goroutines as there are workers and waits for them. It begins nothing more once ctx
// has ended, and says so.
func Each(ctx context.Context, workers, n int, do func(int)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}
