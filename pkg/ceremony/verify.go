package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	groth16 "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// state is where a ceremony stands: gnark's objects of the running phase.
type state struct {
	one *mpcsetup.Phase1 // nil from phase 2 on
	two *mpcsetup.Phase2

	// What phase 2 began with; only known to who began it.
	commons mpcsetup.SrsCommons
	evals   mpcsetup.Phase2Evaluations
}

// load makes s the state before f, from f itself.
func (s *state) load(c *Ceremony, f *file) (err error) {
	switch {
	case f.phase == 1 && f.seq > 0:
		s.one, err = c.decode1(f.before, f.seq > 1)
	case f.phase == 2 && f.seq == 0:
		s.one, err = c.decode1(f.before, true)
	case f.phase == 2:
		s.two, err = c.decode2(f.before, f.seq > 1)
	}
	return err
}

// advance takes s over f, whose state must follow from it.
func (s *state) advance(c *Ceremony, f *file) error {
	switch {
	case f.phase == 1 && f.seq == 0:
		s.one = mpcsetup.NewPhase1(uint64(c.domain))
		return equal(s.one, f.after)
	case f.phase == 1:
		next, err := c.decode1(f.after, true)
		if err != nil {
			return err
		}
		if err := s.one.Verify(next); err != nil {
			return fmt.Errorf("it does not follow from its predecessor: %w", err)
		}
		s.one = next
	case f.seq == 0:
		s.begin2(c, f.beacon)
		return equal(s.two, f.after)
	default:
		next, err := c.decode2(f.after, true)
		if err != nil {
			return err
		}
		if err := s.two.Verify(next); err != nil {
			return fmt.Errorf("it does not follow from its predecessor: %w", err)
		}
		s.two = next
	}
	return nil
}

// begin2 ends phase 1 with a beacon and begins phase 2.
func (s *state) begin2(c *Ceremony, beacon []byte) {
	s.commons = s.one.Seal(beacon)
	s.one, s.two = nil, new(mpcsetup.Phase2)
	s.evals = s.two.Initialize(c.system, &s.commons)
}

// equal checks a state that anybody can recompute.
func equal(s io.WriterTo, want []byte) error {
	b, err := encode(s)
	if err == nil && !bytes.Equal(b, want) {
		err = errors.New("its state is not the one with which the phase begins")
	}
	return err
}

// A transcript is what replaying one yields.
type transcript struct {
	steps         []Step
	last          *file
	contributions [2]int // to phase 1 and phase 2
	beacon1       []byte
	state         state
	files         claim.Files // the keys, once finished
}

// replay checks the transcript in dir from nothing.
func (c *Ceremony) replay(dir string) (*transcript, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read transcript: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names) // the order of the steps
	t := new(transcript)
	for _, name := range names {
		f, err := c.read(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if err := t.add(c, name, f); err != nil {
			return nil, fmt.Errorf("cannot accept %s: %w", filepath.Join(dir, name), err)
		}
	}
	if t.last == nil {
		return nil, fmt.Errorf("cannot read transcript: %s is empty; begin a ceremony or give another directory", dir)
	}
	return t, nil
}

// add appends the next file of a transcript.
func (t *transcript) add(c *Ceremony, name string, f *file) error {
	if name != f.name() {
		return fmt.Errorf("it is step %s; restore its name", f.name())
	}
	var previous wire.Hash
	var before []byte
	if t.last != nil {
		previous = t.last.id
		if f.phase != phaseSeal {
			before = t.last.after
		}
	}
	if want := t.next(); !slices.Contains(want, name) {
		return fmt.Errorf("what can follow is %s; restore what is missing", strings.Join(want, " or "))
	}
	if f.previous != previous {
		return fmt.Errorf("it follows a file of SHA-256 %s, the one before it has %s; restore what is missing or altered", f.previous, previous)
	}
	if !bytes.Equal(f.before, before) {
		return errors.New("the predecessor that it carries is not the file before it")
	}
	if f.phase == phaseSeal {
		if err := t.finish(c, f.beacon); err != nil {
			return err
		}
		if !bytes.Equal(f.after, body(t.files)) {
			return errors.New("it names other keys than the ceremony yields")
		}
	} else if err := t.state.advance(c, f); err != nil {
		return err
	}
	if f.phase == 2 && f.seq == 0 {
		t.beacon1 = f.beacon
	}
	if f.seq > 0 {
		t.contributions[f.phase-1]++
	}
	t.last, t.steps = f, append(t.steps, f.step())
	return nil
}

// next returns the names of the steps that can follow.
func (t *transcript) next() []string {
	switch {
	case t.last == nil:
		return []string{fileName(1, 0)}
	case t.last.phase == phaseSeal:
		return nil
	}
	names := []string{fileName(t.last.phase, t.last.seq+1)}
	if t.last.seq > 0 {
		names = append(names, fileName(t.last.phase+1, 0))
	}
	return names
}

// checkContributions refuses a phase that has ended, or is about to, with fewer than minimum contributions.
func (t *transcript) checkContributions(minimum int) error {
	for i, n := range t.contributions[:min(t.last.phase, 2)] {
		if n < minimum {
			return fmt.Errorf("cannot end phase: phase %d has %d contributions, at least %d are asked for; pass %s on to more people",
				i+1, n, minimum, t.last.name())
		}
	}
	return nil
}

// finish ends phase 2 with a beacon and makes the keys. Nothing can be added afterwards.
func (t *transcript) finish(c *Ceremony, beacon []byte) error {
	if bytes.Equal(beacon, t.beacon1) {
		return errors.New("phase 1 ended with the same beacon, so it was known before phase 2; take a later one")
	}
	p, v := t.state.two.Seal(&t.state.commons, &t.state.evals, beacon)
	pk, ok := p.(*groth16.ProvingKey)
	vk, ok2 := v.(*groth16.VerifyingKey)
	if !ok || !ok2 {
		return errors.New("its keys are not for Groth16 over BN254")
	}
	var err error
	t.files, err = claim.Encode(c.system, pk, vk)
	return err
}

// body is what a seal says of the keys.
func body(f claim.Files) []byte {
	l := f.Lock(wire.Hash{})
	return slices.Concat(l.Circuit[:], l.ProvingKey[:], l.VerifyingKey[:])
}

// A Report says what a transcript holds that has been checked.
type Report struct {
	// Circuit is the SHA-256 of the constraint system.
	Circuit string `json:"circuit"`
	// Contributions counts those to phase 1 and to phase 2.
	Contributions [2]int `json:"contributions"`
	Steps         []Step `json:"steps"`
	// Sealed reports whether the transcript is complete; the hashes are empty where it is not.
	Sealed       bool   `json:"sealed"`
	Transcript   string `json:"transcript,omitempty"`
	ProvingKey   string `json:"proving_key,omitempty"`
	VerifyingKey string `json:"verifying_key,omitempty"`
}

// Verify checks the transcript in dir from nothing, and that keys, when it is not empty, is a directory with the keys of it.
func (c *Ceremony) Verify(dir, keys string) (Report, error) {
	t, err := c.replay(dir)
	if err != nil {
		return Report{}, err
	}
	r := Report{Circuit: c.circuit.String(), Contributions: t.contributions, Steps: t.steps}
	if t.last.phase != phaseSeal {
		if keys != "" {
			return Report{}, fmt.Errorf("cannot accept keys in %s: the transcript has no seal; seal it first", keys)
		}
		return r, nil
	}
	want := t.files.Lock(t.last.id)
	r.Sealed, r.Transcript = true, want.Transcript.String()
	r.ProvingKey, r.VerifyingKey = want.ProvingKey.String(), want.VerifyingKey.String()
	if keys != "" {
		err = checkKeys(keys, want)
	}
	return r, err
}

// checkKeys checks that a directory holds the keys of a lock.
func checkKeys(dir string, want claim.Lock) error {
	if got, err := claim.ReadLock(dir); err != nil {
		return err
	} else if got != want {
		return fmt.Errorf("cannot accept keys in %s: their lock is not of this ceremony; seal the transcript again into another directory", dir)
	}
	if _, err := claim.OpenProver(dir, want); err != nil {
		return err
	}
	_, err := claim.OpenVerifier(dir, want)
	return err
}
