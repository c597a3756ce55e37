// Package documents is the part of an audit that looks after signed documents: the program, which comes first, charters, policies, offers
// and changes of the validators. It says which of them may follow what is logged, who the validators of a day are and what is offered on it.
//
// What is refused changes nothing. A document's text is known under whatever signature: signed again it is no new document. Whether a
// document is what it says, and who may sign it, is for the packages that define it.
package documents

import (
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Documents are the signed documents after a prefix of a log. They are used by one goroutine at a time.
type Documents struct {
	root    wire.PublicKey
	program *terms.Program
	id      wire.Hash
	charter *terms.Charter
	topKm   uint32 // of the highest tier of all mileage policies
	chain   wire.Hash
	texts   []wire.Hash // identifiers of the contents of all documents
	// Each list is in the log's order, by rising serials.
	policies []policy
	offers   []*cultivation.Offers
	changes  []*ledger.Witness
}

// A policy is one in the log: the identifier of its content, and its serial.
type policy struct {
	id     wire.Hash
	serial uint16
}

// New starts before the first document, which the root must have signed.
func New(root wire.PublicKey) *Documents { return &Documents{root: root} }

// Program returns the program document and its identifier, or nil before there is one.
func (d *Documents) Program() (*terms.Program, wire.Hash) { return d.program, d.id }

// Chain returns the Policies hash of the next block.
func (d *Documents) Chain() wire.Hash { return d.chain }

// Policies returns the number of policies, and TopKm the kilometres of the highest tier of those of mileage.
func (d *Documents) Policies() int { return len(d.policies) }

// TopKm returns the kilometres of the highest tier of all mileage policies.
func (d *Documents) TopKm() uint32 { return d.topKm }

// Offers returns all offers.
func (d *Documents) Offers() []*cultivation.Offers { return slices.Clone(d.offers) }

// InForce returns the offers in force on a program day, nil when there are none.
func (d *Documents) InForce(day uint32) *cultivation.Offers {
	return cultivation.InForce(d.offers, day)
}

// Changes returns all changes of the validators.
func (d *Documents) Changes() []*ledger.Witness { return slices.Clone(d.changes) }

// On returns the program with the validators of a program day.
func (d *Documents) On(day uint32) *terms.Program { return ledger.On(d.program, d.changes, day) }

// Day returns the program day of a drop. There must be a program.
func (d *Documents) Day(drop uint64) uint32 {
	return d.program.Timing.Day(d.program.Timing.DropTime(drop))
}

// Is reports whether entries of a type are signed documents.
func Is(t ledger.Type) bool {
	switch t {
	case ledger.TypeProgram, ledger.TypeCharter, ledger.TypePolicy, ledger.TypeOffers, ledger.TypeWitness:
		return true
	}
	return false
}

// Lacking checks documents as the next entries in this order, while the next drop is drop, and changes nothing. It returns those whose
// text is not in the log, and the serials of the policies in the log that are not among them. The error is a *Refusal.
func (d *Documents) Lacking(list []ledger.Entry, drop uint64) (lacking []ledger.Entry, absent []uint16, err error) {
	after := *d
	after.texts, after.policies = slices.Clone(d.texts), slices.Clone(d.policies)
	after.offers, after.changes = slices.Clone(d.offers), slices.Clone(d.changes)
	given := make(map[wire.Hash]bool)
	for i, e := range list {
		id, added, err := after.take(e.Type, e.Body, drop)
		if err != nil {
			return nil, nil, refuse(i, e.Type, err)
		}
		if given[id] = true; added {
			lacking = append(lacking, e)
		}
	}
	for _, p := range d.policies {
		if !given[p.id] {
			absent = append(absent, p.serial)
		}
	}
	return lacking, absent, nil
}

// take adds a document unless its text is there already.
func (d *Documents) take(t ledger.Type, body []byte, drop uint64) (id wire.Hash, added bool, err error) {
	switch {
	case !Is(t):
		return id, false, errors.New("it is no document")
	case t == ledger.TypeProgram:
		id = wire.ID(body)
	case d.program == nil:
		return id, false, errors.New("it should follow the program document")
	default:
		if _, id, err = d.open(t, body); err != nil {
			return id, false, err
		}
	}
	if slices.Contains(d.texts, id) {
		return id, false, nil
	}
	commit, err := d.Add(t, body, drop)
	if err != nil {
		return id, false, err
	}
	commit()
	return id, true, nil
}

// open checks a document by itself and returns its content and what identifies that, whoever signed it and when.
func (d *Documents) open(t ledger.Type, body []byte) (content any, id wire.Hash, err error) {
	var m wire.Message
	switch t {
	case ledger.TypeProgram:
		return opened(terms.OpenProgram(d.root, body))
	case ledger.TypeCharter:
		return opened(terms.OpenCharter(d.program, d.id, body))
	case ledger.TypePolicy:
		m, err = message(terms.OpenPolicy(d.program.Policy, d.id, body))
	case ledger.TypeOffers:
		m, err = message(cultivation.OpenOffers(d.program.Policy, d.id, body))
	case ledger.TypeWitness:
		m, err = message(ledger.OpenWitness(d.root, d.program, d.id, body))
	default:
		err = fmt.Errorf("it is of unknown %v", t)
	}
	if err != nil {
		return nil, id, err
	}
	b, err := wire.Marshal(m)
	return m, wire.ID(b), err
}

func opened[T any](content T, id wire.Hash, err error) (any, wire.Hash, error) {
	return content, id, err
}

func message[T wire.Message](m T, err error) (wire.Message, error) { return m, err }

// Add checks a document as the next entry, while the next drop is drop, and returns what takes it in.
func (d *Documents) Add(t ledger.Type, body []byte, drop uint64) (commit func(), err error) {
	if (d.program == nil) != (t == ledger.TypeProgram) {
		if d.program == nil {
			return nil, fmt.Errorf("it is of type %v, should be the program document", t)
		}
		return nil, errors.New("it is a second program document")
	}
	content, id, err := d.open(t, body)
	if err != nil {
		return nil, err
	}
	chain := ledger.ChainPolicy(d.chain, body)
	var keep func()
	switch c := content.(type) {
	case *terms.Program:
		for _, v := range c.Validators {
			if err := ledger.CheckVRFKey(v.VRF); err != nil {
				return nil, fmt.Errorf("validator %s: %w", v.Name, err)
			}
		}
		keep = func() { d.program, d.id = c, id }
	case *terms.Charter:
		if d.charter != nil && c.Serial <= d.charter.Serial {
			return nil, fmt.Errorf("charter has serial %d, should be above %d", c.Serial, d.charter.Serial)
		}
		keep = func() { d.charter, d.chain = c, chain }
	case *terms.Policy:
		if d.charter == nil {
			return nil, errors.New("policy stands before any charter")
		}
		if err := d.charter.Covers(c); err != nil {
			return nil, err
		}
		if n := len(d.policies); n > 0 && c.Serial <= d.policies[n-1].serial {
			return nil, fmt.Errorf("policy has serial %d, should be above %d", c.Serial, d.policies[n-1].serial)
		}
		keep = func() {
			d.policies, d.chain = append(d.policies, policy{id, c.Serial}), chain
			if c.Kind == terms.KindMileage {
				d.topKm = max(d.topKm, c.Tiers[len(c.Tiers)-1].Km)
			}
		}
	case *cultivation.Offers:
		if err := d.follows(c, d.Day(drop)); err != nil {
			return nil, err
		}
		keep = func() { d.offers = append(d.offers, c) } // not in the chain, which agents obey
	case *ledger.Witness:
		if err := d.succeeds(c, d.Day(drop)); err != nil {
			return nil, err
		}
		keep = func() { d.changes, d.chain = append(d.changes, c), chain }
	}
	return func() {
		keep()
		d.texts = append(d.texts, id)
	}, nil
}

// follows checks that offers may be logged on a day: everybody can read them for the days of notice before they are in force.
func (d *Documents) follows(o *cultivation.Offers, day uint32) error {
	if n := len(d.offers); n > 0 && o.Serial <= d.offers[n-1].Serial {
		return fmt.Errorf("offers have serial %d, should be above %d", o.Serial, d.offers[n-1].Serial)
	}
	if first := uint64(day) + cultivation.NoticeDays; uint64(o.FromDay) < first {
		return late{fmt.Errorf("offers are in force from day %d, should be from day %d or later, %d days after the log's day", o.FromDay, first, cultivation.NoticeDays), first}
	}
	return nil
}

// succeeds checks that a change of the validators may be logged on a day: their keys are known before any seed of theirs.
func (d *Documents) succeeds(w *ledger.Witness, day uint32) error {
	if n := len(d.changes); n > 0 {
		last := d.changes[n-1]
		if w.Serial <= last.Serial {
			return fmt.Errorf("witness change has serial %d, should be above %d", w.Serial, last.Serial)
		}
		if w.FromDay <= last.FromDay {
			return late{fmt.Errorf("witness change is from day %d, should be after day %d, on which change %d begins", w.FromDay, last.FromDay, last.Serial),
				uint64(max(day, last.FromDay)) + 1}
		}
	}
	if w.FromDay <= day {
		return late{fmt.Errorf("witness change is from day %d, should be after the log's day %d", w.FromDay, day), uint64(day) + 1}
	}
	return nil
}
