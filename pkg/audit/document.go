package audit

import (
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// NewDocuments checks signed documents, program, charters and policies, as the next entries in this order, and changes nothing. It
// returns those that the log lacks, where the same text under another signature is no new document, and the serials of the policies in
// the log that are not among them. The error names the document by its place and type.
func (r *Replay) NewDocuments(documents []ledger.Entry) (lacking []ledger.Entry, absent []uint16, err error) {
	after := *r // documents change none of what its maps hold
	after.documents, after.logged = slices.Clone(r.documents), slices.Clone(r.logged)
	given := make(map[wire.Hash]bool)
	for i, d := range documents {
		id, err := after.addDocument(&d, &lacking)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot log document %d, a %v: %w", i+1, d.Type, err)
		}
		given[id] = true
	}
	for _, p := range r.logged {
		if !given[p.id] {
			absent = append(absent, p.serial)
		}
	}
	return lacking, absent, nil
}

func (r *Replay) addDocument(d *ledger.Entry, lacking *[]ledger.Entry) (id wire.Hash, err error) {
	switch {
	case d.Type == ledger.TypeProgram:
		id = wire.ID(d.Body)
	case d.Type != ledger.TypeCharter && d.Type != ledger.TypePolicy:
		return id, errors.New("it is no document")
	case r.program == nil:
		return id, errors.New("it should follow the program document")
	case d.Type == ledger.TypeCharter:
		_, charter, err := terms.OpenCharter(r.program, r.programID, d.Body)
		if err != nil {
			return id, err
		}
		id = charter
	default:
		p, err := terms.OpenPolicy(r.program.Policy, r.programID, d.Body)
		if err != nil {
			return id, err
		}
		if id, err = policyID(p); err != nil {
			return id, err
		}
	}
	if slices.Contains(r.documents, id) {
		return id, nil
	}
	commit, err := r.document(d)
	if err != nil {
		return id, err
	}
	commit()
	*lacking = append(*lacking, *d)
	return id, nil
}

// policyID returns the identifier of a policy's content, whoever signed it and when.
func policyID(p *terms.Policy) (wire.Hash, error) {
	b, err := wire.Marshal(p)
	return wire.ID(b), err
}

// document checks an entry that needs no cosignatures.
func (r *Replay) document(e *ledger.Entry) (commit func(), err error) {
	if (r.program == nil) != (e.Type == ledger.TypeProgram) {
		if r.program == nil {
			return nil, fmt.Errorf("it is of type %v, should be the program document", e.Type)
		}
		return nil, errors.New("it is a second program document")
	}
	switch e.Type {
	case ledger.TypeProgram:
		p, id, err := terms.OpenProgram(r.root, e.Body)
		if err != nil {
			return nil, err
		}
		for _, v := range p.Validators {
			if err := ledger.CheckVRFKey(v.VRF); err != nil {
				return nil, fmt.Errorf("validator %s: %w", v.Name, err)
			}
		}
		return func() { r.program, r.programID, r.documents = p, id, append(r.documents, id) }, nil
	case ledger.TypeCharter:
		c, id, err := terms.OpenCharter(r.program, r.programID, e.Body)
		if err != nil {
			return nil, err
		}
		if r.charter != nil && c.Serial <= r.charter.Serial {
			return nil, fmt.Errorf("charter has serial %d, should be above %d", c.Serial, r.charter.Serial)
		}
		return func() {
			r.charter, r.policies, r.documents = c, ledger.ChainPolicy(r.policies, e.Body), append(r.documents, id)
		}, nil
	case ledger.TypePolicy:
		p, err := terms.OpenPolicy(r.program.Policy, r.programID, e.Body)
		if err != nil {
			return nil, err
		}
		if r.charter == nil {
			return nil, errors.New("policy stands before any charter")
		}
		if err := r.charter.Covers(p); err != nil {
			return nil, err
		}
		if r.report.Policies > 0 && p.Serial <= r.serial {
			return nil, fmt.Errorf("policy has serial %d, should be above %d", p.Serial, r.serial)
		}
		id, err := policyID(p)
		if err != nil {
			return nil, err
		}
		return func() {
			r.serial, r.policies, r.documents = p.Serial, ledger.ChainPolicy(r.policies, e.Body), append(r.documents, id)
			r.logged = append(r.logged, logged{id, p.Serial})
			if p.Kind == terms.KindMileage {
				r.topKm = max(r.topKm, p.Tiers[len(p.Tiers)-1].Km)
			}
			r.report.Policies++
		}, nil
	case ledger.TypeBinding:
		b, err := e.Binding()
		if err != nil {
			return nil, err
		}
		if r.opened != nil {
			return r.opened.Binding(e.Number, b)
		}
		return func() {}, nil
	case ledger.TypeHandover:
		h, err := e.Handover()
		if err != nil {
			return nil, err
		}
		if r.opened != nil {
			return r.opened.Handover(e.Number, h)
		}
		return func() {}, nil
	case ledger.TypeCredit:
		c, err := e.Credit()
		if err != nil {
			return nil, err
		}
		return r.credit(e.Number, c)
	}
	return nil, fmt.Errorf("it is of unknown %v", e.Type)
}
