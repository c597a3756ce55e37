package auditor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"rawstone/pkg/audit/proof"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/wire"
)

// batchCredits is how many credits are checked together: their proofs fill several batches for all cores.
const batchCredits = 2048

// claims checks credits against archived claims, some at a time.
type claims struct {
	checker  *proof.Checker
	openings *opening.Set
	kept     *archive
	waiting  []proof.Item
	// credits counts the waiting ones, and opened those of them that somebody can still say are whose: nothing proves the rest any more.
	credits, opened int
	proven, erased  uint64
}

// add takes the next entry, which the replay has accepted.
func (c *claims) add(ctx context.Context, e *ledger.Entry) (err error) {
	item := proof.Item{Entry: e}
	if e.Type == ledger.TypeCredit {
		if o, ok := c.openings.Credit(e.Number); ok {
			if item.Claims, err = c.kept.of(o.ECU, o.ToSeq); err != nil {
				return err
			}
			c.opened++
		}
		c.credits++
	}
	c.waiting = append(c.waiting, item)
	if c.credits < batchCredits && len(c.waiting) < proof.MaxItems {
		return nil
	}
	return c.flush(ctx)
}

// flush checks what waits.
func (c *claims) flush(ctx context.Context) error {
	if err := c.checker.Check(ctx, c.waiting); err != nil {
		if errors.Is(err, proof.ErrNoClaim) {
			err = fmt.Errorf("%w; `collector claim export` writes the accepted claims to %s", err, c.kept.dir)
		}
		return err
	}
	c.proven += uint64(c.opened)
	c.erased += uint64(c.credits - c.opened)
	c.waiting, c.credits, c.opened = c.waiting[:0], 0, 0
	return nil
}

// extension of a claim's file, after its identifier in hexadecimal.
const extension = ".claim"

// An archive is a directory of claims, which are found by what they end with.
type archive struct {
	dir  string
	ends map[end][]wire.Hash
}

type end struct {
	ecu wire.KeyID
	seq uint64
}

// openArchive reads all claims of a directory once. Files with other names are passed over; one that is not what its name says is refused.
func openArchive(dir string) (*archive, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read claims: %w; `collector claim export` writes them", err)
	}
	defer d.Close()
	a := &archive{dir: dir, ends: make(map[end][]wire.Hash)}
	for {
		names, err := d.Readdirnames(1024)
		for _, name := range names {
			if !strings.HasSuffix(name, extension) {
				continue
			}
			b, err := a.file(name)
			if err != nil {
				return nil, err
			}
			m, err := wire.DecodeClaim(b)
			if err != nil {
				return nil, fmt.Errorf("cannot use claim file %s: %w", filepath.Join(dir, name), err)
			}
			at := end{m.ECU, m.To.Seq}
			a.ends[at] = append(a.ends[at], wire.ID(b))
		}
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read claims: %w", err)
		}
	}
}

// file reads a claim's file, whose name is that of its bytes.
func (a *archive) file(name string) ([]byte, error) {
	path := filepath.Join(a.dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read claim: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, wire.MaxClaimLen+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read claim: %w", err)
	}
	if id := wire.ID(b); id.String()+extension != name {
		return nil, fmt.Errorf("cannot use claim file %s: its bytes are those of %s: restore it, or export it again", path, id)
	}
	return b, nil
}

// of returns the claims that end with a snapshot.
func (a *archive) of(ecu wire.KeyID, seq uint64) (all [][]byte, err error) {
	for _, id := range a.ends[end{ecu, seq}] {
		b, err := a.file(id.String() + extension)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}
