// Package charter makes data charters from readable sources and reads them back to people: the source in YAML, the unsigned document that
// is built from it, and the document under the signatures of the oversight board, which its members add one after another.
//
// A document that is shown is shown as a source: built again for the same program it gives the same text. A charter's identifier is the
// hash of its text, so that one that gets a further signature stays the charter that it was.
//
// The package refuses every document that package terms refuses, to sign with a key that the program does not name for the board, and to
// add a signature to any that does not hold. It keeps no keys. What a charter cannot say, no source can: there are families for
// hours, speeds, trips, charging and features, and none for a position, a face or a VIN; and kinds of policy for mileage, safe
// driving and the features that package terms lists.
package charter

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rawstone/collector/internal/analytics/cost"
	"rawstone/pkg/config"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Program is what charters are built, signed and verified for.
type Program struct {
	*terms.Program
	ID wire.Hash
}

// OpenProgram reads a program's document under its pinned root.
func OpenProgram(root, program string) (*Program, error) {
	doc, id, err := terms.LoadProgram(root, program)
	if err != nil {
		return nil, err
	}
	return &Program{doc, id}, nil
}

// Build reads a source and returns the document for the program.
func (p *Program) Build(source string) (*terms.Charter, error) {
	var s Source
	if err := config.LoadAs("charter source", source, &s); err != nil {
		return nil, err
	}
	return s.Charter(p.ID), nil
}

// A Document is a charter as a file holds it.
type Document struct {
	*terms.Charter
	// ID is the charter's identifier.
	ID wire.Hash
	// Signers are the keys that the file says signed it. Nothing vouches for them here.
	Signers []wire.KeyID

	body []byte
}

// Read reads a charter's file, signed or not, without checking signatures.
func Read(path string) (*Document, error) {
	b, err := terms.ReadDocument(path)
	if err != nil {
		return nil, err
	}
	c, id, signers, err := terms.ReadCharter(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read charter %s: %w; give what `collector charter build` or `charter sign` wrote", path, err)
	}
	return &Document{c, id, signers, b}, nil
}

// Sign adds the signature of a board key to a document. It returns its bytes and how many of the board have signed it then.
func (p *Program) Sign(key crypto.Signer, d *Document) (signed []byte, n int, err error) {
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return nil, 0, err
	}
	if !slices.Contains(p.Board, public) {
		return nil, 0, fmt.Errorf("the program does not name key %s for the board: give a board member's key of this program", public.ID())
	}
	if d.Program != p.ID {
		return nil, 0, errors.New("it belongs to another program: build it for this one")
	}
	if signed, err = terms.CosignCharter(key, d.body); err != nil {
		return nil, 0, err
	}
	// Whoever signs passes on what others signed: all of it has to hold.
	n = len(d.Signers) + 1
	some := *p.Program
	some.BoardQuorum = uint8(n) // at most the board, of whom each signs once
	if _, _, err := terms.OpenCharter(&some, p.ID, signed); err != nil {
		return nil, 0, err
	}
	return signed, n, nil
}

// Verify reads a signed charter and checks it under a quorum of the program's board.
func (p *Program) Verify(path string) (*Document, error) {
	d, err := Read(path)
	if err != nil {
		return nil, err
	}
	if len(d.Signers) == 0 {
		return nil, fmt.Errorf("cannot use charter %s: %w: give the signed one (`collector charter sign`)", path, wire.ErrNotSigned)
	}
	if _, _, err := terms.OpenCharter(p.Program, p.ID, d.body); err != nil {
		return nil, fmt.Errorf("cannot use charter %s: %w", path, err)
	}
	return d, nil
}

// String shows the charter as a source, with who signed it and what it allows in comments.
func (d *Document) String() string {
	var b strings.Builder
	if len(d.Signers) == 0 {
		b.WriteString("# Not signed.\n")
	}
	for _, id := range d.Signers {
		fmt.Fprintf(&b, "# Signed, it says, by key %s: `collector charter verify` checks that.\n", id)
	}
	fmt.Fprintf(&b, "# program: %s\n# charter: %s\n", d.Program, d.ID)
	u := &d.Usage
	var families, scale []string
	for i, l := range wire.Layouts() {
		if u.Families&l.Family != 0 {
			families = append(families, l.Name)
		}
		scale = append(scale, fmt.Sprintf("%s: %d", l.Name, u.Scale[i]))
	}
	number := func(n uint32, unit float64) string { return strconv.FormatFloat(float64(n)/unit, 'g', -1, 64) }
	fmt.Fprintf(&b, "serial: %d\n# Cars prove policies of these kinds and of no others.\nkinds: [%s]\n", d.Serial, strings.Join(d.Kinds, ", "))
	fmt.Fprintf(&b, "# Tiers from 5 km on lie at least this far apart: from 5 km on, a claim tells the distance no finer.\ntier_ratio: %s\n", number(uint32(d.TierRatioMilli), 1e3))
	fmt.Fprintf(&b, "usage:\n  # %s\n  mechanism: %s\n  families: [%s]\n", words(u.Mechanism), u.Mechanism, strings.Join(families, ", "))
	fmt.Fprintf(&b, "  # A car makes at most %d reports in 365 program days, each of this much privacy.\n  epsilon: %s\n", u.YearlyDispatches, number(u.EpsilonMicro, 1e6))
	fmt.Fprintf(&b, "  # %s\n", year(u))
	if u.Mechanism == terms.GaussianVector {
		fmt.Fprintf(&b, "  delta: %s\n  clip: %d\n  scale: {%s}\n", number(u.DeltaPico, 1e12), u.Clip, strings.Join(scale, ", "))
	}
	fmt.Fprintf(&b, "  yearly_dispatches: %d\n", u.YearlyDispatches)
	return b.String()
}

// A release is one dispatch of a charter, as far as its privacy goes.
type release struct{ epsilon, delta, mu float64 }

func (r release) Epsilon() float64 { return r.epsilon }
func (r release) Delta() float64   { return r.delta }
func (r release) Mu() float64      { return r.mu }

// year says what a year of a charter's dispatches costs a car together: that is what the board signs, and no key of a charter spells it out.
func year(u *terms.Usage) string {
	r := release{epsilon: float64(u.EpsilonMicro) / 1e6, delta: float64(u.DeltaPico) / 1e12}
	var err error
	if r.mu, err = dp.Mu(r.epsilon, r.delta); err == nil {
		var p cost.Privacy
		if p, err = cost.Of(r, int(u.YearlyDispatches)); err == nil {
			return fmt.Sprintf("A year of %d composes to ε = %.1f at a total δ of %.0e.", p.Dispatches, p.YearEpsilon, p.YearDelta)
		}
	}
	return fmt.Sprintf("What a year composes to cannot be said: %v.", err)
}

func words(m terms.Mechanism) string {
	switch m {
	case terms.SubsetSelection:
		return "A report names some bins of one family, the largest more likely among them than another."
	case terms.RandomizedResponse:
		return "A report names one bin of one family, the largest more likely than another."
	}
	return "A report holds the totals of all families under Gaussian noise; those that the driver has not turned on are noise over zeros."
}
