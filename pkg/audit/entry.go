package audit

import (
	"errors"
	"fmt"

	"rawstone/pkg/account"
	"rawstone/pkg/audit/internal/documents"
	"rawstone/pkg/audit/internal/treasury"
	"rawstone/pkg/ledger"
)

// MaxAhead is how many days after the log's day, that of its next drop, a credit may take effect and an account be activated at most.
const MaxAhead = 2

// A Refusal names a document that may not be logged, by its place and type, and says what helps.
type Refusal = documents.Refusal

// NewDocuments checks signed documents, program, charters, policies, offers and changes of the validators, as the next entries in this
// order, and changes nothing. It returns those that the log lacks, where the same text under another signature is no new document, and the
// serials of the policies in the log that are not among them. The error is a *Refusal. What it accepts holds as long as the log's day is
// the same: offers and changes are logged some days ahead.
func (r *Replay) NewDocuments(list []ledger.Entry) (lacking []ledger.Entry, absent []uint16, err error) {
	return r.documents.Lacking(list, r.drop)
}

// entry checks an entry that needs no cosignatures.
func (r *Replay) entry(e *ledger.Entry) (commit func(), err error) {
	if p, _ := r.Program(); p == nil || documents.Is(e.Type) {
		return r.documents.Add(e.Type, e.Body, r.drop)
	}
	switch e.Type {
	case ledger.TypeBinding:
		b, err := e.Binding()
		if err != nil || r.opened == nil {
			return nothing, err
		}
		return r.opened.Binding(e.Number, b)
	case ledger.TypeHandover:
		h, err := e.Handover()
		if err != nil || r.opened == nil {
			return nothing, err
		}
		return r.opened.Handover(e.Number, h)
	case ledger.TypeCredit:
		c, err := e.Credit()
		if err != nil {
			return nil, err
		}
		return r.credit(e.Number, c)
	case ledger.TypeAccount:
		var c account.Change
		if err := e.DecodeBody(e.Type, &c); err != nil || r.opened == nil {
			return nothing, err
		}
		today := r.today()
		return r.opened.Change(e.Number, c, today-min(today, 1), today+MaxAhead)
	case ledger.TypeGrant:
		return r.grant(e)
	case ledger.TypeBox:
		return r.box(e)
	case ledger.TypeRedemption:
		return r.redemption(e)
	}
	return nil, fmt.Errorf("it is of unknown %v", e.Type)
}

func nothing() {}

func (r *Replay) credit(number uint64, c ledger.Credit) (func(), error) {
	if r.documents.Policies() == 0 {
		return nil, errors.New("credit stands before any policy")
	}
	if top := r.documents.TopKm(); c.Km > top {
		return nil, fmt.Errorf("credit is %d km, should be at most %d, the highest tier of the mileage policies", c.Km, top)
	}
	// Nothing takes effect in the past, nor is anything put by for later: a credit is made on the log's day or the next, and counts from
	// the day after.
	if day := r.today(); c.Effective < day || c.Effective-day > MaxAhead {
		return nil, fmt.Errorf("credit takes effect on day %d, should be from %d to %d", c.Effective, day, uint64(day)+MaxAhead)
	}
	commit := nothing
	if r.opened != nil {
		var err error
		if commit, err = r.opened.Credit(number, c); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.report.Credits++
		if c.Km == 0 {
			return
		}
		// Bounded: an entry adds at most MaxTierKm, so 2^64 km would take 2^50 entries.
		l, ok := r.live[c.Effective]
		if !ok {
			l.first = number
		}
		l.km, l.count = l.km+uint64(c.Km), l.count+1
		r.live[c.Effective] = l
	}, nil
}

func (r *Replay) grant(e *ledger.Entry) (func(), error) {
	var g account.Grant
	if err := e.DecodeBody(e.Type, &g); err != nil {
		return nil, err
	}
	if err := treasury.Grant(g, r.today()); err != nil {
		return nil, err
	}
	commit := nothing
	if r.opened != nil {
		var err error
		if commit, err = r.opened.Grant(e.Number, g, r.documents.InForce(g.Day)); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.report.Grants++
	}, nil
}

func (r *Replay) box(e *ledger.Entry) (func(), error) {
	var b account.Box
	if err := e.DecodeBody(e.Type, &b); err != nil {
		return nil, err
	}
	after, cost, err := r.treasury.Box(e.Number, b, r.documents.InForce(b.Day), r.today())
	if err != nil {
		return nil, err
	}
	commit := nothing
	if r.opened != nil {
		_, program := r.Program()
		if commit, err = r.opened.Box(e.Number, b, program, cost); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.treasury = after
	}, nil
}

func (r *Replay) redemption(e *ledger.Entry) (func(), error) {
	var d account.Redemption
	if err := e.DecodeBody(e.Type, &d); err != nil {
		return nil, err
	}
	after, err := r.treasury.Redemption(d, r.supply, r.today())
	if err != nil {
		return nil, err
	}
	commit := nothing
	if r.opened != nil {
		_, program := r.Program()
		if commit, err = r.opened.Redemption(e.Number, d, program, r.documents.InForce(d.Day)); err != nil {
			return nil, err
		}
	}
	return func() {
		commit()
		r.treasury = after
		r.report.Redemptions++
	}, nil
}
