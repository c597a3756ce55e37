// Package offering makes offers (tasks, mine boxes with their odds, catalogue) from readable sources and reads them back to people: the
// source in YAML, the unsigned document that is built from it, the signed one, and what either promises in words and exact numbers.
//
// Offers that are shown are shown as a source: built again for the same program they give the same bytes. Odds are exact fractions, and
// expected values exact decimals; no number is rounded.
//
// The package refuses to sign with a key that the program does not name for policies, and every document that package cultivation refuses.
// It keeps no keys. Whether offers come with enough notice depends on the ledger, and is for those who replay it.
package offering

import (
	"crypto"
	"errors"
	"fmt"
	"slices"

	"rawstone/collector/internal/envelope"
	"rawstone/collector/internal/policy"
	"rawstone/pkg/config"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Build reads a source and returns its document for the program. A day other than 0 stands in place of the source's.
func Build(p *policy.Program, source string, fromDay uint32) (*cultivation.Offers, error) {
	var s Source
	if err := config.LoadAs("offers source", source, &s); err != nil {
		return nil, err
	}
	if fromDay == 0 {
		fromDay = s.FromDay
	}
	if fromDay == 0 {
		return nil, fmt.Errorf("cannot build offers %s: no day from which they are in force; give --from-day, at least %d days after the ledger's day", source, cultivation.NoticeDays)
	}
	o := s.Offers(p.ID, fromDay)
	err := covered(p, o)
	if err == nil {
		err = readable(o)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot build offers %s: %w", source, err)
	}
	return o, nil
}

// readable refuses offers that nobody could read once they were built: too long ones, above all.
func readable(o *cultivation.Offers) error {
	b, err := wire.Marshal(o)
	if err != nil {
		return err
	}
	_, err = cultivation.DecodeOffers(b)
	return err
}

// covered refuses tasks that are proven by a kind of policy which a known charter does not allow: nobody could ever prove them.
func covered(p *policy.Program, o *cultivation.Offers) error {
	if p.Charter == nil {
		return nil
	}
	for _, t := range o.Tasks {
		if t.Kind != "" && !slices.Contains(p.Charter.Kinds, t.Kind) {
			return fmt.Errorf("task %q is proven by kind %q, which the charter does not allow", t.ID, t.Kind)
		}
	}
	return nil
}

// Sign signs an unsigned document with one of the program's policy keys.
func Sign(p *policy.Program, key crypto.Signer, doc *Document) ([]byte, error) {
	if doc.Signer != nil {
		return nil, fmt.Errorf("key %s signed them already: give the unsigned document", doc.Signer)
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(p.Policy, public) {
		return nil, fmt.Errorf("the program does not name key %s for policies: give the key that belongs to this program", public.ID())
	}
	if doc.Program != p.ID {
		return nil, fmt.Errorf("offers %d belong to another program: build them for this one", doc.Serial)
	}
	if err := covered(p, doc.Offers); err != nil {
		return nil, err
	}
	signed, err := cultivation.SealOffers(key, doc.Offers)
	if err != nil {
		return nil, err
	}
	_, err = cultivation.OpenOffers(p.Policy, p.ID, signed) // the signature's bytes count towards what may be read
	return signed, err
}

// Verify reads signed offers and checks each under the program's policy keys and charter, and that no two have one serial.
func Verify(p *policy.Program, paths []string) ([]*cultivation.Offers, error) {
	var docs []*cultivation.Offers
	for _, path := range paths {
		b, err := terms.ReadDocument(path)
		if err != nil {
			return nil, err
		}
		doc, err := cultivation.OpenOffers(p.Policy, p.ID, b)
		if err == nil {
			err = covered(p, doc)
		}
		if errors.Is(err, wire.ErrNotSigned) {
			err = fmt.Errorf("%w: give the signed ones (`collector offers sign`)", err)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot accept offers %s: %w", path, err)
		}
		for i, other := range docs {
			if other.Serial == doc.Serial {
				return nil, fmt.Errorf("cannot accept offers: %s and %s have serial %d: give the newer one a higher serial", paths[i], path, doc.Serial)
			}
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// A Document is offers as a file holds them.
type Document struct {
	*cultivation.Offers
	// Signer is the key that the file says signed it, nil when nobody did. Nothing vouches for it here.
	Signer *wire.KeyID
}

// Read reads a file of offers, signed or not, without checking the signature.
func Read(path string) (*Document, error) {
	payload, signer, err := envelope.Read(path)
	if err != nil {
		return nil, err
	}
	o, err := cultivation.DecodeOffers(payload)
	if err != nil {
		return nil, fmt.Errorf("cannot read offers %s: %w; give what `collector offers build` or `offers sign` wrote", path, err)
	}
	return &Document{o, signer}, nil
}
