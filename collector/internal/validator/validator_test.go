package validator

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
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
	in, withheld := b.replay.Set()
	for _, i := range in {
		if strings.IndexByte(string(validators), i) >= 0 {
			proofs = append(proofs, b.keys[i].Prove(i, b.replay.Alpha()))
		} else {
			withheld = append(withheld, i)
		}
	}
	slices.Sort(withheld)
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

// TestRecovery has a validator that is out, and one that is not and sees it come back: neither takes part before the end of the log's day.
func TestRecovery(t *testing.T) {
	for _, who := range []int{0, 1} {
		b := newBench(t)
		b.config.Key = b.keys[who]
		b.config.State = filepath.Join(t.TempDir(), "state.json")
		b.open()
		b.seal(b.payload(0, 1))
		b.seal(b.payload(1)) // the first is out of day 2
		b.seal(b.payload(1))
		b.now = timing.DropTime(1)
		due, alpha := b.replay.Due(), b.replay.Alpha()
		k, err := b.replay.NextBlock([]ledger.Proof{b.keys[0].Prove(0, alpha)}, []byte{1})
		b.must(err)
		payload, err := ledger.EncodePayload(k)
		b.must(err)
		for _, at := range []time.Time{b.now, timing.DayStart(3).Add(-time.Nanosecond)} {
			b.now = at
			if _, err := b.v.Prove(t.Context(), due); (err == nil) != (who == 1) || err != nil && !strings.Contains(err.Error(), "this validator is out of day 2, which ends in") {
				t.Errorf("validator %d at %v: %v", who, at, err)
			}
			b.refuses(due.Type, payload, "validators that are out of day 2 give no proof before its end in")
		}
		b.now = timing.DayStart(3)
		_, err = b.v.Prove(t.Context(), due)
		b.must(err)
		b.seal(due.Type, payload)
		// It is the second who is out from now on. With the first there is a quorum, so that the second stays out, whatever the clock says.
		k, err = b.replay.NextBlock([]ledger.Proof{b.keys[0].Prove(0, b.replay.Alpha())}, []byte{1})
		b.must(err)
		k.Proofs, k.Withheld = append(k.Proofs, b.keys[1].Prove(1, b.replay.Alpha())), nil
		lie, err := ledger.EncodePayload(k)
		b.must(err)
		b.refuses(due.Type, lie, "validator 1 gave a proof, should be out until the next day")
	}
}

// TestRecoveryOfOrder is the same for the order of the leaves, where the day began without one.
func TestRecoveryOfOrder(t *testing.T) {
	b := newBench(t)
	b.seal(b.payload(1))
	d, err := b.replay.NextDay([]ledger.Proof{b.keys[0].Prove(0, b.replay.Alpha())}, []byte{1})
	b.must(err)
	tree, err := reward.NewTree(nil)
	b.must(err)
	d.Root = tree.Root().Hash
	payload, err := ledger.EncodePayload(d)
	b.must(err)
	b.now = timing.DayStart(3).Add(-time.Nanosecond)
	b.refuses(ledger.TypeDay, payload, "give no proof before its end in 1ns")
	if _, err := b.v.Prove(t.Context(), b.replay.Due()); err == nil || !strings.Contains(err.Error(), "is out of day 2") {
		t.Error(err)
	}
	b.now = timing.DayStart(3)
	b.seal(ledger.TypeDay, payload)
	if in, out := b.replay.Set(); string(in) != "\x00" || string(out) != "\x01" {
		t.Errorf("the day goes on with %v, without %v", in, out)
	}
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
	gone := filepath.Join(t.TempDir(), "gone")
	b.config.State = filepath.Join(gone, "state.json")
	if _, err := Open(b.config); err == nil || !strings.Contains(err.Error(), "cannot write state") {
		t.Error(err)
	}
	b.must(os.Mkdir(gone, 0o700))
	b.open()
	if _, err := os.Stat(b.config.State); err != nil {
		t.Errorf("a validator that has signed nothing is not told from one that lost its memory: %v", err)
	}
	b.must(os.RemoveAll(gone))
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

// TestCosignCheckpoint: a tree is on disk before it is cosigned, and neither a smaller one nor another of its size is after that, also by
// a validator that was started again.
func TestCosignCheckpoint(t *testing.T) {
	b := newBench(t)
	text := func(c tlog.Checkpoint) []byte {
		return fmt.Appendf(nil, "log.example\n%d\n%s\n\n— log.example AAAA\n", c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	}
	cosign := func(c tlog.Checkpoint) error {
		line, err := b.v.CosignCheckpoint(text(c), c)
		if (err == nil) != bytes.HasPrefix(line, []byte("— first.example ")) {
			t.Errorf("%d entries: line %q, %v", c.Size, line, err)
		}
		return err
	}
	five, other, six, four := tlog.Checkpoint{Size: 5, Root: wire.Hash{5}}, tlog.Checkpoint{Size: 5, Root: wire.Hash{6}}, tlog.Checkpoint{Size: 6, Root: wire.Hash{6}}, tlog.Checkpoint{Size: 4, Root: wire.Hash{4}}
	b.must(cosign(four))
	b.must(cosign(five))
	b.must(cosign(five)) // somebody else asks
	for range 2 {
		for want, c := range map[string]tlog.Checkpoint{"fewer than 5, which were cosigned": four, "of 5 entries another one was cosigned": other} {
			if err := cosign(c); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		if b.v.Checkpoint() != five {
			t.Errorf("it has cosigned %v", b.v.Checkpoint())
		}
		b.open()
	}
	// What it cannot keep it does not sign.
	dir := filepath.Dir(b.config.State)
	b.must(os.Rename(dir, dir+".away"))
	if err := cosign(six); err == nil || b.v.Checkpoint() != five {
		t.Errorf("it cosigns what is not on disk: %v", err)
	}
	b.must(os.Rename(dir+".away", dir))
	b.must(cosign(six))
	b.open()
	if b.v.Checkpoint() != six {
		t.Errorf("it remembers %v", b.v.Checkpoint())
	}
}

// TestAwait holds that a clock which is up to two seconds behind the settler's costs nothing, and that nobody waits longer.
func TestAwait(t *testing.T) {
	b := newBench(t)
	at := timing.DayStart(2)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		for behind, want := range map[time.Duration]time.Duration{
			-time.Second: 0, 0: 0, time.Nanosecond: time.Nanosecond, 50 * time.Millisecond: 50 * time.Millisecond,
			2 * time.Second: 2 * time.Second, 2*time.Second + 1: 0,
		} {
			began = time.Now()
			b.v.now = func() time.Time { return at.Add(time.Since(began) - behind) }
			b.v.Await(t.Context())
			if waited := time.Since(began); waited < want || waited > want+want/50 {
				t.Errorf("%v before it is due it waits %v", behind, waited)
			}
			if behind <= 2*time.Second && b.v.wait() > 0 {
				t.Errorf("%v before it is due it does not wait long enough", behind)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		b.v.now = func() time.Time { return at.Add(-2 * time.Second) }
		b.v.Await(ctx)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("it waits %v for who has gone after a second", waited)
		}
	})
	// What is due is the drop's own time.
	b.v.now = b.config.Now
	b.seal(b.payload(0, 1))
	b.seal(b.payload(0, 1))
	b.now = timing.DropTime(0)
	b.seal(b.payload(0, 1))
	b.v.now = func() time.Time { return timing.DropTime(1).Add(-time.Minute) }
	if got := b.v.wait(); got != time.Minute {
		t.Errorf("drop 1 is due in %v", got)
	}
	b.config.State = filepath.Join(t.TempDir(), "state.json")
	fresh, err := Open(b.config)
	b.must(err)
	fresh.Await(t.Context()) // it knows of no program yet
}
