package validator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Days of four drops; genesis at the begin of day 2.
var timing = terms.Timing{GenesisS: 80, DayS: 40, DropS: 10}

// A bench is a program of two validators, one of which is enough, and what a settler would do with the first.
type bench struct {
	t       *testing.T
	keys    []*ledger.ValidatorKey
	config  Config
	now     time.Time
	replay  *audit.Replay
	entries []ledger.Entry
	id      wire.Hash
	v       *Validator
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, now: timing.DropTime(0)}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.must(err)
	pub, err := wire.NewPublicKey(root.Public())
	b.must(err)
	_, verifier, err := tlog.GenerateKey("log.example")
	b.must(err)
	set := wire.KeySet{pub}
	p := &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: timing, Receipt: set, Policy: set, Board: set, BoardQuorum: 1, Quorum: 1, LogKey: verifier}
	for _, name := range []string{"first.example", "second.example"} {
		k, err := ledger.GenerateValidatorKey(name)
		b.must(err)
		b.keys = append(b.keys, k)
		p.Validators = append(p.Validators, k.Public())
	}
	signed, err := terms.SealProgram(root, p)
	b.must(err)
	b.id = wire.ID(signed)
	b.replay, err = audit.NewReplay(pub, nil)
	b.must(err)
	b.config = Config{Key: b.keys[0], Root: pub, State: filepath.Join(t.TempDir(), "state.json"), Now: func() time.Time { return b.now }, Logger: slog.New(slog.DiscardHandler)}
	b.open()
	b.log(ledger.Entry{Type: ledger.TypeProgram, Body: signed})
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// open starts the validator anew and has it follow what was logged.
func (b *bench) open() {
	b.t.Helper()
	var err error
	b.v, err = Open(b.config)
	b.must(err)
	b.must(b.v.Follow(b.t.Context(), b.entries...))
	if n, err := b.v.Next(b.t.Context()); err != nil || n != uint64(len(b.entries)) {
		b.t.Fatalf("next is %d, %v, want %d", n, err, len(b.entries))
	}
}

func (b *bench) log(e ledger.Entry) {
	b.t.Helper()
	e.Number = b.replay.Next()
	b.must(b.replay.Apply(&e))
	b.must(b.v.Follow(b.t.Context(), e))
	b.entries = append(b.entries, e)
}

// payload makes what is due, with proofs of the given validators of the day, the others withheld.
func (b *bench) payload(validators ...byte) (ledger.Type, []byte) {
	b.t.Helper()
	due := b.replay.Due()
	var proofs []ledger.Proof
	var withheld []byte
	in, _ := b.replay.Set()
	for _, i := range in {
		if strings.IndexByte(string(validators), i) >= 0 {
			proofs = append(proofs, b.keys[i].Prove(i, b.replay.Alpha()))
		} else {
			withheld = append(withheld, i)
		}
	}
	var r interface{ Validate() error }
	switch due.Type {
	case ledger.TypeLeaves:
		h, _, err := reward.SetHash(nil)
		b.must(err)
		r = &ledger.Leaves{Day: due.Day, Set: h, Validators: validators}
	case ledger.TypeDay:
		d, err := b.replay.NextDay(proofs, withheld)
		b.must(err)
		tree, err := reward.NewTree(nil)
		b.must(err)
		d.Root, r = tree.Root().Hash, d
	default:
		k, err := b.replay.NextBlock(proofs, withheld)
		b.must(err)
		r = k
	}
	p, err := ledger.EncodePayload(r)
	b.must(err)
	return due.Type, p
}

func (b *bench) seal(t ledger.Type, payload []byte) {
	b.t.Helper()
	c, err := b.v.Cosign(b.t.Context(), t, payload)
	b.must(err)
	s := ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{c}}
	body, err := s.Encode()
	b.must(err)
	b.log(ledger.Entry{Type: t, Body: body})
}

func (b *bench) refuses(t ledger.Type, payload []byte, want string) {
	b.t.Helper()
	if c, err := b.v.Cosign(b.t.Context(), t, payload); err == nil || !strings.Contains(err.Error(), want) || c != (ledger.Cosignature{}) {
		b.t.Errorf("got %v, want %s", err, want)
	}
}

// TestSignsOnce offers two payloads that the rules allow for the same leaves, order and drop, before and after a restart.
func TestSignsOnce(t *testing.T) {
	b := newBench(t)
	for range 3 {
		typ, one := b.payload(0, 1)
		_, other := b.payload(0)
		b.must(b.replay.Check(typ, other))
		first, err := b.v.Cosign(t.Context(), typ, one)
		b.must(err)
		b.refuses(typ, other, "is not the one which was signed")
		b.open()
		b.refuses(typ, other, "is not the one which was signed")
		again, err := b.v.Cosign(t.Context(), typ, one)
		b.must(err)
		if again != first {
			t.Error("the same payload is signed differently")
		}
		b.seal(typ, one)
	}
	// A log that lost its end, so that an earlier drop is next again: nothing is signed for it, not even what was.
	b.now = timing.DropTime(1)
	b.seal(b.payload(0, 1))
	b.entries = b.entries[:3]
	b.open()
	var err error
	b.replay, err = audit.NewReplay(b.config.Root, nil)
	b.must(err)
	for i := range b.entries {
		b.must(b.replay.Apply(&b.entries[i]))
	}
	for _, set := range [][]byte{{0, 1}, {0}} {
		typ, p := b.payload(set...)
		b.refuses(typ, p, "block 0 is before block 1, which was signed")
	}
}

func TestProve(t *testing.T) {
	b := newBench(t)
	ask := func(due audit.Due, want string) {
		t.Helper()
		p, err := b.v.Prove(t.Context(), due)
		if want == "" {
			b.must(err)
			if _, err := ledger.VerifyProof(b.keys[0].Public(), b.replay.Alpha(), p); err != nil {
				t.Error(err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) || p != (ledger.Proof{}) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ask(b.replay.Due(), "cannot prove") // no seed before the leaves are committed
	ask(audit.Due{Type: ledger.TypeBlock, Day: 2}, "cannot prove")
	b.seal(b.payload(0, 1))
	ask(b.replay.Due(), "")
	ask(audit.Due{Type: ledger.TypeBlock, Day: 2}, "the log's next is")
	b.seal(b.payload(0, 1))
	ask(b.replay.Due(), "")
	b.now = timing.DropTime(0).Add(-time.Nanosecond)
	ask(b.replay.Due(), "is due in 1ns")
	ask(audit.Due{Type: ledger.TypeBlock, Day: 2, Drop: 1}, "the log's next is")
}

func TestRefuses(t *testing.T) {
	b := newBench(t)
	typ, p := b.payload(0, 1)
	b.now = timing.DayStart(2).Add(-time.Second)
	b.refuses(typ, p, "is due in 1s")
	b.now = timing.DropTime(0)
	b.seal(typ, p)
	b.seal(b.payload(0, 1))
	typ, p = b.payload(0, 1)
	k, err := ledger.DecodeBlock(p)
	b.must(err)
	k.Supply += reward.Unit
	lie, err := ledger.EncodePayload(k)
	b.must(err)
	b.refuses(typ, lie, "Supply is 500, should be 0")
	b.refuses(typ, p[1:], "cannot")
	b.refuses(ledger.TypeDay, p, "should be block of day 2, drop 0")
	if err := b.v.Follow(t.Context(), ledger.Entry{Number: 3, Type: typ, Body: lie}); err == nil {
		t.Error("a lie is followed")
	}
	b.seal(typ, p) // what it refused has not harmed it
}

// TestState holds that nothing is signed that is not on disk first, and that a state file of somebody else or in pieces is refused.
func TestState(t *testing.T) {
	b := newBench(t)
	typ, p := b.payload(0, 1)
	good := b.config.State
	b.config.State = filepath.Join(t.TempDir(), "gone", "state.json")
	b.open()
	b.refuses(typ, p, "cannot write state")
	b.refuses(typ, p, "cannot write state") // and not from memory either
	b.config.State = good
	b.open()
	b.seal(typ, p)

	b.config.Key = b.keys[1]
	if _, err := Open(b.config); err == nil || !strings.Contains(err.Error(), "belongs to another key") {
		t.Error(err)
	}
	b.config.Key = b.keys[0]
	b.must(os.WriteFile(good, []byte(`{"validator"`), 0o600))
	if _, err := Open(b.config); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Error(err)
	}
	stranger, err := ledger.GenerateValidatorKey("first.example")
	b.must(err)
	b.config.Key, b.config.State = stranger, filepath.Join(t.TempDir(), "state.json")
	b.open()
	b.refuses(typ, p, "does not name validator first.example")
}
