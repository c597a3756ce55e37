package accounts

import (
	"fmt"

	"rawstone/pkg/ledger"
)

// A key is an ECU key with the segments of its sequence numbers that were bound. They are disjoint and ascend: no binding begins before
// the cut of the one before it, and only the last can be open.
type key struct {
	segments []segment
	revoked  bool
}

// A segment holds for the sequence numbers above from, and when it is closed, up to cut.
type segment struct {
	vehicle, account string
	from             uint64
	head             uint64 // the end of the last span credited, from at first
	closed           bool
	cut              uint64
}

// last returns the segment bound last.
func (k *key) last() *segment { return &k.segments[len(k.segments)-1] }

// Binding checks the binding that is the entry of that number.
func (o *Accounts) Binding(number uint64, b ledger.Binding) (func(), error) {
	op, ok := o.opener.Binding(number)
	if !ok && o.opener.Erased(number) {
		return o.erased.entry, nil
	}
	if !ok {
		return nil, fmt.Errorf("binding %w", ErrNoOpening)
	}
	blind, err := op.Blind()
	if err != nil {
		return nil, err
	}
	if blind != b.Blind {
		return nil, fmt.Errorf("binding's blind is %s, its opening's is %s", b.Blind, blind)
	}
	id := op.ECU.ID()
	k := o.keys[id]
	if k != nil {
		switch last := k.last(); {
		case k.revoked:
			return nil, fmt.Errorf("binding is of key %s, which is revoked", id)
		case !last.closed:
			return nil, fmt.Errorf("binding is of key %s, which is bound already: a hand-over closes a binding", id)
		case op.Head.Seq < last.cut:
			return nil, fmt.Errorf("binding begins at snapshot %d, should be at or after %d, where key %s was handed over", op.Head.Seq, last.cut, id)
		}
	}
	switch e, known := o.opener.ErasedKey(id); {
	case !known || number < e.Since:
	case e.Revoked:
		return nil, fmt.Errorf("binding is of key %s, which is revoked", id)
	case op.Head.Seq < e.Cut:
		return nil, fmt.Errorf("binding begins at snapshot %d, should be at or after %d, where key %s was handed over by an account that was erased", op.Head.Seq, e.Cut, id)
	}
	if other, fitted := o.fitted[op.Vehicle]; fitted {
		return nil, fmt.Errorf("binding is of vehicle %q, which is bound to key %s already: a hand-over closes a binding", op.Vehicle, other)
	}
	return func() {
		if k == nil {
			k = new(key)
			o.keys[id] = k
		}
		k.segments = append(k.segments, segment{vehicle: op.Vehicle, account: op.Account, from: op.Head.Seq, head: op.Head.Seq})
		o.fitted[op.Vehicle] = id
		o.holding(op.Account).cars++
	}, nil
}

// Handover checks the hand-over that is the entry of that number. One that revokes may follow another: it ends what closed bindings could
// still earn.
func (o *Accounts) Handover(number uint64, h ledger.Handover) (func(), error) {
	op, ok := o.opener.Handover(number)
	if !ok && o.opener.Erased(number) {
		return o.erased.entry, nil
	}
	if !ok {
		return nil, fmt.Errorf("hand-over has no opening")
	}
	blind, err := op.Blind()
	if err != nil {
		return nil, err
	}
	if blind != h.Blind {
		return nil, fmt.Errorf("hand-over's blind is %s, its opening's is %s", h.Blind, blind)
	}
	k := o.keys[op.ECU]
	if k == nil {
		return nil, fmt.Errorf("hand-over's key %s was never bound", op.ECU)
	}
	last := k.last()
	switch {
	case k.revoked:
		return nil, fmt.Errorf("hand-over is of key %s, which is revoked", op.ECU)
	case last.closed && !op.Revoked:
		return nil, fmt.Errorf("hand-over is of key %s, which has no open binding", op.ECU)
	case op.Revoked && op.Cut != last.head:
		return nil, fmt.Errorf("hand-over cuts at snapshot %d, should be at %d, the head of key %s, which it revokes", op.Cut, last.head, op.ECU)
	case op.Cut < last.head:
		return nil, fmt.Errorf("hand-over cuts at snapshot %d, should be at or after %d, the head of key %s", op.Cut, last.head, op.ECU)
	}
	return func() {
		if !last.closed {
			delete(o.fitted, last.vehicle)
			o.holding(last.account).cars--
		}
		if op.Revoked {
			k.revoked = true
		}
		last.closed, last.cut = true, op.Cut
	}, nil
}

// segment returns the segment in which the credit that is the entry of that number lies: the last that begins before its end.
func (o *Accounts) segment(number uint64, op ledger.CreditOpening) (*segment, error) {
	k := o.keys[op.ECU]
	if k == nil {
		return nil, fmt.Errorf("credit's key %s was never bound", op.ECU)
	}
	if e, known := o.opener.ErasedKey(op.ECU); k.revoked || known && e.Revoked && number >= e.Since {
		return nil, fmt.Errorf("credit stands after its key %s was revoked", op.ECU)
	}
	at := &k.segments[0]
	for i := range k.segments {
		if k.segments[i].from < op.ToSeq {
			at = &k.segments[i]
		}
	}
	switch {
	case at.account != op.Account:
		return nil, fmt.Errorf("credit is account %q's, should be %q's, to which its key %s is bound", op.Account, at.account, op.ECU)
	case op.ToSeq <= at.from:
		return nil, fmt.Errorf("credit ends at snapshot %d, should be after %d, where key %s was bound", op.ToSeq, at.from, op.ECU)
	case at.closed && op.ToSeq > at.cut:
		return nil, fmt.Errorf("credit ends at snapshot %d, should be at or before %d, where key %s was cut", op.ToSeq, at.cut, op.ECU)
	}
	return at, nil
}
