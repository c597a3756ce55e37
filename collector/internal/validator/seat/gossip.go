package seat

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/validator/archive"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

const (
	evidenceDir = "evidence"
	// MaxCheckpointLen bounds a checkpoint with its signatures in bytes.
	MaxCheckpointLen = 4 << 10
	// maxAhead bounds the checkpoints that are kept until the copy is long enough for them.
	maxAhead = 64
	// maxForks bounds what is kept of an operator that signs one history after another.
	maxForks = 16
)

// noted is a checkpoint with the ledger's signature.
type noted struct {
	text []byte
	size uint64
	root wire.Hash
}

// Seen takes in a checkpoint of the ledger that somebody was shown. One that the ledger's key has not signed is refused and forgotten.
// One that contradicts the validator's own copy, or another of the same size, is evidence of a second history. One that agrees with the copy
// is cosigned, unless a larger one was or the validator gives nothing now.
func (s *Seat) Seen(ctx context.Context, text []byte) (line []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.ledgers(text)
	if err == nil && c.size > 0 { // else a log that has begun and holds nothing yet
		err = s.archive.Published(ctx)
	}
	if err != nil || c.size == 0 {
		return nil, err
	}
	if err := s.judge(c); err != nil || c.size > s.archive.Size() {
		return nil, err
	}
	return s.cosign(c)
}

// cosign cosigns a checkpoint that the copy agrees with, and so with those that were cosigned before, if the copy is still the one they
// agreed with.
func (s *Seat) cosign(c noted) ([]byte, error) {
	list, err := s.overdue()
	last := s.core.Checkpoint()
	if err = errors.Join(s.examine(), err); err != nil || len(list) > 0 || len(s.forks) > 0 || c.size < last.Size {
		return nil, err
	}
	if last.Size > 0 && !s.agrees {
		if root, err := s.archive.Root(last.Size); err != nil || root != last.Root {
			s.refused(errors.Join(fmt.Errorf("cannot cosign checkpoint: the copy's first %d entries are not those that were cosigned", last.Size), err))
			return nil, errors.New(s.refusal)
		}
	}
	s.agrees = true
	return s.core.CosignCheckpoint(c.text, tlog.Checkpoint{Size: c.size, Root: c.root})
}

// judge compares a checkpoint with the copy, or keeps it until that is long enough.
func (s *Seat) judge(c noted) error {
	if other, ok := s.ahead[c.size]; ok && other.root != c.root {
		return s.fork(c, other.text, other.root)
	}
	if c.size <= s.archive.Size() {
		return s.compare(c)
	}
	if len(s.ahead) >= maxAhead && len(s.ahead[c.size].text) == 0 {
		return fmt.Errorf("cannot compare checkpoint of %d entries: the validator's copy has %d, and too many others wait", c.size, s.archive.Size())
	}
	s.ahead[c.size] = c
	return nil
}

// ledgers reads a checkpoint of the program's ledger. The lock is held.
func (s *Seat) ledgers(text []byte) (c noted, err error) {
	p, _ := s.core.Program()
	if p == nil {
		return c, errors.New("cannot judge checkpoint: the validator has not seen the program document yet")
	}
	v, err := note.NewVerifier(p.LogKey)
	if err != nil {
		return c, fmt.Errorf("cannot judge checkpoint: %w", err)
	}
	return parse(text, v)
}

func parse(text []byte, v note.Verifier) (c noted, err error) {
	if len(text) > MaxCheckpointLen {
		return c, fmt.Errorf("cannot accept checkpoint: %d bytes, at most %d allowed", len(text), MaxCheckpointLen)
	}
	p, _, _, err := flog.ParseCheckpoint(text, v.Name(), v)
	if err != nil {
		return c, fmt.Errorf("cannot accept checkpoint: it is not signed by %s: %w", v.Name(), err)
	}
	if len(p.Hash) != len(c.root) {
		return c, fmt.Errorf("cannot accept checkpoint: root of %d bytes, want %d", len(p.Hash), len(c.root))
	}
	return noted{bytes.Clone(text), p.Size, wire.Hash(p.Hash)}, nil
}

// compare compares a checkpoint with the copy, which is long enough.
func (s *Seat) compare(c noted) error {
	root, err := s.archive.Root(c.size)
	if err != nil {
		return err
	}
	if root != c.root {
		own, err := s.archive.Checkpoint()
		if err != nil {
			return err
		}
		return s.fork(c, own, root)
	}
	if c.size > s.newest.size {
		s.newest = c
	}
	return nil
}

// examine compares the checkpoints that the copy is long enough for by now.
func (s *Seat) examine() (err error) {
	for size, c := range s.ahead {
		if size <= s.archive.Size() {
			delete(s.ahead, size)
			err = errors.Join(err, s.compare(c))
		}
	}
	return err
}

// A Fork is the evidence of a second history as it is kept: a checkpoint with the ledger's signature, and what contradicts it.
type Fork struct {
	Found time.Time `json:"found"`
	// Checkpoint is of Size entries and has another root than Root, that of the validator's own copy or of a further checkpoint.
	Checkpoint string    `json:"checkpoint"`
	Size       uint64    `json:"size"`
	Root       wire.Hash `json:"root"`
	// Other is that further checkpoint, or the validator's own; Agreed is the newest of the ledger's that the copy agrees with, if any.
	Other  string `json:"other"`
	Agreed string `json:"agreed,omitempty"`
}

// fork keeps the evidence and says so. It returns an error that says what was found.
func (s *Seat) fork(c noted, other []byte, root wire.Hash) error {
	found := fmt.Errorf("the ledger has a second history: a checkpoint of %d entries with its signature has root %s, the validator knows %s", c.size, c.root, root)
	name := filepath.Join(s.c.Dir, evidenceDir, fmt.Sprintf("fork-%d-%x.json", c.size, c.root[:8]))
	if slices.Contains(s.forks, name) || len(s.forks) >= maxForks {
		return found
	}
	text, err := json.MarshalIndent(Fork{s.c.Now(), string(c.text), c.size, root, string(other), string(s.newest.text)}, "", " ")
	if err == nil {
		err = archive.Keep(name, append(text, '\n'))
	}
	if err != nil {
		s.c.Logger.Error("evidence is not kept", "error", err)
	}
	s.forks = append(s.forks, name) // also when it could not be kept: nothing is cosigned from now on
	s.c.Logger.Error("second history of the ledger: nothing is cosigned", "size", c.size, "evidence", name)
	s.metrics.show(s.status())
	return errors.Join(found, err)
}

// evidence lists what an earlier life has found.
func evidence(dir string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(dir, evidenceDir, "fork-*.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot look for evidence: %w", err)
	}
	return found, nil
}

// Gossip returns what the validator tells others. Either may be empty.
func (s *Seat) Gossip(ctx context.Context) (g feed.Gossip, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.archive.Published(ctx); err != nil {
		return g, err
	}
	if err := s.examine(); err != nil && len(s.forks) == 0 {
		return g, err
	}
	g.Ledger = string(s.newest.text)
	for _, c := range s.ahead {
		if g.Ledger == "" {
			g.Ledger = string(c.text)
		}
	}
	if s.archive.Size() > 0 {
		own, err := s.archive.Checkpoint()
		if err != nil {
			return g, err
		}
		g.Own = string(own)
	}
	return g, nil
}

// Heard compares what another validator tells. A checkpoint of the ledger among it counts as one that was seen; that the other's copy is
// another is said and shown, and stops nothing: its word alone proves nothing against the operator.
func (s *Seat) Heard(ctx context.Context, g feed.Gossip) error {
	var err error
	if g.Ledger != "" {
		_, err = s.Seen(ctx, []byte(g.Ledger))
	}
	if g.Own == "" {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, s.rival([]byte(g.Own)))
}

func (s *Seat) rival(text []byte) error {
	p, _ := s.core.Program()
	if p == nil {
		return nil
	}
	name, _, _ := strings.Cut(string(text), "\n")
	for _, v := range p.Validators {
		if v.Name != name {
			continue
		}
		verifier, err := verifierOf(v)
		if err != nil {
			return err
		}
		c, err := parse(text, verifier)
		if err != nil {
			return err
		}
		if c.size == 0 || c.size > s.archive.Size() {
			return nil
		}
		root, err := s.archive.Root(c.size)
		if err != nil || root == c.root {
			return err
		}
		if _, known := s.rivals[name]; !known {
			s.c.Logger.Error("another validator follows another history: compare with its operator", "validator", name, "size", c.size)
		}
		s.rivals[name] = fmt.Sprintf("its first %d entries have root %s, here %s", c.size, c.root, root)
		s.metrics.show(s.status())
		return nil
	}
	return fmt.Errorf("cannot accept checkpoint: %q is no validator of the program", name)
}

// verifierOf returns what checks a validator's own checkpoints: its key for cosignatures, under its name (C2SP signed-note).
func verifierOf(v terms.Validator) (note.Verifier, error) {
	text, err := note.NewEd25519VerifierKey(v.Name, v.Key[:])
	if err == nil {
		var verifier note.Verifier
		if verifier, err = note.NewVerifier(text); err == nil {
			return verifier, nil
		}
	}
	return nil, fmt.Errorf("validator %q has a name that no checkpoint can have: %w", v.Name, err)
}

// signerOf returns what signs the copy's checkpoints, and its verifier's text. Nothing that the key cosigns can be taken for one: that begins
// with rawstone/cosignature/v1, or with cosignature/v1 and a line of the time, where a checkpoint has the validator's name and a line of the size.
func signerOf(k *ledger.ValidatorKey) (note.Signer, string, error) {
	v := k.Public()
	text, err := note.NewEd25519VerifierKey(v.Name, v.Key[:])
	block, _ := pem.Decode(k.Encode())
	if err != nil || block == nil {
		return nil, "", fmt.Errorf("cannot sign checkpoints as %q: %w", v.Name, err)
	}
	verifier, err := verifierOf(v)
	if err != nil {
		return nil, "", err
	}
	secret := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", v.Name, verifier.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{1}, block.Bytes[:32]...)))
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, "", fmt.Errorf("cannot sign checkpoints as %q: %w", v.Name, err)
	}
	if own, err := tlog.Verifier(secret); err != nil || own != text {
		return nil, "", errors.New("cannot sign checkpoints: the validator's keys do not belong together")
	}
	return signer, text, nil
}
