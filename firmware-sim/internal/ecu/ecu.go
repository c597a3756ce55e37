// Package ecu plays the attestation ECU of a car: it counts from the signals that the car puts on its bus, signs one snapshot of
// its counters per program day and hands it to the agent.
//
// Invariants: sequence numbers are strictly increasing and dense over the life of the key; no counter ever falls (each stops at its
// largest value); a snapshot is on disk before it is sent, so that no sequence number is ever signed over two contents that both
// left the ECU; every snapshot has its own salt.
//
// The package refuses to open a state that is damaged, belongs to another key or program, or is in use by another process, and it
// never begins one anew. It does not judge distance beyond falls and jumps of its own odometer signal: whether the signal tells the
// truth is what the trust in a real ECU's hard-wired sensors is about.
package ecu

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// saveEvery is the longest that counted distance stays in memory only.
const saveEvery = time.Second

// Config says which ECU it is and how it counts.
type Config struct {
	// Dir holds the ECU's key and state. Required.
	Dir string
	// Program is the identifier of the program document, part of everything signed. Required.
	Program wire.Hash
	// Clock is the ECU's own clock; its offset from UTC also says when night is. Required.
	Clock terms.Clock
	// OverspeedMH is the speed in metres an hour above which overspeed_s counts. Required by Open.
	OverspeedMH int64
	// StandstillMH is the largest speed in metres an hour that is not driving: 0 for a wheel speed, more for one that is noisy at rest.
	StandstillMH int64
	// Record is called with every snapshot before anybody gets it, for tests that need the truth. A snapshot that a crash makes the
	// ECU sign again is recorded again, with the same sequence number. nil means none.
	Record func(attest.Message) error
	// Send makes one transfer to the agent and returns when the agent has it. Required by Open.
	Send func(ctx context.Context, message []byte) error
	// Logger takes the journey of snapshots. Required by Open.
	Logger *slog.Logger
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("no state directory given")
	case c.Program.IsZero():
		return errors.New("no program given")
	case c.Clock.Now == nil || c.Clock.DayS == 0:
		return errors.New("no clock given")
	}
	return nil
}

// An ECU counts and signs. Its methods are safe for concurrent use.
type ECU struct {
	cfg    Config
	signer crypto.Signer
	key    wire.PublicKey
	lock   *os.File
	metric metrics

	mu      sync.Mutex
	meter   meter
	state   state
	saved   time.Time
	closed  bool
	pending int // snapshots to send, counted from the last
	running int // snapshots being sent
	wake    chan struct{}
}

// Create makes the ECU's key, signs the snapshot of its birth (seq 0, all counters 0) and returns its identity. The directory is
// made when missing and must hold no ECU.
func Create(cfg Config) (*attest.Identity, error) {
	id, err := create(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot create ECU: %w", err)
	}
	return id, nil
}

func create(cfg Config) (*attest.Identity, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(cfg.Dir, stateFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds one already; choose another state directory, or read its identity with `firmware-sim ecu identity`", cfg.Dir)
	}
	signer, err := keyfile.Create(filepath.Join(cfg.Dir, keyFile))
	if err != nil {
		return nil, err
	}
	e := &ECU{cfg: cfg, signer: signer}
	if e.key, err = wire.NewPublicKey(signer.Public()); err != nil {
		return nil, err
	}
	e.state = state{Version: stateVersion, Key: e.key.ID(), Program: cfg.Program}
	if err := e.sign(0, cfg.Clock.Today()); err != nil {
		return nil, err
	}
	id := e.Identity()
	return &id, nil
}

// Open takes up the ECU of a directory where it left off.
func Open(cfg Config) (*ECU, error) {
	e, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open ECU: %w", err)
	}
	return e, nil
}

func open(cfg Config) (_ *ECU, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	switch {
	case cfg.OverspeedMH <= 0 || cfg.StandstillMH < 0:
		return nil, errors.New("speeds that count are not positive")
	case cfg.Send == nil || cfg.Logger == nil:
		return nil, errors.New("no way to send or no logger given")
	}
	e := &ECU{cfg: cfg, wake: make(chan struct{}, 1)}
	if e.lock, err = lockDir(cfg.Dir); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s does not exist; make an ECU with `firmware-sim ecu init`", cfg.Dir)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			e.lock.Close()
		}
	}()
	if err := e.load(); err != nil {
		return nil, err
	}
	e.meter = meter{
		total: e.state.Total, overspeedMH: cfg.OverspeedMH, standstillMH: cfg.StandstillMH, utcOffsetS: cfg.Clock.OffsetS,
	}
	if e.metric, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	return e, nil
}

// load reads key and state and checks that they belong together.
func (e *ECU) load() error {
	s, err := readState(e.cfg.Dir)
	keyPath := filepath.Join(e.cfg.Dir, keyFile)
	if errors.Is(err, errNoState) {
		if _, statErr := os.Stat(keyPath); statErr == nil {
			return fmt.Errorf("%s holds a key but no state, which cannot be made up; restore the state from a copy, or make a new ECU in another directory", e.cfg.Dir)
		}
		return fmt.Errorf("%s holds none; make one with `firmware-sim ecu init`", e.cfg.Dir)
	}
	if err != nil {
		return err
	}
	key, err := keyfile.Load(keyPath)
	if err != nil {
		return err
	}
	e.signer = key
	if e.key, err = wire.NewPublicKey(key.Public()); err != nil {
		return err
	}
	if s.Key != e.key.ID() {
		return fmt.Errorf("the state in %s was written under another key; put that key back", e.cfg.Dir)
	}
	if s.Program != e.cfg.Program {
		return fmt.Errorf("the ECU in %s was made for another program (%s); give it that program or make a new ECU", e.cfg.Dir, s.Program)
	}
	if err := attest.Verify(&key.PublicKey, s.Program, s.last().Snapshot); err != nil {
		return damaged(filepath.Join(e.cfg.Dir, stateFile), err)
	}
	e.state = *s
	return nil
}

// ReadIdentity returns the identity of a directory's ECU without running it.
func ReadIdentity(dir string, program wire.Hash) (*attest.Identity, error) {
	e := &ECU{cfg: Config{Dir: dir, Program: program}}
	if err := e.load(); err != nil {
		return nil, fmt.Errorf("cannot read ECU identity: %w", err)
	}
	id := e.Identity()
	return &id, nil
}

// Identity returns the ECU's public key and its latest snapshot.
func (e *ECU) Identity() attest.Identity {
	e.mu.Lock()
	defer e.mu.Unlock()
	return attest.Identity{Key: e.key, Program: e.cfg.Program, Snapshot: e.state.last().Snapshot}
}

// Counters returns the counters as they stand.
func (e *ECU) Counters() wire.Counters {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.meter.Counters
}

var errClosed = errors.New("ECU is closed")

// Power says that the ECU is powered now: in a program day without a snapshot it signs one. Whatever is observed afterwards counts
// for the next.
func (e *ECU) Power() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.power()
}

func (e *ECU) power() error {
	if e.closed {
		return errClosed
	}
	last := e.state.last().Snapshot
	// A day below the last is a clock that was corrected: the sequence number still rises.
	today := e.cfg.Clock.Today()
	if today == last.Day {
		return nil
	}
	if err := e.sign(last.Seq+1, today); err != nil {
		return err
	}
	e.metric.signed.Inc()
	e.cfg.Logger.Info("snapshot signed", "day", today)
	e.enqueue(min(e.pending+1, attest.MaxLast))
	return nil
}

// Observe counts a sample, after signing the day's snapshot when there is none yet.
func (e *ECU) Observe(s Sample) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.power(); err != nil {
		return err
	}
	before := e.meter.rebased
	e.meter.observe(s)
	e.metric.rebased.Add(float64(e.meter.rebased - before))
	if e.meter.total == e.state.Total {
		return nil
	}
	if now := e.cfg.Clock.Now(); now.Sub(e.saved).Abs() >= saveEvery {
		return e.save()
	}
	return nil
}

// sign makes a snapshot and writes it down.
func (e *ECU) sign(seq uint64, day uint32) error {
	m := attest.Message{Opening: wire.Opening{Counters: e.meter.Counters}}
	if _, err := rand.Read(m.Opening.Salt[:]); err != nil {
		return fmt.Errorf("cannot sign snapshot: %w", err)
	}
	var err error
	if m.Snapshot, err = attest.Sign(e.signer, e.cfg.Program, seq, day, claim.Commit(m.Opening)); err != nil {
		return fmt.Errorf("cannot sign snapshot: %w", err)
	}
	if e.cfg.Record != nil {
		if err := e.cfg.Record(m); err != nil {
			return fmt.Errorf("cannot record snapshot: %w", err)
		}
	}
	before := e.state.Messages
	e.state.Messages = append([]attest.Message(nil), before...)
	e.state.push(m)
	if err := e.save(); err != nil {
		e.state.Messages = before
		return err
	}
	return nil
}

func (e *ECU) save() error {
	e.state.Total = e.meter.total
	if err := e.state.write(e.cfg.Dir); err != nil {
		return err
	}
	e.saved = e.cfg.Clock.Now()
	return nil
}

// Close writes the counters down and releases the directory. The ECU is of no use afterwards.
func (e *ECU) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(e.save(), e.lock.Close())
}
