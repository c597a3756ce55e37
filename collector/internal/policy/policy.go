// Package policy makes policies from readable sources and reads them back to people: the source in YAML, the unsigned document that
// is built from it, the signed one, and what either asks in words.
//
// A document that is shown is shown as a source: built again for the same program and the same keys it gives the same bytes.
//
// The package refuses to build for production with keys from a development setup, to sign with a key that the program does not name for
// policies, and every document that package terms refuses. It keeps no keys.
package policy

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/veraison/go-cose"

	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Program is what policies are built, signed and verified for.
type Program struct {
	*terms.Program
	ID wire.Hash
	// Charter bounds policies when it is known; nil leaves that unchecked.
	Charter *terms.Charter
}

// OpenProgram reads a program's document under its pinned root, and its charter unless charter is empty.
func OpenProgram(root, program, charter string) (*Program, error) {
	doc, id, err := terms.LoadProgram(root, program)
	if err != nil {
		return nil, err
	}
	p := &Program{Program: doc, ID: id}
	if charter == "" {
		return p, nil
	}
	b, err := terms.ReadDocument(charter)
	if err != nil {
		return nil, err
	}
	if p.Charter, _, err = terms.OpenCharter(doc, id, b); err != nil {
		return nil, fmt.Errorf("cannot use charter %s: %w; give the program's charter.cose", charter, err)
	}
	return p, nil
}

func (p *Program) covers(doc *terms.Policy) error {
	if p.Charter == nil {
		return nil
	}
	return p.Charter.Covers(doc)
}

// Build reads sources and returns the documents for the program and the keys of a setup, in the order given. They must stand side by
// side (terms.CheckPolicies).
func (p *Program) Build(sources []string, keys string) ([]*terms.Policy, error) {
	lock, err := claim.ReadLock(keys)
	if err != nil {
		return nil, fmt.Errorf("%w; give the directory that `collector init` or `collector ceremony seal` wrote", err)
	}
	if p.Environment == wire.Production && lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot build policies for production with the keys in %s: they are from a development setup; run the ceremony", keys)
	}
	var docs []*terms.Policy
	for _, path := range sources {
		var s Source
		if err := config.LoadAs("policy source", path, &s); err != nil {
			return nil, err
		}
		doc := s.Policy(p.ID, lock)
		if err := p.covers(doc); err != nil {
			return nil, fmt.Errorf("cannot build policy %s: %w", path, err)
		}
		docs = append(docs, doc)
	}
	if err := terms.CheckPolicies(docs); err != nil {
		return nil, fmt.Errorf("cannot build policies: %w", err)
	}
	return docs, nil
}

// Sign signs an unsigned document with one of the program's policy keys.
func (p *Program) Sign(key crypto.Signer, doc *Document) ([]byte, error) {
	if doc.Signer != nil {
		return nil, fmt.Errorf("key %s signed it already: give the unsigned document", doc.Signer)
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Policy, public) {
		return nil, fmt.Errorf("the program does not name key %s for policies: give the key that belongs to this program", public.ID())
	}
	if doc.Policy.Program != p.ID {
		return nil, fmt.Errorf("policy %d belongs to another program: build it for this one", doc.Serial)
	}
	if err := p.covers(doc.Policy); err != nil {
		return nil, err
	}
	return terms.SealPolicy(key, doc.Policy)
}

// Verify reads signed policies and checks each under the program's policy keys and charter, and that they stand side by side.
func (p *Program) Verify(paths []string) ([]*terms.Policy, error) {
	var docs []*terms.Policy
	for _, path := range paths {
		b, err := terms.ReadDocument(path)
		if err != nil {
			return nil, err
		}
		doc, err := terms.OpenPolicy(p.Policy, p.ID, b)
		if err == nil {
			err = p.covers(doc)
		}
		if errors.Is(err, wire.ErrNotSigned) {
			err = fmt.Errorf("%w: give the signed one (`collector policy sign`)", err)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot accept policy %s: %w", path, err)
		}
		docs = append(docs, doc)
	}
	if err := terms.CheckPolicies(docs); err != nil {
		return nil, fmt.Errorf("cannot accept policies: %w", err)
	}
	return docs, nil
}

// A Document is a policy as a file holds it.
type Document struct {
	*terms.Policy
	// Signer is the key that the file says signed it, nil when nobody did. Nothing vouches for it here.
	Signer *wire.KeyID
}

// coseSign1 is the first byte of a COSE_Sign1 (RFC 9052 §4.2): CBOR's tag 18.
const coseSign1 = 0xd2

// Read reads a policy's file, signed or not, without checking the signature.
func Read(path string) (*Document, error) {
	b, err := terms.ReadDocument(path)
	if err != nil {
		return nil, err
	}
	d := new(Document)
	payload := b
	if len(b) > 0 && b[0] == coseSign1 {
		var m cose.Sign1Message
		if err := m.UnmarshalCBOR(b); err != nil {
			return nil, fmt.Errorf("cannot read policy %s: %w", path, err)
		}
		kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
		if !ok || len(kid) != len(wire.KeyID{}) {
			return nil, fmt.Errorf("cannot read policy %s: it does not name the key that signed it", path)
		}
		id := wire.KeyID(kid)
		payload, d.Signer = m.Payload, &id
	}
	if d.Policy, err = terms.DecodePolicy(payload); err != nil {
		return nil, fmt.Errorf("cannot read policy %s: %w; give what `collector policy build` or `policy sign` wrote", path, err)
	}
	return d, nil
}
