package cosigned

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// A rig is a ledger with validators, of whom a quorum is three.
type rig struct {
	t       *testing.T
	dir     string
	signer  note.Signer
	logKey  string
	log     *tlog.Log
	keys    []*ledger.ValidatorKey
	program terms.Program
	said    bytes.Buffer
	at      int64 // when a validator cosigned last
	k       *Keeper
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), program: terms.Program{Quorum: 3}}
	secret, verifier, err := tlog.GenerateKey("log.example")
	r.must(err)
	r.logKey = verifier
	r.signer, err = note.NewSigner(secret)
	r.must(err)
	r.log, err = tlog.Open(t.Context(), tlog.Config{Dir: r.dir, Signer: r.signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
	r.must(err)
	t.Cleanup(func() { r.must(r.log.Close()) })
	for i := range 4 {
		k, err := ledger.GenerateValidatorKey(fmt.Sprint("test/", i))
		r.must(err)
		r.keys, r.program.Validators = append(r.keys, k), append(r.program.Validators, k.Public())
	}
	r.open()
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	r.k, err = Open(r.t.Context(), Config{
		Dir: r.dir, LogKey: r.logKey, Logger: slog.New(slog.NewTextHandler(&r.said, nil)),
		Program: func(context.Context) (*terms.Program, error) { p := r.program; return &p, nil },
	})
	r.must(err)
}

// grow has the ledger grow by an entry and returns its own checkpoint.
func (r *rig) grow() []byte {
	r.t.Helper()
	r.must(r.log.Append(r.t.Context(), r.log.Size(), fmt.Appendf(nil, "entry %d", r.log.Size())))
	return r.read("checkpoint")
}

func (r *rig) read(name string) []byte {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	r.must(err)
	return b
}

func (r *rig) line(i int, checkpoint []byte) []byte {
	r.t.Helper()
	r.at++
	b, err := tlog.CosignCheckpoint(r.keys[i].CheckpointSigner(), r.keys[i].Public().Name, checkpoint, time.Unix(r.at, 0))
	r.must(err)
	return b
}

// give takes in cosignatures of validators.
func (r *rig) give(checkpoint []byte, by ...int) {
	r.t.Helper()
	for _, i := range by {
		r.k.Take(r.t.Context(), checkpoint, r.line(i, checkpoint))
	}
}

// served holds that the checkpoint that is served is of so many entries and cosigned by so many validators.
func (r *rig) served(size uint64, by int) {
	r.t.Helper()
	read, err := Newest(r.dir, r.logKey)
	r.must(err)
	b, err := read(r.t.Context())
	r.must(err)
	c, got, err := tlog.VerifyCosignatures(r.logKey, cosigners(&r.program), b)
	if err != nil || c.Size != size || len(got) != by || bytes.Count(b, []byte("\n— ")) != 1+by {
		r.t.Errorf("a checkpoint of %d entries by %v is served, %v; want %d by %d\n%s", c.Size, got, err, size, by, b)
	}
}

// TestQuorum: with a quorum a checkpoint is served and gathers what comes later; without one it is not.
func TestQuorum(t *testing.T) {
	r := newRig(t)
	first := r.grow()
	r.served(1, 0)
	r.give(first, 0, 1, 1, 0) // who says it twice counts once
	r.served(1, 0)
	r.give(first, 3)
	r.served(1, 3)
	r.give(first, 3, 2, 2)
	r.served(1, 4)
	// The next one comes from validators that are not shown the same at once.
	second := r.grow()
	third := r.grow()
	r.give(second, 0, 1)
	r.give(third, 2, 3)
	r.served(1, 4)
	r.give(third, 0)
	r.served(3, 3)
	r.give(second, 2, 3) // late
	r.give(first, 0)
	r.served(3, 3)
	if len(r.k.waiting) != 0 {
		t.Errorf("%d checkpoints wait", len(r.k.waiting))
	}
	// Two of four are no quorum: the last that had one is served.
	r.give(r.grow(), 0, 1)
	r.served(3, 3)
	for range 2 * maxWaiting {
		r.give(r.grow(), 1)
	}
	newest := r.read("checkpoint")
	r.give(newest, 2)
	if len(r.k.waiting) != maxWaiting || r.k.waiting[0].size != r.log.Size() {
		t.Errorf("%d checkpoints wait, the first of %d entries", len(r.k.waiting), r.k.waiting[0].size)
	}
	r.give(newest, 3)
	r.served(r.log.Size(), 3)
	if r.said.Len() > 0 {
		t.Errorf("it says\n%s", &r.said)
	}
}

// TestDropped: nothing is kept that a stock client would refuse, or that says something else than that a validator in force cosigns.
func TestDropped(t *testing.T) {
	r := newRig(t)
	old := r.grow()
	now := r.grow()
	r.give(now, 0, 1)
	stranger, err := ledger.GenerateValidatorKey("test/2")
	r.must(err)
	other, err := ledger.GenerateValidatorKey("test/other")
	r.must(err)
	good := r.line(2, now)
	sign := func(k *ledger.ValidatorKey) []byte {
		b, err := tlog.CosignCheckpoint(k.CheckpointSigner(), k.Public().Name, now, time.Unix(1, 0))
		r.must(err)
		return b
	}
	_, rest, _ := bytes.Cut(now, []byte("\n\n"))
	forged := changed(good, len(good)-8, 'A', 'B')
	for what, line := range map[string][]byte{
		"a signature with a changed byte":      forged,
		"another checkpoint's":                 r.line(2, old),
		"another key under a validator's name": sign(stranger),
		"a validator that is not in force":     sign(other),
		"two lines":                            append(bytes.Clone(good), r.line(3, now)...),
		"a stranger's line behind it":          append(bytes.Clone(good), sign(other)...),
		"a stranger's line before it":          append(sign(other), good...),
		"a line without its end":               good[:len(good)-1],
		"nothing":                              {},
		"the ledger's own signature":           rest,
		"text that is no signature":            []byte("hello\n"),
		"a line break before it":               append([]byte("\n"), good...),
	} {
		r.said.Reset()
		r.k.Take(t.Context(), now, line)
		r.served(2, 0)
		if !strings.Contains(r.said.String(), "cosignature of checkpoint is dropped") {
			t.Errorf("%s is not said to be dropped", what)
		}
	}
	// Nor is a checkpoint that the ledger has not signed.
	unsigned := append([]byte(body(now)+"\n\n"), bytes.Replace(rest, []byte("log.example"), []byte("log.elsewhere"), 1)...)
	r.give(unsigned, 0, 1, 2, 3)
	r.served(2, 0)
	r.k.Take(t.Context(), now, good)
	r.served(2, 3)
	if _, err := os.Stat(filepath.Join(r.dir, File+".new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left over: %v", err)
	}
}

// changed changes a byte to one of two others.
func changed(b []byte, at int, first, second byte) []byte {
	b = bytes.Clone(b)
	if b[at] == first {
		first = second
	}
	b[at] = first
	return b
}

// TestRestart: what is kept lasts and goes on; what is damaged, or of a log that is no more, is not served.
func TestRestart(t *testing.T) {
	r := newRig(t)
	first := r.grow()
	r.give(first, 0, 1, 2)
	r.open()
	r.served(1, 3)
	r.give(first, 3)
	r.served(1, 4)
	second := r.grow()
	r.give(second, 0, 1)
	r.open() // what had no quorum is forgotten, and comes again
	r.give(second, 2)
	r.served(1, 4)
	r.give(second, 0, 1)
	r.served(2, 3)
	// Who was in force when it was kept need not be later: it is served until a newer one has a quorum, and what they add is kept.
	replace := func() {
		r.program.Validators[0].Key[0] ^= 1
		r.program.Validators[1].Key[0] ^= 1
	}
	replace()
	r.open()
	r.give(second, 3)
	replace()
	r.served(2, 4)
	whole := r.read(File)

	for what, text := range map[string][]byte{
		"a changed byte":       bytes.Replace(whole, []byte("\n2\n"), []byte("\n3\n"), 1),
		"an empty file":        {},
		"a longer log's":       r.longer(),
		"without the ledger's": append([]byte(body(whole)+"\n\n"), r.line(0, second)...),
	} {
		r.must(os.WriteFile(filepath.Join(r.dir, File), text, 0o600))
		r.served(2, 0)
		r.said.Reset()
		r.open()
		r.served(2, 0)
		if _, err := os.Stat(filepath.Join(r.dir, File)); !errors.Is(err, os.ErrNotExist) || !strings.Contains(r.said.String(), "is removed") {
			t.Errorf("%s stays: %v, %s", what, err, &r.said)
		}
		r.give(second, 1, 2, 3)
		r.served(2, 3)
	}
	if _, err := Open(t.Context(), Config{Dir: r.dir, LogKey: r.logKey, Logger: r.k.c.Logger}); err == nil {
		t.Error("it opens without validators")
	}
	if _, err := Newest(r.dir, "log"); err == nil {
		t.Error("it serves under no key")
	}
}

// longer returns a cosigned checkpoint of a longer log under the same key.
func (r *rig) longer() []byte {
	b, err := note.Sign(&note.Note{Text: "log.example\n9\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"}, r.signer)
	r.must(err)
	return tlog.AddCosignatures(b, r.line(0, b), r.line(1, b), r.line(2, b))
}

// TestInForce reads who the validators are on a day from the records.
func TestInForce(t *testing.T) {
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	public, err := wire.NewPublicKey(root.Public())
	must(err)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Settle})
	must(err)
	t.Cleanup(func() { must(db.Close()) })
	names := []string{"first", "second", "third"}
	var list []terms.Validator
	for _, n := range names {
		k, err := ledger.GenerateValidatorKey(n)
		must(err)
		list = append(list, k.Public())
	}
	_, verifier, err := tlog.GenerateKey("log.example")
	must(err)
	keys, id := wire.KeySet{public}, wire.Hash{1}
	p := &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: terms.Timing{DayS: 20, DropS: 20}, Receipt: keys, Policy: keys, Board: keys,
		BoardQuorum: 1, Quorum: 1, LogKey: verifier, Validators: list[:1]}
	add := func(signer crypto.Signer, serial uint16, day uint32, v terms.Validator) {
		t.Helper()
		b, err := ledger.SealWitness(signer, &ledger.Witness{Version: wire.Version, Program: id, Serial: serial, FromDay: day, Validators: []terms.Validator{v}})
		must(err)
		must(db.Update(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.AddEntry(t.Context(), ledger.TypeWitness, b); err != nil {
				return err
			}
			return tx.NumberEntries(t.Context(), 1)
		}))
	}
	day := uint32(0)
	read := InForce(db, public, p, id, func() uint32 { return day })
	want := func(on uint32, name string) {
		t.Helper()
		day = on
		now, err := read(t.Context())
		if err != nil || now.Validators[0].Name != name {
			t.Errorf("day %d: %+v, %v, want %s", on, now, err, name)
		}
	}
	want(9, "first")
	add(root, 1, 3, list[1])
	add(root, 2, 5, list[2])
	want(2, "first")
	want(3, "second")
	want(4, "second")
	want(5, "third")
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	add(other, 3, 6, list[0])
	if _, err := read(t.Context()); err == nil {
		t.Error("a change that the program root has not signed counts")
	}
}
