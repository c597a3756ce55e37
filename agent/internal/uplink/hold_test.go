package uplink

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/hold"
	"rawstone/pkg/wire"
)

// What was due while the car was off, submission or news, makes it connect at no moment but the Gate's.
func TestOverdueIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, err := hold.New(hold.Config{Mean: time.Hour, Now: time.Now, Uniform: func() float64 { return 0.25 }})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		sp := &stubSpool{due: began.Add(-24 * time.Hour), changed: make(chan struct{}, 1)}
		var r rulebook
		u := &Uplink{wake: make(chan struct{}, 1), cfg: Config{Spool: sp, Hold: gate, Now: time.Now, Ready: func() bool { return true }, NewsDue: r.newsDue}}
		if !u.await(t.Context()) || time.Since(began) != 30*time.Minute {
			t.Errorf("connects for a submission %v after the start", time.Since(began))
		}
		sp.due = time.Time{}
		r.want(began)
		if !u.await(t.Context()) || time.Since(began) != time.Hour {
			t.Errorf("connects for news %v after the start", time.Since(began))
		}
		// What becomes due while the car is on is punctual.
		r.want(time.Now().Add(10 * time.Minute))
		if !u.await(t.Context()) || time.Since(began) != 70*time.Minute {
			t.Errorf("connects for the next news %v after the start", time.Since(began))
		}
	})
}

// picky is a gate that holds some submissions for ever.
type picky struct {
	mu   sync.Mutex
	held []wire.Hash
}

func (p *picky) Until(name string, due time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.ContainsFunc(p.held, func(id wire.Hash) bool { return string(id[:]) == name }) {
		return time.Hour
	}
	return time.Until(due)
}

// A session that is made for one submission takes no other along that is held, but what follows one of its own kind.
func TestHeldSubmissionsTravelAlone(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	gate := &picky{held: []wire.Hash{wire.ID([]byte("report")), wire.ID([]byte("claim 2"))}}
	b := newBench(t, br, func(c *Config) { c.Hold = gate })
	c := startCollector(t, br, func(body []byte, _ int) [][]byte { return [][]byte{receipt(t, b.key, vehicle, body)} })
	past := time.Now().Add(-time.Hour)
	b.put(t, wire.KindReport, "report", past)
	b.put(t, wire.KindClaim, "claim 1", past)
	b.put(t, wire.KindClaim, "claim 2", past) // as the sealer's next one, once the first is answered
	b.put(t, wire.KindClaim, "claim 3", time.Now().Add(24*time.Hour))
	b.run(t)
	b.wait(t, "claim 1", "claim 2")
	eventually(t, "the session ends", func() bool { return testutil.ToFloat64(b.up.metrics.sessions) >= 1 && br.NumClients() <= 1 })
	if got := c.seen(); !slices.Equal(got, []string{"claim 1", "claim 2"}) {
		t.Errorf("sent %q", got)
	}
	if n := testutil.ToFloat64(b.up.metrics.sessions); n != 1 {
		t.Errorf("%v sessions", n)
	}
}

// Of claim and report that are due together neither is always first.
func TestFirstKindIsChance(t *testing.T) {
	first := make(map[int]int)
	for range 200 {
		first[newTurn()]++
	}
	for i := range kinds {
		if first[i] < 50 { // the chance of that is below 1e-12
			t.Errorf("%s is first %d times in 200", kinds[i], first[i])
		}
	}
}
