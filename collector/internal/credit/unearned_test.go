package credit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

func (r *rig) unearned(vehicle string) (n int) {
	r.t.Helper()
	r.update(func(ctx context.Context, tx *store.Tx) (err error) {
		n, err = tx.Unearned(ctx, vehicle, r.day)
		return err
	})
	return n
}

func (r *rig) kept(body []byte) bool {
	r.t.Helper()
	kept := true
	r.update(func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.Submission(ctx, wire.ID(body), "V1", wire.KindClaim)
		if errors.Is(err, store.ErrNotFound) {
			kept, err = false, nil
		}
		return err
	})
	return kept
}

// TestUnearnedSubmissionsAreBounded: beyond a number for each vehicle and day, what is refused and what proves a span again gets its answer
// and no row; what earns is kept, and the same bytes get the same receipt.
func TestUnearnedSubmissionsAreBounded(t *testing.T) {
	r, e := newRig(t), newECU(t)
	r.cfg.KeptPerDay = 3
	r.restart()
	birth, _ := r.add("V1", e)
	r.add("V2", newECU(t))
	to := e.at(t, 1, 98, 1_045_000)
	r.accepted(r.send("V1", r.span(e, birth, to, proof{1, 1})), 10)

	send := func(i int) []byte {
		body := fmt.Appendf(nil, "malformed %d", i)
		got, _ := r.submit("V1", wire.KindClaim, body)
		if got.Accepted || got.Reason != wire.ReasonMalformed || got.Submission != wire.ID(body) {
			t.Errorf("%+v", got)
		}
		return body
	}
	for i := range 2 {
		if !r.kept(send(i)) {
			t.Errorf("refusal %d is not kept", i)
		}
	}
	again := r.encode(r.span(e, birth, to, proof{1, 1}))
	_, first := r.submit("V1", wire.KindClaim, again)
	if !r.kept(again) || r.unearned("V1") != 3 {
		t.Errorf("%d kept, want 3", r.unearned("V1"))
	}
	for i := range 5 {
		if r.kept(send(10 + i)) {
			t.Errorf("refusal %d is kept", i)
		}
	}
	proven := r.encode(r.span(e, birth, to, proof{1, 1}))
	for range 2 {
		got, _ := r.submit("V1", wire.KindClaim, proven)
		r.accepted(got, 10)
	}
	if r.kept(proven) || r.unearned("V1") != 3 {
		t.Errorf("%d kept, want 3", r.unearned("V1"))
	}
	if _, b := r.submit("V1", wire.KindClaim, again); !bytes.Equal(b, first) {
		t.Error("a kept one got another receipt")
	}
	// What earns is kept, and answered with the same receipt.
	next := r.encode(r.span(e, to, e.at(t, 2, 99, 1_060_000)))
	_, first = r.submit("V1", wire.KindClaim, next)
	if _, b := r.submit("V1", wire.KindClaim, next); !r.kept(next) || !bytes.Equal(b, first) {
		t.Error("an accepted claim is not kept")
	}
	// So is a span that comes again and earns what a claim lost its proof of.
	whole := r.encode(r.span(e, birth, to, proof{1, 1}, proof{2, 0}))
	if r.submit("V1", wire.KindClaim, whole); !r.kept(whole) {
		t.Error("a repeated claim that earns is not kept")
	}
	// Another vehicle, and another day.
	if r.submit("V2", wire.KindClaim, []byte("malformed")); r.unearned("V2") != 1 {
		t.Error("another vehicle's refusal is not kept")
	}
	r.day++
	if !r.kept(send(20)) || r.unearned("V1") != 1 {
		t.Error("the next day's refusal is not kept")
	}
	var refused int64
	r.update(func(ctx context.Context, tx *store.Tx) error {
		all, err := tx.Refusals(ctx)
		for _, x := range all {
			refused += x.N
		}
		return err
	})
	if refused != 9 {
		t.Errorf("%d refusals counted, want 9", refused)
	}
	if s := r.summary(); s.KmProven != 20 || s.Credits != 3 {
		t.Errorf("records %+v", s)
	}
}
