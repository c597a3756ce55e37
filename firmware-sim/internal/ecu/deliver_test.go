package ecu

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/attest"
)

func TestDeliveryAndResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Deliver(ctx) }()
		for range 40 {
			r.nextDay(t)
			synctest.Wait()
		}
		got := r.seqs()
		if len(got) != 40 || got[0] != 1 || got[39] != 40 {
			t.Fatalf("delivered %v", got)
		}
		r.Request(attest.Request{Last: 3})
		synctest.Wait()
		if d := cmp.Diff([]uint64{38, 39, 40}, r.seqs()); d != "" {
			t.Errorf("resent (-want +got):\n%s", d)
		}
		r.Request(attest.Request{Last: 32})
		synctest.Wait()
		if got := r.seqs(); len(got) != 32 || got[0] != 9 || got[31] != 40 {
			t.Errorf("resent %v, want 9 to 40", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestRequestsCollapse asks again and again while an answer is under way.
func TestRequestsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 5 {
			r.nextDay(t)
		}
		release := make(chan struct{})
		r.send = func() error { <-release; return nil }
		go r.Deliver(t.Context())
		synctest.Wait() // the five wait in one answer and the first of them is being sent
		for range 100 {
			r.Request(attest.Request{Last: 2})
			r.Request(attest.Request{Last: 5})
		}
		r.Request(attest.Request{Last: 6})
		r.Request(attest.Request{Last: 6})
		close(release)
		synctest.Wait()
		if d := cmp.Diff([]uint64{1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5}, r.seqs()); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		if got := testutil.ToFloat64(r.metric.collapsed); got != 201 {
			t.Errorf("%v requests collapsed, want 201", got)
		}
	})
}

// TestNobodyListens loses nothing: the snapshots go out when somebody asks.
func TestNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.send = func() error { return errors.New("no flow control") }
		go r.Deliver(t.Context())
		for range 3 {
			r.nextDay(t)
			synctest.Wait()
		}
		if got := testutil.ToFloat64(r.metric.undelivered); got != 3 {
			t.Errorf("%v transfers failed, want 3", got)
		}
		r.Request(attest.Request{Last: 32})
		synctest.Wait()
		if got := testutil.ToFloat64(r.metric.undelivered); got != 4 {
			t.Errorf("%v transfers failed, want 4: the first of an answer that nobody takes ends it", got)
		}
		r.mu.Lock()
		r.send = nil
		r.mu.Unlock()
		r.Request(attest.Request{Last: 32})
		synctest.Wait()
		if d := cmp.Diff([]uint64{0, 1, 2, 3}, r.seqs()); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
	})
}
