package bulletin

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// beside is a bulletin of another process for the same vehicles, who get what was published last, or other.
func (r *rig) beside(t *testing.T, other *[]byte, broken *error) *Bulletin {
	t.Helper()
	b, err := New(Config{
		Store: r.db, Publisher: r, Program: r.program, ProgramID: r.id, Today: func() uint32 { return r.today },
		Retained: func(context.Context) ([]byte, error) {
			switch {
			case *broken != nil:
				return nil, *broken
			case *other != nil:
				return *other, nil
			case len(r.got) > 0:
				return r.got[len(r.got)-1], nil
			}
			return nil, nil
		},
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSeveral: of several processes one publishes, whichever looks first, and none publishes what is older.
func TestSeveral(t *testing.T) {
	r := newRig(t)
	var other []byte
	var broken error
	first, second := r.beside(t, &other, &broken), r.beside(t, &other, &broken)
	r.addCharter(t, 1)
	r.addPolicy(t, 1, r.policy)
	r.draw(t)
	r.step(t, second, "nothing is there yet", 1)
	r.step(t, first, "the other one was first")
	r.addPolicy(t, 2, r.policy)
	r.draw(t)
	r.step(t, first, "a new policy", 1, 2)
	r.step(t, second, "the other one was first again")
	old := r.got[0]
	r.today++
	r.draw(t)
	other = old
	r.step(t, second, "what vehicles get is older", 1, 2)
	r.today++
	r.draw(t)
	other = []byte("no notice")
	r.step(t, first, "what vehicles get is none", 1, 2)
	r.today++
	r.draw(t)
	broken = errors.New("no leader")
	if published, err := first.Step(t.Context()); published || !errors.Is(err, broken) {
		t.Errorf("without an answer: published %t, %v", published, err)
	}
	broken, other = nil, nil
	r.step(t, first, "with an answer", 1, 2)
}
