// Package roster is a fleet's vehicles. Their names, keys and claims follow from a seed and a plan in the fleet's directory: they are made
// when they are needed, and are the same each time.
//
// Up to 2,000 spans of a drive have proofs (package chain), and every vehicle's ECU signs the commitments along a piece of it, each in its
// own name. Nothing else is shared: no two vehicles have a key, a signature or a proof's bytes in common. The package refuses a directory
// of another program, policy or number of days, because the heads with which vehicles are registered follow from them.
package roster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rawstone/firmware-sim/internal/fleet/internal/chain"
	"rawstone/pkg/durable"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
)

const (
	seedFile  = "seed"
	planFile  = "plan.json"
	proofsDir = "proofs"
	// mostSpans is how many different spans a fleet drives, unless a vehicle drives more.
	mostSpans = 2000
)

// Config says what a roster is of; every field but Place's optional ones is required.
type Config struct {
	Place Place
	// Dir is the fleet's directory, which is there. Nobody else uses it.
	Dir string
	// Vehicles is how many there are, Days how many claims each makes, 1 to chain.MaxLen.
	Vehicles, Days int
	Now            func() time.Time
	// Proofs is called with how many proofs there will be, and returns who is told how many there are.
	Proofs func(total int) (report func(done int))
}

// A Roster is N vehicles with Days claims each. Its methods may be called from several goroutines.
type Roster struct {
	Program *Program
	N, Days int

	dir    string
	seed   [32]byte
	birth  uint32 // the program day of all vehicles' births
	policy *terms.Policy
	chain  *chain.Chain
}

// Open reads seed and plan, or makes them in a directory that has none, and makes the proofs that are missing.
func Open(ctx context.Context, cfg Config) (*Roster, error) {
	r := &Roster{N: cfg.Vehicles, Days: cfg.Days, dir: cfg.Dir}
	var err error
	if r.Program, err = load(cfg.Place); err != nil {
		return nil, err
	}
	if err := r.openSeed(); err != nil {
		return nil, err
	}
	p, err := r.openPlan(cfg.Now)
	if err != nil {
		return nil, err
	}
	r.birth = p.Birth
	r.chain, err = chain.Open(ctx, chain.Config{
		Dir: r.path(proofsDir), Keys: r.Program.keys, Lock: r.Program.lock, Policy: r.policy, Report: cfg.Proofs(p.Spans),
	}, p.Spans)
	return r, err
}

func (r *Roster) path(name string) string { return filepath.Join(r.dir, name) }

// spans is how many different spans a fleet needs.
func spans(vehicles, days int) int { return max(days, min(mostSpans, vehicles*days)) }

// A plan is what a directory is bound to: the heads of registered vehicles follow from it.
type plan struct {
	Program string `json:"program"`
	Policy  uint16 `json:"policy"`
	Days    int    `json:"days"`
	Birth   uint32 `json:"birth_day"`
	Spans   int    `json:"spans"`
}

func (r *Roster) openSeed() error {
	text, err := keyfile.Read(r.path(seedFile))
	if errors.Is(err, fs.ErrNotExist) {
		rand.Read(r.seed[:])
		return keyfile.Write(r.path(seedFile), []byte(hex.EncodeToString(r.seed[:])+"\n"))
	}
	if err != nil {
		return err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(r.seed) {
		return fmt.Errorf("cannot use fleet: %s is no seed: give another --dir", r.path(seedFile))
	}
	r.seed = [32]byte(b)
	return nil
}

// openPlan reads the plan, or makes it in a directory that has none.
func (r *Roster) openPlan(now func() time.Time) (p plan, err error) {
	text, err := os.ReadFile(r.path(planFile))
	if errors.Is(err, fs.ErrNotExist) {
		p = plan{Program: r.Program.ProgramID.String(), Days: r.Days, Spans: spans(r.N, r.Days)}
		if p.Birth, r.policy, err = r.Program.calendar(r.Days, now()); err != nil {
			return p, err
		}
		p.Policy = r.policy.Serial
		return p, r.Keep(planFile, p)
	}
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("cannot use fleet: its plan is spoilt: %w; give another --dir", err)
	case p.Program != r.Program.ProgramID.String():
		return p, fmt.Errorf("cannot use fleet: %s was made for another program: give another --dir", r.dir)
	case p.Days != r.Days:
		return p, fmt.Errorf("cannot use fleet: %s was made for --days %d: give that, or another --dir", r.dir, p.Days)
	case p.Spans < p.Days || p.Spans > chain.MaxLen:
		return p, errors.New("cannot use fleet: its plan is spoilt: give another --dir")
	}
	if r.policy, err = r.Program.policyOf(p.Birth, p.Days); err != nil {
		return p, err
	}
	if r.policy.Serial != p.Policy {
		return p, fmt.Errorf("cannot use fleet: %s was made for policy %d, and policy %d has followed: give another --dir", r.dir, p.Policy, r.policy.Serial)
	}
	return p, nil
}

// Keep writes a file of the fleet's directory in JSON, whole or not at all.
func (r *Roster) Keep(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = replace(r.path(name), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

// replace writes a file whole or not at all.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		if e := os.Remove(f.Name()); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
