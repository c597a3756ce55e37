// Package validator holds one validator's keys and gives its VRF proofs and cosignatures. It follows the log entry by entry through a
// replay of its own, and cosigns only what the replay accepts as the next entry.
//
// Invariants: of each type it signs at most one payload for a day or drop, and none for an earlier one; what it is about to sign is on
// disk first, so that a crash cannot make it sign twice. A proof exists only for what a quorum has cosigned before, and only once its
// drop is due: nobody can ask for tomorrow's seed. In a recovery (package duty), which brings back validators that are out, it takes part
// only once its own clock is past the end of the log's day, so that whoever wants one has to let the log stand still until then. It never
// cosigns a checkpoint of a smaller tree than one before.
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
	"slices"
	"sync"
	"time"

	"rawstone/pkg/audit"
	"rawstone/pkg/durable"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
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
	// Checkpoint is the largest that was cosigned.
	Checkpoint checkpoint `json:"checkpoint,omitzero"`
}

type checkpoint struct {
	Size uint64    `json:"size"`
	Root wire.Hash `json:"root"`
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
		// From now on the file is there, so that one which is lost is missed.
		v.state = state{Validator: own, Signed: make(map[ledger.Type]signed)}
		if err := v.persist(); err != nil {
			return nil, fmt.Errorf("cannot open validator: %w", err)
		}
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
	now, at, end := v.now(), p.Timing.DayStart(due.Day), p.Timing.DayStart(due.Day+1)
	if due.Type == ledger.TypeBlock {
		at = p.Timing.DropTime(due.Drop)
	}
	if now.Before(at) {
		return ledger.Proof{}, fmt.Errorf("cannot prove: drop %d of day %d is due in %s", due.Drop, due.Day, at.Sub(now))
	}
	if in, _ := v.replay.Set(); now.Before(end) && !slices.Contains(in, index) {
		return ledger.Proof{}, fmt.Errorf("cannot prove: this validator is out of day %d, which ends in %s", due.Day, end.Sub(now))
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
	now, at, when, end := v.now(), uint64(due.Day), p.Timing.DayStart(due.Day), p.Timing.DayStart(due.Day+1)
	if t == ledger.TypeBlock {
		at, when = due.Drop, p.Timing.DropTime(due.Drop)
	}
	if now.Before(when) {
		return none, fmt.Errorf("cannot cosign: drop %d of day %d is due in %s", due.Drop, due.Day, when.Sub(now))
	}
	if now.Before(end) && v.replay.Recovers(proofs(t, payload)) {
		return none, fmt.Errorf("cannot cosign: validators that are out of day %d give no proof before its end in %s", due.Day, end.Sub(now))
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

// proofs returns those of a payload, none of leaves.
func proofs(t ledger.Type, payload []byte) []ledger.Proof {
	if d, err := ledger.DecodeDay(payload); t == ledger.TypeDay && err == nil {
		return d.Proofs
	}
	if b, err := ledger.DecodeBlock(payload); t == ledger.TypeBlock && err == nil {
		return b.Proofs
	}
	return nil
}

// Checkpoint returns the largest tree of which it has cosigned a checkpoint, of no entry before the first.
func (v *Validator) Checkpoint() tlog.Checkpoint {
	v.mu.Lock()
	defer v.mu.Unlock()
	return tlog.Checkpoint(v.state.Checkpoint)
}

// CosignCheckpoint remembers on disk that it has cosigned a tree, and cosigns the checkpoint of it that is given (C2SP tlog-cosignature).
// It refuses a smaller tree than an earlier one, and another of the same size. That the checkpoint is the log's and extends the earlier
// ones is the caller's to have checked.
func (v *Validator) CosignCheckpoint(text []byte, c tlog.Checkpoint) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last := v.state.Checkpoint
	switch {
	case c.Size < last.Size:
		return nil, fmt.Errorf("cannot cosign checkpoint: %d entries are fewer than %d, which were cosigned", c.Size, last.Size)
	case c.Size == last.Size && c.Root != last.Root:
		return nil, fmt.Errorf("cannot cosign checkpoint: of %d entries another one was cosigned", c.Size)
	case c.Size > last.Size:
		v.state.Checkpoint = checkpoint(c)
		if err := v.persist(); err != nil {
			v.state.Checkpoint = last
			return nil, fmt.Errorf("cannot cosign checkpoint: %w", err)
		}
	}
	return tlog.CosignCheckpoint(v.key.CheckpointSigner(), v.key.Public().Name, text, v.now())
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
