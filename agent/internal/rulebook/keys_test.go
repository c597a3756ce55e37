package rulebook

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestKeyRotation has two setups in force one after the other, and a third: all can be proven with, and two are open at most.
func TestKeyRotation(t *testing.T) {
	w, s := newWorld(wire.Development), setups()
	blobs := newBlobs(s...)
	b := w.open(t, blobs)
	one, two, three := w.policy(1, s[0].lock, nil), w.policy(2, s[1].lock, nil), w.policy(3, s[2].lock, nil)
	take(t, b, w.notice(1, 0, one))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	delete(blobs.served, s[1].lock.ProvingKey)
	take(t, b, w.notice(2, 0, one, two))
	wantSerials(t, b, "1 true", "2 false")
	if err := b.fetch(t.Context()); err == nil || !strings.HasPrefix(b.Waiting(), "fetching keys: ") {
		t.Errorf("%v, %q", err, b.Waiting())
	}
	wantSerials(t, b, "1 true", "2 false") // the old ones stay while the new ones do not come
	blobs.served[s[1].lock.ProvingKey] = s[1].files[s[1].lock.ProvingKey]
	take(t, b, w.notice(3, 0, one, two, three))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSerials(t, b, "1 true", "2 true", "3 true")
	p := b.Rules().Policies
	for _, i := range []int{0, 1, 0, 2, 0, 1, 2} {
		proves(t, b, p[i], s[i].dir)
		if len(b.provers) > maxProvers || b.provers[0].lock != s[i].lock {
			t.Errorf("%d provers are open", len(b.provers))
		}
	}
	// What no policy names any more goes from flash; a claim that is being proven meanwhile is still made.
	take(t, b, w.notice(4, 2, one, two, three))
	if err := b.fetch(t.Context()); err != nil || len(blobs.flash) != 3 {
		t.Errorf("%d files, %v", len(blobs.flash), err)
	}
	if _, ok := b.Prover(p[0]); ok {
		t.Error("keys of a policy that is gone")
	}
	wantSerials(t, b, "3 true")
}

func TestProductionRefusesDevelopmentKeys(t *testing.T) {
	w, s := newWorld(wire.Production), setups()[0]
	blobs := newBlobs(s)
	b := w.open(t, blobs)
	take(t, b, w.notice(1, 0, w.policy(1, s.lock, nil)))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*Book{"heard": b, "restarted": w.again(b, blobs)} {
		wantSerials(t, b, "1 false")
		err := b.Rules().Unusable(b.Rules().Policies[0])
		if err == nil || !strings.Contains(err.Error(), "its keys are from a development setup, which production refuses") || b.Waiting() != "" {
			t.Errorf("%s: %v, %q", name, err, b.Waiting())
		}
		if err := b.fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := blobs.requests(); n != 1 {
		t.Errorf("%d files were asked for, want the lock alone, once", n)
	}
	real := production()
	blobs = newBlobs(real)
	b = w.open(t, blobs)
	take(t, b, w.notice(1, 0, w.policy(1, real.lock, nil)))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSerials(t, b, "1 true")
	proves(t, b, b.Rules().Policies[0], real.dir)
}

// TestUselessPoliciesAskForNothing holds that keys are fetched for nothing that this car will not use.
func TestUselessPoliciesAskForNothing(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	for name, edit := range map[string]func(*terms.Policy){
		"stopped":     func(p *terms.Policy) { p.Stop = true },
		"newer agent": func(p *terms.Policy) { p.MinAgent = "1.0.1" },
		"not covered": func(p *terms.Policy) {
			p.Kind, p.CapKm, p.Tiers[0].Km = terms.KindSafe, 0, 0
		},
	} {
		blobs := newBlobs(s)
		b := w.open(t, blobs)
		take(t, b, w.notice(1, 0, w.policy(1, s.lock, edit)))
		if err := b.fetch(t.Context()); err != nil || blobs.requests() != 0 || b.Waiting() != "" {
			t.Errorf("%s: %v, %d requests, %q", name, err, blobs.requests(), b.Waiting())
		}
		if b.Rules().Unusable(b.Rules().Policies[0]) == nil {
			t.Errorf("%s: usable", name)
		}
		wantSerials(t, b, "1 false")
	}
}

// TestLocksThatLie has a policy that names a lock of other keys, and one whose lock is no lock.
func TestLocksThatLie(t *testing.T) {
	w, s := newWorld(wire.Development), setups()
	noise := []byte("no lock")
	blobs := newBlobs(s...)
	blobs.served[wire.ID(noise)] = noise
	for name, c := range map[string]struct {
		edit func(*terms.Policy)
		want string
	}{
		"proving key of another setup":   {func(p *terms.Policy) { p.ProvingKey = s[1].lock.ProvingKey }, "are not those of the setup that it names"},
		"verifying key of another setup": {func(p *terms.Policy) { p.VerifyingKey = s[1].lock.VerifyingKey }, "are not those of the setup that it names"},
		"circuit of nothing":             {func(p *terms.Policy) { p.Circuit[0] ^= 1 }, "are not those of the setup that it names"},
		"no lock":                        {func(p *terms.Policy) { p.Lock = wire.ID(noise) }, "cannot read lock"},
	} {
		b := w.open(t, blobs)
		take(t, b, w.notice(1, 0, w.policy(1, s[0].lock, c.edit)))
		if err := b.fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantSerials(t, b, "1 false")
		if err := b.Rules().Unusable(b.Rules().Policies[0]); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysRotWhileRunning loses a file between its coming and the first proof.
func TestKeysRotWhileRunning(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	blobs := newBlobs(s)
	b := w.open(t, blobs)
	take(t, b, w.notice(1, 0, w.policy(1, s.lock, nil)))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-b.work // the notice's
	p := b.Rules().Policies[0]
	prover, _ := b.Prover(p)
	blobs.flash[s.lock.ProvingKey][99] ^= 1
	var zero wire.Opening
	if _, err := prover.Prove(claimOf(p), zero, zero); err == nil || !strings.Contains(err.Error(), "cannot load keys") {
		t.Errorf("%v", err)
	}
	wantSerials(t, b, "1 false")
	select {
	case <-b.work:
	default:
		t.Error("Run is not told")
	}
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	proves(t, b, p, s.dir)
}

// TestKeysThatDoNotLoad has a setup whose hashes are right and whose circuit is none: fetching it again would not help.
func TestKeysThatDoNotLoad(t *testing.T) {
	w := newWorld(wire.Development)
	files := claim.Files{Circuit: []byte("no circuit"), ProvingKey: []byte("no key"), VerifyingKey: []byte("none either")}
	dir := t.TempDir()
	lock := must(files.Write(dir, wire.Hash{}))
	blobs := newBlobs()
	for _, b := range [][]byte{must(os.ReadFile(filepath.Join(dir, "lock.json"))), files.Circuit, files.ProvingKey} {
		blobs.served[wire.ID(b)] = b
	}
	b := w.open(t, blobs)
	take(t, b, w.notice(1, 0, w.policy(1, lock, nil)))
	if err := b.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := b.Rules().Policies[0]
	prover, ok := b.Prover(p)
	if !ok {
		t.Fatal("no prover")
	}
	var zero wire.Opening
	if _, err := prover.Prove(claimOf(p), zero, zero); err == nil || !strings.Contains(err.Error(), "cannot load keys") {
		t.Errorf("%v", err)
	}
	n := blobs.requests()
	if err := b.fetch(t.Context()); err != nil || blobs.requests() != n {
		t.Errorf("%v, %d requests more", err, blobs.requests()-n)
	}
	if err := b.Rules().Unusable(p); err == nil || !strings.Contains(err.Error(), "its keys cannot be used") {
		t.Errorf("%v", err)
	}
	wantSerials(t, b, "1 false")
}

// TestRun fetches in the background, with longer and longer waits while the network is away, and at once when a notice asks for it.
func TestRun(t *testing.T) {
	w, s := newWorld(wire.Development), setups()[0]
	synctest.Test(t, func(t *testing.T) {
		blobs := newBlobs(s)
		blobs.fail = errors.New("no network")
		b := w.open(t, blobs)
		done := make(chan error)
		ctx, cancel := testContext(t)
		go func() { done <- b.Run(ctx) }()
		time.Sleep(time.Hour)
		if blobs.requests() != 0 {
			t.Error("the network was asked before any notice came")
		}
		take(t, b, w.notice(1, 0, w.policy(1, s.lock, nil)))
		synctest.Wait()
		if blobs.requests() != 1 {
			t.Errorf("%d requests after the notice", blobs.requests())
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		// 5 s, 10 s, ... 1 h, each at least half as long: nine attempts in the first hour at least, then one to two an hour.
		if n := blobs.requests(); n < 24 || n > 70 {
			t.Errorf("%d requests in a day without network", n)
		}
		if b.Waiting() != "fetching keys: no network\nfile does not exist" || testutil.ToFloat64(b.metrics.failures) != float64(blobs.requests()) {
			t.Errorf("%q", b.Waiting())
		}
		blobs.mu.Lock()
		blobs.fail = nil
		blobs.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		wantSerials(t, b, "1 true")
		n := blobs.requests()
		time.Sleep(1000 * time.Hour)
		if b.Waiting() != "" || blobs.requests() != n {
			t.Errorf("%q, and %d more requests", b.Waiting(), blobs.requests()-n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestBackoffGrowsWithJitter(t *testing.T) {
	b := newWorld(wire.Development).open(t, newBlobs())
	for fails, want := range map[int]time.Duration{0: 5 * time.Second, 1: 10 * time.Second, 9: 2560 * time.Second, 10: time.Hour, 1000: time.Hour} {
		if low, high := b.backoff(fails, 0), b.backoff(fails, 1); low != want/2 || high != want {
			t.Errorf("after %d failures %v to %v", fails, low, high)
		}
	}
}
