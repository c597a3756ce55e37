package rulebook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	// connected is how long after a notice came the car counts as connected.
	connected = time.Minute
	// lookEvery is how often a wait is looked at again: the clock may be set, the machine may sleep, and a notice in force may come again.
	lookEvery = connected / 2
)

// maxProvers bounds the provers that are loaded at once: the one in use, and the one before or after it.
const maxProvers = 2

// keys are what is known of one setup.
type keys struct {
	lock claim.Lock
	// here says that circuit and proving key are on flash.
	here bool
	// refused says why they are never used, whatever is fetched.
	refused error
}

// against says why the keys are not a policy's, or nil, also where it is not known yet.
func (k keys) against(p *terms.Policy) error {
	switch {
	case k.refused != nil:
		return k.refused
	case k.here && (k.lock.Circuit != p.Circuit || k.lock.ProvingKey != p.ProvingKey || k.lock.VerifyingKey != p.VerifyingKey):
		return errors.New("its circuit and keys are not those of the setup that it names")
	}
	return nil
}

// loaded is a prover that is open.
type loaded struct {
	lock   claim.Lock
	prover *claim.Prover
}

// provable says why no proof may ever be made under a policy, or nil. It is cut.Rules.Provable.
func (b *Book) provable(p *terms.Policy) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[p.Lock].against(p)
}

// look returns what the flash holds of a setup.
func (b *Book) look(lock wire.Hash) keys {
	k, err := b.collect(lock, b.cfg.Blobs.Load)
	if err != nil {
		return keys{}
	}
	return k
}

// collect gets a setup's files with get. The error is one of get.
func (b *Book) collect(lock wire.Hash, get func(wire.Hash, int64) ([]byte, error)) (k keys, err error) {
	text, err := get(lock, claim.MaxLockLen)
	if err != nil {
		return keys{}, err
	}
	if k.lock, err = claim.ParseLock(text); err != nil {
		return keys{refused: err}, nil // the policy names these very bytes
	}
	if b.cfg.Environment == wire.Production && k.lock.Environment != wire.Production {
		k.refused = errors.New("its keys are from a development setup, which production refuses: the program has to name those of a ceremony")
		return k, nil
	}
	for _, hash := range []wire.Hash{k.lock.Circuit, k.lock.ProvingKey} {
		if _, err := get(hash, claim.MaxFileLen); err != nil {
			return keys{}, err
		}
	}
	k.here = true
	return k, nil
}

// Run fetches the keys that are missing until ctx is done, which is no error: while the car is connected for a notice, else when Config.Hold
// says, which is asked again before each attempt.
func (b *Book) Run(ctx context.Context) error {
	fails, again := 0, time.Time{}
	for ctx.Err() == nil {
		var later <-chan time.Time
		if wait := max(b.wait(), time.Until(again)); wait > 0 {
			later = time.After(min(wait, lookEvery))
		} else if err := b.fetch(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			wait := b.backoff(fails, rand.Float64())
			fails++
			b.metrics.failures.Inc()
			b.log.Warn("keys of policies cannot be fetched", "error", err, "retry_ms", wait.Milliseconds())
			again = time.Now().Add(wait)
			continue
		} else {
			fails, again = 0, time.Time{}
		}
		select {
		case <-ctx.Done():
		case <-b.work:
			again = time.Time{}
		case <-later:
		}
	}
	return nil
}

// wait returns the time until keys may be fetched, not above 0 where they may now or none are missing.
func (b *Book) wait() time.Duration {
	b.mu.Lock()
	free := len(b.missing()) == 0 || b.noticed.Within(connected, b.cfg.Now())
	b.mu.Unlock()
	if free || b.cfg.Hold == nil {
		return 0
	}
	return b.cfg.Hold.Until("keys", time.Unix(0, 0)) // since when they are missing is not known after a restart: always overdue
}

// backoff returns the wait after the given number of failures before this one: half of it fixed, half by chance, so that a fleet that
// heard of new keys at the same time does not come back at the same time.
func (b *Book) backoff(fails int, chance float64) time.Duration {
	d := b.cfg.BackoffMax
	if fails < 32 && b.cfg.BackoffMin < d>>fails {
		d = b.cfg.BackoffMin << fails
	}
	return d/2 + time.Duration(chance*float64(d-d/2))
}

// fetch gets what is missing and, when nothing is, removes the files that nobody names any more.
func (b *Book) fetch(ctx context.Context) error {
	var errs []error
	get := func(hash wire.Hash, limit int64) ([]byte, error) { return b.cfg.Blobs.Get(ctx, hash, limit) }
	b.mu.Lock()
	missing := b.missing()
	b.mu.Unlock()
	for _, lock := range missing {
		k, err := b.collect(lock, get)
		if err != nil {
			errs = append(errs, err)
		} else if b.set(lock, k) {
			b.log.Info("keys of policies have come", "usable", k.refused == nil)
			b.cfg.Changed()
		}
	}
	err := errors.Join(errs...)
	b.mu.Lock()
	b.failure = err
	b.mu.Unlock()
	if err == nil {
		b.tidy()
	}
	return err
}

// missing returns the locks whose keys have to be fetched, in a fixed order. mu is held.
func (b *Book) missing() (locks []wire.Hash) {
	for lock, k := range b.keys {
		if !k.here && k.refused == nil {
			locks = append(locks, lock)
		}
	}
	slices.SortFunc(locks, func(x, y wire.Hash) int { return slices.Compare(x[:], y[:]) })
	return locks
}

// set notes what was found out of a setup, false when the notice in force does not name it any more.
func (b *Book) set(lock wire.Hash, k keys) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, named := b.keys[lock]; !named {
		return false
	}
	b.keys[lock] = k
	return true
}

// tidy removes the files of setups that no policy names. Without a notice nothing is known of that.
func (b *Book) tidy() {
	b.mu.Lock()
	var keep []wire.Hash
	whole := b.opened != nil && len(b.missing()) == 0
	for lock, k := range b.keys {
		keep = append(keep, lock, k.lock.Circuit, k.lock.ProvingKey)
	}
	b.mu.Unlock()
	if !whole {
		return
	}
	if err := b.cfg.Blobs.Keep(keep...); err != nil {
		b.log.Warn("old keys cannot be removed", "error", err)
	}
}

func (b *Book) wake() {
	select {
	case b.work <- struct{}{}:
	default:
	}
}

// A Prover makes proofs under the keys of one setup. They are loaded when the first proof is asked for.
type Prover struct {
	book *Book
	lock claim.Lock
}

// Prover returns the prover for a policy of Rules, false while its keys are not on this car. It does not block.
func (b *Book) Prover(p *terms.Policy) (Prover, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.keys[p.Lock]
	return Prover{b, k.lock}, k.here && k.against(p) == nil
}

// Prove is claim.Prover's. Where the flash does not give any more what it has taken, it fails and the keys are fetched again.
func (p Prover) Prove(s claim.Statement, from, to wire.Opening) (wire.Proof, error) {
	prover, err := p.book.load(p.lock)
	if err != nil {
		return wire.Proof{}, fmt.Errorf("cannot load keys of a policy: %w", err)
	}
	return prover.Prove(s, from, to)
}

// load returns a setup's prover, the one that is open or a new one.
func (b *Book) load(lock claim.Lock) (*claim.Prover, error) {
	b.proving.Lock()
	defer b.proving.Unlock()
	if i := slices.IndexFunc(b.provers, func(l loaded) bool { return l.lock == lock }); i >= 0 {
		l := b.provers[i]
		b.provers = slices.Insert(slices.Delete(b.provers, i, i+1), 0, l)
		return l.prover, nil
	}
	prover, k, err := b.open(lock)
	if err != nil {
		b.set(lock.ID(), k)
		b.wake()
		return nil, err
	}
	kept := b.provers[:min(len(b.provers), maxProvers-1)]
	b.provers = append([]loaded{{lock, prover}}, kept...)
	return prover, nil
}

// open opens a setup's prover, or says what is to be known of the setup from now on.
func (b *Book) open(lock claim.Lock) (*claim.Prover, keys, error) {
	circuit, err := b.cfg.Blobs.Load(lock.Circuit, claim.MaxFileLen)
	if err != nil {
		return nil, keys{}, err
	}
	key, err := b.cfg.Blobs.Load(lock.ProvingKey, claim.MaxFileLen)
	if err != nil {
		return nil, keys{}, err
	}
	prover, err := claim.NewProver(circuit, key, lock)
	if err != nil { // although their hashes are right: no other files would do
		return nil, keys{lock: lock, refused: fmt.Errorf("its keys cannot be used: %w", err)}, err
	}
	return prover, keys{}, nil
}
