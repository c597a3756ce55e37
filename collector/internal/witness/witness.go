// Package witness makes changes of a program's validators from their public parts and reads them back to people: the unsigned document,
// the signed one, and the lines that tell who the validators are.
//
// A validator's public part is one line: its key for cosignatures and its VRF key, 64 hexadecimal digits each, and its name. What is shown
// is in that form, so that it can be cut and pasted into the next change.
//
// The package refuses validators that could not meet the program's quorum, that share a name or a key, or whose VRF key fails RFC 9381's
// validation, and any signature but the program root's. It keeps no keys. Whether a change comes a day ahead is for those who replay the
// ledger.
package witness

import (
	"bufio"
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"rawstone/collector/internal/envelope"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxLen bounds an unsigned change in bytes, as package ledger bounds the signed one.
const maxLen = 4 << 10

// A Program is what changes are built, signed and verified for.
type Program struct {
	*terms.Program
	ID   wire.Hash
	Root wire.PublicKey
}

// OpenProgram reads a program's document under its pinned root.
func OpenProgram(root, program string) (*Program, error) {
	doc, id, err := terms.LoadProgram(root, program)
	if err != nil {
		return nil, err
	}
	key, err := terms.LoadRoot(root)
	return &Program{doc, id, key}, err
}

// Line spells a validator's public part, without a line break.
func Line(v terms.Validator) string { return fmt.Sprintf("%x %x %s", v.Key, v.VRF, v.Name) }

// Parse reads lines of public parts; empty ones and those that begin with # are skipped. The error names the line.
func Parse(text []byte) (list []terms.Validator, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		v, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("line %d is no validator: %w; want the line that `collector witness key` or `witness public` printed", n, err)
		}
		list = append(list, v)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("it names no validator")
	}
	return list, nil
}

func parse(line string) (v terms.Validator, err error) {
	key, rest, _ := strings.Cut(line, " ")
	vrf, name, _ := strings.Cut(rest, " ")
	for _, part := range []struct {
		text string
		key  *[32]byte
	}{{key, &v.Key}, {vrf, &v.VRF}} {
		b, err := hex.DecodeString(part.text)
		if err != nil || len(b) != len(part.key) {
			return v, fmt.Errorf("%q is not 32 bytes in hexadecimal", part.text)
		}
		*part.key = [32]byte(b)
	}
	if name == "" || name != strings.TrimSpace(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return v, fmt.Errorf("name %q is empty or no plain text", name)
	}
	v.Name = name
	return v, nil
}

// Build returns the change after which a program has these validators.
func (p *Program) Build(serial uint16, fromDay uint32, validators []terms.Validator) (*ledger.Witness, error) {
	w := &ledger.Witness{Version: wire.Version, Program: p.ID, Serial: serial, FromDay: fromDay, Validators: validators}
	if err := errors.Join(w.Validate(), p.check(w)); err != nil {
		return nil, fmt.Errorf("cannot build witness change: %w", err)
	}
	return w, nil
}

// check holds a change to what ledger.OpenWitness asks of one that is signed.
func (p *Program) check(w *ledger.Witness) error {
	if w.Program != p.ID {
		return errors.New("it belongs to another program: build it for this one")
	}
	after := *p.Program
	after.Validators = w.Validators
	if err := after.Validate(); err != nil {
		return err
	}
	for _, v := range w.Validators {
		if err := ledger.CheckVRFKey(v.VRF); err != nil {
			return fmt.Errorf("validator %s: %w", v.Name, err)
		}
	}
	return nil
}

// Sign signs an unsigned change with the program root's key.
func (p *Program) Sign(key crypto.Signer, doc *Document) ([]byte, error) {
	if doc.Signer != nil {
		return nil, fmt.Errorf("key %s signed it already: give the unsigned document", doc.Signer)
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if public != p.Root {
		return nil, fmt.Errorf("key %s is not the program root: give the root's key", public.ID())
	}
	if err := p.check(doc.Witness); err != nil {
		return nil, err
	}
	signed, err := ledger.SealWitness(key, doc.Witness)
	if err != nil {
		return nil, err
	}
	_, err = ledger.OpenWitness(p.Root, p.Program, p.ID, signed) // the signature's bytes count towards what may be read
	return signed, err
}

// Verify reads signed changes in the order in which they are to be logged, and checks each under the program's root and that serials and
// days rise.
func (p *Program) Verify(paths []string) (changes []*ledger.Witness, err error) {
	for i, path := range paths {
		b, err := terms.ReadDocument(path)
		if err != nil {
			return nil, err
		}
		w, err := ledger.OpenWitness(p.Root, p.Program, p.ID, b)
		if errors.Is(err, wire.ErrNotSigned) {
			err = fmt.Errorf("%w: give the signed one (`collector witness sign`)", err)
		}
		if err == nil && i > 0 && (w.Serial <= changes[i-1].Serial || w.FromDay <= changes[i-1].FromDay) {
			err = fmt.Errorf("its serial %d and day %d are not both above %d and %d of %s", w.Serial, w.FromDay, changes[i-1].Serial, changes[i-1].FromDay, paths[i-1])
		}
		if err != nil {
			return nil, fmt.Errorf("cannot accept witness change %s: %w", path, err)
		}
		changes = append(changes, w)
	}
	return changes, nil
}

// A Document is a change as a file holds it.
type Document struct {
	*ledger.Witness
	// Signer is the key that the file says signed it, nil when nobody did. Nothing vouches for it here.
	Signer *wire.KeyID
}

// Read reads a file of a change, signed or not, without checking the signature.
func Read(path string) (*Document, error) {
	payload, signer, err := envelope.Read(path)
	if err != nil {
		return nil, err
	}
	w := new(ledger.Witness)
	if err := wire.Unmarshal(payload, w, maxLen); err != nil {
		return nil, fmt.Errorf("cannot read witness change %s: %w; give what `collector witness build` or `witness sign` wrote", path, err)
	}
	return &Document{w, signer}, nil
}

// String shows the change: comments, then a line for each validator.
func (d *Document) String() string {
	var b strings.Builder
	if d.Signer != nil {
		fmt.Fprintf(&b, "# Signed, it says, by key %s: `collector witness verify` checks that.\n", d.Signer)
	} else {
		b.WriteString("# Not signed.\n")
	}
	fmt.Fprintf(&b, "# program: %s\n# serial: %d\n# from_day: %d\n", d.Program, d.Serial, d.FromDay)
	for _, v := range d.Validators {
		// What a file says is not to steer a terminal.
		v.Name = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return unicode.ReplacementChar
			}
			return r
		}, v.Name)
		b.WriteString(Line(v) + "\n")
	}
	return b.String()
}
