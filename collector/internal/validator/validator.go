// Package validator holds one validator's keys and gives its VRF proofs and cosignatures. It follows the log entry by entry through a
// replay of its own, and cosigns only what the replay accepts as the next entry.
//
// Invariants: of each type it signs at most one payload for a day or drop, and none for an earlier one; what it is about to sign is on
// disk first, so that a crash cannot make it sign twice. A proof exists only for what a quorum has cosigned before, and only once its
// drop is due: nobody can ask for tomorrow's seed.
//
// It refuses, in one sentence, what breaks a rule, and then stays as it was.
package validator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"rawstone/pkg/audit"
	"rawstone/pkg/durable"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Config configures a Validator.
type Config struct {
	Key *ledger.ValidatorKey
	// Root pins the program root.
	Root wire.PublicKey
	// State is the file that remembers what was signed; its directory must exist. A validator that loses it may contradict itself.
	State string
	// Openings lets it check weights and shares too; without them it checks what a stranger can.
	Openings audit.Opener
	// Now is the clock, time.Now outside tests.
	Now    func() time.Time
	Logger *slog.Logger
}

// A Validator may be used from several goroutines.
type Validator struct {
	key    *ledger.ValidatorKey
	path   string
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	replay *audit.Replay
	state  state
}

// state is what the file holds.
type state struct {
	// Validator is the cosignature key that the file belongs to.
	Validator string `json:"validator"`
	// Signed is the last of each type, by its number.
	Signed map[ledger.Type]signed `json:"signed"`
}

type signed struct {
	// At is the drop of a block, the day of leaves and order.
	At   uint64 `json:"at"`
	Hash string `json:"hash"`
}

// Open reads what the validator has signed and starts before the first entry.
func Open(c Config) (*Validator, error) {
	if c.Key == nil || c.State == "" || c.Now == nil || c.Logger == nil {
		return nil, errors.New("cannot open validator: key, state file, clock or logger is missing")
	}
	r, err := audit.NewReplay(c.Root, c.Openings)
	if err != nil {
		return nil, err
	}
	v := &Validator{key: c.Key, path: c.State, now: c.Now, logger: c.Logger, replay: r}
	own := fmt.Sprintf("%x", c.Key.Public().Key)
	b, err := os.ReadFile(c.State)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.state = state{Validator: own, Signed: make(map[ledger.Type]signed)}
		return v, nil
	case err != nil:
		return nil, fmt.Errorf("cannot open validator: %w", err)
	}
	if err := json.Unmarshal(b, &v.state); err != nil || v.state.Signed == nil {
		return nil, fmt.Errorf("cannot open validator: %s is damaged; without it the validator could contradict what it signed: restore it", c.State)
	}
	if v.state.Validator != own {
		return nil, fmt.Errorf("cannot open validator: %s belongs to another key", c.State)
	}
	return v, nil
}

// Next returns the number of the entry that it wants next.
func (v *Validator) Next(context.Context) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.replay.Next(), nil
}

// Follow replays entries of the log, in order. It stops at the first that breaks a rule, and says so.
func (v *Validator) Follow(_ context.Context, entries ...ledger.Entry) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range entries {
		if err := v.replay.Apply(&entries[i]); err != nil {
			v.logger.Error("entry refused", "number", entries[i].Number, "error", err)
			return err
		}
	}
	return nil
}

// Program returns the program with the validators of the log's day, and its identifier; nil before the program document.
func (v *Validator) Program() (*terms.Program, wire.Hash) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, id := v.replay.Program()
	if p != nil {
		p = v.replay.Current()
	}
	return p, id
}

// index returns the validator's place in the program of the log's day.
func (v *Validator) index() (uint8, *terms.Program, wire.Hash, error) {
	p, id := v.replay.Program()
	if p == nil {
		return 0, nil, id, errors.New("the validator has not seen the program document yet")
	}
	p = v.replay.Current()
	for i, other := range p.Validators {
		if other == v.key.Public() {
			return uint8(i), p, id, nil
		}
	}
	return 0, nil, id, fmt.Errorf("program %q does not name validator %s with these keys on the log's day", p.Name, v.key.Public().Name)
}

// Prove returns the VRF proof for the seed that is due. The caller says which one it means: the two may not have seen the same log.
func (v *Validator) Prove(_ context.Context, due audit.Due) (ledger.Proof, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	index, p, _, err := v.index()
	if err != nil {
		return ledger.Proof{}, fmt.Errorf("cannot prove: %w", err)
	}
	alpha := v.replay.Alpha()
	if have := v.replay.Due(); have != due || alpha == nil {
		return ledger.Proof{}, fmt.Errorf("cannot prove: asked for %+v, the log's next is %+v", due, have)
	}
	at := p.Timing.DayStart(due.Day)
	if due.Type == ledger.TypeBlock {
		at = p.Timing.DropTime(due.Drop)
	}
	if now := v.now(); now.Before(at) {
		return ledger.Proof{}, fmt.Errorf("cannot prove: drop %d of day %d is due in %s", due.Drop, due.Day, at.Sub(now))
	}
	return v.key.Prove(index, alpha), nil
}

// Cosign checks a payload as the next entry, remembers it on disk, and signs it.
func (v *Validator) Cosign(_ context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c, err := v.cosign(t, payload)
	if err != nil {
		v.logger.Error("cosignature refused", "error", err)
	}
	return c, err
}

func (v *Validator) cosign(t ledger.Type, payload []byte) (none ledger.Cosignature, err error) {
	index, p, id, err := v.index()
	if err != nil {
		return none, fmt.Errorf("cannot cosign: %w", err)
	}
	if err := v.replay.Check(t, payload); err != nil {
		return none, fmt.Errorf("cannot cosign: %w", err)
	}
	due := v.replay.Due()
	at, when := uint64(due.Day), p.Timing.DayStart(due.Day)
	if t == ledger.TypeBlock {
		at, when = due.Drop, p.Timing.DropTime(due.Drop)
	}
	if now := v.now(); now.Before(when) {
		return none, fmt.Errorf("cannot cosign: drop %d of day %d is due in %s", due.Drop, due.Day, when.Sub(now))
	}
	hash := ledger.PayloadHash(t, payload).String()
	last, any := v.state.Signed[t]
	switch {
	case any && last.At > at:
		return none, fmt.Errorf("cannot cosign: %v %d is before %v %d, which was signed", t, at, t, last.At)
	case any && last.At == at && last.Hash != hash:
		return none, fmt.Errorf("cannot cosign: %v %d is not the one which was signed", t, at)
	case !any || last.At < at:
		v.state.Signed[t] = signed{at, hash}
		if err := v.persist(); err != nil {
			v.state.Signed[t] = last
			if !any {
				delete(v.state.Signed, t)
			}
			return none, fmt.Errorf("cannot cosign: %w", err)
		}
	}
	return v.key.Cosign(index, id, t, payload), nil
}

// persist replaces the file; the new one is on disk, and in its directory, when it returns.
func (v *Validator) persist() (err error) {
	b, err := json.Marshal(v.state)
	if err != nil {
		return fmt.Errorf("cannot encode state: %w", err)
	}
	tmp := v.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	if err := os.Rename(tmp, v.path); err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(v.path)); err != nil {
		return fmt.Errorf("cannot write state: %w", err)
	}
	return nil
}
