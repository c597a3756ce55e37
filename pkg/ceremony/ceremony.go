// Package ceremony makes the keys of circuit claim/v1 among several parties, so that nobody who leaves out or deletes one
// contributor's secret can forge proofs (Bowe, Gabizon and Miers, "Scalable Multi-party Computation for zk-SNARK Parameters in the
// Random Beacon Model", IACR ePrint 2017/1050; the mathematics is gnark's backend/groth16/bn254/mpcsetup).
//
// Phase 1 computes powers of τ for the circuit's domain, phase 2 the circuit's keys. Each begins with a file that anybody can
// recompute, is a chain of contributions and ends with a public beacon. A transcript is the directory of all files: each carries
// the SHA-256 of the one before it, its state, and its predecessor's state again, so that a contributor who receives one file can
// check it without any other. The last file, the seal, names the keys; its SHA-256 is the hash of the transcript.
//
// The package refuses a file that is not the next step of its predecessor, in whatever bit, and a transcript with a file missing,
// renamed or added. It checks every length before gnark's decoders see it: they allocate what their input asks for.
//
// A contributor's secret is drawn from the operating system, lives in the memory of one call of Contribute and is never written.
// Go cannot promise to wipe it: copies may stay in freed memory until the process ends, and in swap or a hibernation image longer.
// Whoever contributes should use a machine without swap and turn it off afterwards. What the program cannot know either is whether
// contributors are different people, and whether a beacon was public before the last contribution was made: verifiers compare
// contributors' published hashes and the beacons with their sources.
package ceremony

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
	constraint "github.com/consensys/gnark/constraint/bn254"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// DefaultMinimum is the number of contributions in each phase below which a phase is not ended unless its coordinator asks for
// fewer: with three, one honest contributor among two others who collude is enough.
const DefaultMinimum = 3

// A Ceremony knows the circuit that a transcript must be for. It is safe for concurrent use.
type Ceremony struct {
	system  *constraint.R1CS
	circuit wire.Hash // SHA-256 of the circuit's file
	domain  int       // points of the evaluation domain, a power of two
	private int       // wires that are neither public nor constant
}

// New returns the ceremony for claim/v1. It turns off gnark's logger for the whole process.
func New() (*Ceremony, error) {
	system, err := claim.Compile()
	if err != nil {
		return nil, err
	}
	return forCircuit(system)
}

// forCircuit returns the ceremony for a circuit without Groth16 commitments.
func forCircuit(system *constraint.R1CS) (*Ceremony, error) {
	var b bytes.Buffer
	if _, err := system.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("cannot encode circuit: %w", err)
	}
	internal, secret, _ := system.GetNbVariables()
	return &Ceremony{
		system: system, circuit: wire.ID(b.Bytes()), private: internal + secret,
		domain: int(ecc.NextPowerOfTwo(uint64(system.GetNbConstraints()))),
	}, nil
}

// A Step is one file of a transcript.
type Step struct {
	// Name is the file's name in a transcript.
	Name string `json:"name"`
	// Hash is the file's SHA-256 in hexadecimal, which its maker publishes.
	Hash string `json:"sha256"`
	// Beacon is the public randomness in hexadecimal that ends the phase before this step.
	Beacon string `json:"beacon,omitempty"`
}

func (f *file) step() Step {
	return Step{Name: f.name(), Hash: f.id.String(), Beacon: fmt.Sprintf("%x", f.beacon)}
}

// Init begins a transcript in dir, which it creates when missing and which must be empty.
func (c *Ceremony) Init(dir string) (Step, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Step{}, fmt.Errorf("cannot begin ceremony: %w", err)
	}
	if entries, err := os.ReadDir(dir); err != nil {
		return Step{}, fmt.Errorf("cannot begin ceremony: %w", err)
	} else if len(entries) != 0 {
		return Step{}, fmt.Errorf("cannot begin ceremony: %s is not empty; give another directory", dir)
	}
	state, err := encode(mpcsetup.NewPhase1(uint64(c.domain)))
	if err != nil {
		return Step{}, err
	}
	return c.write(dir, &file{phase: 1, after: state})
}

// Contribute checks the file at path against the predecessor that it carries, adds a secret of its own and writes the next file
// into dir. The whole transcript is not looked at: Verify does that.
func (c *Ceremony) Contribute(path, dir string) (Step, error) {
	f, err := c.read(path)
	if err != nil {
		return Step{}, err
	}
	if f.phase == phaseSeal {
		return Step{}, fmt.Errorf("cannot contribute to %s: the ceremony is sealed; begin another", path)
	}
	if f.seq == maxSeq {
		return Step{}, fmt.Errorf("cannot contribute to %s: a phase takes at most %d contributions; end it", path, maxSeq)
	}
	s := new(state)
	if err := s.load(c, f); err != nil {
		return Step{}, fmt.Errorf("cannot contribute to %s: %w; ask for the original file", path, err)
	}
	if err := s.advance(c, f); err != nil {
		return Step{}, fmt.Errorf("cannot contribute to %s: %w; ask for the original file", path, err)
	}
	next := &file{phase: f.phase, seq: f.seq + 1, previous: f.id, before: f.after}
	if f.phase == 1 {
		s.one.Contribute()
		next.after, err = encode(s.one)
	} else {
		s.two.Contribute()
		next.after, err = encode(s.two)
	}
	if err != nil {
		return Step{}, err
	}
	return c.write(dir, next)
}

// EndPhase1 checks the transcript in dir, which must hold phase 1 with at least minimum contributions and no more, ends the phase
// with a beacon and begins phase 2.
func (c *Ceremony) EndPhase1(dir string, beacon []byte, minimum int) (Step, error) {
	if err := checkEnd(beacon, minimum); err != nil {
		return Step{}, err
	}
	t, err := c.replay(dir)
	if err != nil {
		return Step{}, err
	}
	if t.last.phase != 1 {
		return Step{}, errors.New("cannot end phase 1: it is ended already; end phase 2 with a directory for the keys")
	}
	if err := t.checkContributions(minimum); err != nil {
		return Step{}, err
	}
	next := &file{phase: 2, previous: t.last.id, beacon: beacon, before: t.last.after}
	t.state.begin2(c, beacon)
	if next.after, err = encode(t.state.two); err != nil {
		return Step{}, err
	}
	return c.write(dir, next)
}

// Seal checks the transcript in dir, which must hold both phases with at least minimum contributions each, ends phase 2 with a
// beacon, and writes the keys with a production lock into keys, a directory without any. A sealed transcript gives the same keys
// again under the same beacon.
func (c *Ceremony) Seal(dir, keys string, beacon []byte, minimum int) (claim.Lock, error) {
	if err := checkEnd(beacon, minimum); err != nil {
		return claim.Lock{}, err
	}
	t, err := c.replay(dir)
	if err != nil {
		return claim.Lock{}, err
	}
	if t.last.phase == 1 {
		return claim.Lock{}, errors.New("cannot seal ceremony: phase 1 has not ended; end it with a beacon of its own first")
	}
	if err := t.checkContributions(minimum); err != nil {
		return claim.Lock{}, err
	}
	seal := t.last
	if seal.phase == phaseSeal {
		if !bytes.Equal(seal.beacon, beacon) {
			return claim.Lock{}, fmt.Errorf("cannot seal ceremony: it is sealed already, with beacon %x", seal.beacon)
		}
	} else {
		if err := t.finish(c, beacon); err != nil {
			return claim.Lock{}, fmt.Errorf("cannot seal ceremony: %w", err)
		}
		seal = &file{phase: phaseSeal, previous: t.last.id, beacon: beacon, after: body(t.files)}
		if _, err := c.write(dir, seal); err != nil {
			return claim.Lock{}, err
		}
	}
	return t.files.Write(keys, seal.id)
}

// checkEnd checks what ends a phase.
func checkEnd(beacon []byte, minimum int) error {
	if len(beacon) < minBeacon || len(beacon) > maxBeacon {
		return fmt.Errorf("cannot end phase: the beacon has %d bytes, want %d to %d: take a drand round's randomness or a block hash",
			len(beacon), minBeacon, maxBeacon)
	}
	if minimum < 1 {
		return fmt.Errorf("cannot end phase: %d contributions are no ceremony; ask for at least one, better %d", minimum, DefaultMinimum)
	}
	return nil
}

// write completes a file and writes it into dir under its name.
func (c *Ceremony) write(dir string, f *file) (Step, error) {
	f.circuit, f.domain = c.circuit, uint32(c.domain)
	b := f.encode()
	f.id = wire.ID(b)
	return f.step(), writeNew(filepath.Join(dir, f.name()), b)
}
