package holding

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

func (h *Holding) binding(e *ledger.Entry, opening []byte) error {
	b, err := e.Binding()
	if err != nil {
		return err
	}
	o, err := open[ledger.BindingOpening](opening, b.Blind)
	if err == nil {
		err = h.mine(o.Account)
	}
	if err != nil {
		return err
	}
	id := o.ECU.ID()
	for _, b := range h.Bindings {
		switch {
		case b.ECU == id && b.Revoked:
			return fmt.Errorf("binding is of key %s, which is revoked", id)
		case b.ECU == id && !b.Closed, b.Vehicle == o.Vehicle && !b.Closed:
			return fmt.Errorf("binding is of vehicle %q with key %s, of which one is bound already", o.Vehicle, id)
		}
	}
	h.Bindings = append(h.Bindings, Binding{Vehicle: o.Vehicle, ECU: id, From: o.Head.Seq})
	return nil
}

// handover closes the open binding of a key, or revokes a key that was the account's once.
func (h *Holding) handover(e *ledger.Entry, opening []byte) error {
	b, err := e.Handover()
	if err != nil {
		return err
	}
	o, err := open[ledger.HandoverOpening](opening, b.Blind)
	if err != nil {
		return err
	}
	own, closes := false, false
	for i := range h.Bindings {
		b := &h.Bindings[i]
		if b.ECU != o.ECU {
			continue
		}
		own = true
		if !b.Closed {
			closes, b.Closed, b.Cut = true, true, o.Cut
		}
		b.Revoked = b.Revoked || o.Revoked
	}
	if !own || !closes && !o.Revoked {
		return fmt.Errorf("hand-over is of key %s, which is not bound to the account", o.ECU)
	}
	return nil
}

func (h *Holding) change(e *ledger.Entry, opening []byte, today uint32) error {
	var c account.Change
	if err := e.DecodeBody(ledger.TypeAccount, &c); err != nil {
		return err
	}
	o, err := open[account.ChangeOpening](opening, c.Blind)
	if err == nil {
		err = h.mine(o.Account)
	}
	if err != nil {
		return err
	}
	switch first, last := uint64(today-min(today, 1)), uint64(today)+maxAhead; {
	case o.Activated == h.Activated:
	case h.Activated != 0:
		return fmt.Errorf("account is activated on day %d, should stay so since day %d", o.Activated, h.Activated)
	case uint64(o.Activated) < first || uint64(o.Activated) > last:
		return fmt.Errorf("account is activated on day %d, should be from %d to %d", o.Activated, first, last)
	}
	if _, err := o.Key.Key(); err != nil {
		return err
	}
	h.Key, h.Activated = o.Key, o.Activated
	return nil
}

// dated checks that an entry was decided on the log's day or the one before.
func dated(day, today uint32) error {
	if day > today || today-day > 1 {
		return fmt.Errorf("it is of day %d, should be of day %d or the one before", day, today)
	}
	return nil
}

// inForce returns the offers in force on a day.
func (h *Holding) inForce(day uint32) (*cultivation.Offers, error) {
	o := cultivation.InForce(h.offers, day)
	if o == nil {
		return nil, fmt.Errorf("no offers are in force on day %d", day)
	}
	return o, nil
}

func (h *Holding) grant(e *ledger.Entry, opening []byte, today uint32) (g Gain, err error) {
	var b account.Grant
	if err := e.DecodeBody(ledger.TypeGrant, &b); err != nil {
		return g, err
	}
	o, err := open[account.GrantOpening](opening, b.Blind)
	if err == nil {
		err = cmp.Or(h.mine(o.Account), dated(b.Day, today))
	}
	if err != nil {
		return g, err
	}
	offers, err := h.inForce(b.Day)
	if err != nil {
		return g, err
	}
	task := offers.Task(o.Task)
	if task == nil {
		return g, fmt.Errorf("task %q is not in offers %d", o.Task, offers.Serial)
	}
	if b.Crystals != task.Crystals {
		return g, fmt.Errorf("grant is %d crystals, should be %d, which task %q gives", b.Crystals, task.Crystals, o.Task)
	}
	if h.Crystals, err = h.Crystals.Grant(b.Crystals); err != nil {
		return g, err
	}
	g.Granted = uint64(b.Crystals)
	return g, nil
}

// request reads the opening of a box or a redemption.
func (h *Holding) request(opening []byte, blind wire.Hash, day, today uint32) (account.RequestOpening, *cultivation.Offers, error) {
	o, err := open[account.RequestOpening](opening, blind)
	if err == nil {
		err = cmp.Or(h.mine(o.Account), dated(day, today))
	}
	if err != nil {
		return o, nil, err
	}
	offers, err := h.inForce(day)
	return o, offers, err
}

// once refuses a request that stands a second time.
func (h *Holding) once(serial uint16, id wire.Hash) error {
	key := append(binary.BigEndian.AppendUint16(nil, serial), id[:]...)
	for seen := range slices.Chunk(h.Requests, requestLen) {
		if bytes.Equal(seen, key) {
			return fmt.Errorf("request %s stands a second time", id)
		}
	}
	h.Requests = append(h.Requests, key...)
	return nil
}

func (h *Holding) box(e *ledger.Entry, opening []byte, today uint32) (g Gain, err error) {
	var b account.Box
	if err := e.DecodeBody(ledger.TypeBox, &b); err != nil {
		return g, err
	}
	o, offers, err := h.request(opening, b.Blind, b.Day, today)
	if err != nil {
		return g, err
	}
	r, id, err := account.OpenBoxRequest(h.Key, h.id, h.Account, o.Request)
	if err != nil {
		return g, err
	}
	if b.Offers != offers.Serial || r.Offers != b.Offers || r.Box != b.Box {
		return g, fmt.Errorf("box is %q of offers %d, should be %q of offers %d, as was asked on a day of offers %d", b.Box, b.Offers, r.Box, r.Offers, offers.Serial)
	}
	if b.Day > r.Until {
		return g, fmt.Errorf("box is of day %d, its request is good until day %d", b.Day, r.Until)
	}
	owner := slices.ContainsFunc(h.Bindings, func(b Binding) bool { return !b.Closed })
	if b.Owner != owner {
		return g, fmt.Errorf("box says that a car is bound to the account: %t, should say %t", b.Owner, owner)
	}
	box, err := h.offered(b.Offers, b.Box)
	if err == nil {
		err = h.once(offers.Serial, id)
	}
	if err != nil {
		return g, err
	}
	if h.Crystals, err = h.Crystals.Spend(box.Cost()); err != nil {
		return g, err
	}
	g.Spent = uint64(box.Cost())
	h.asked = append(h.asked, Box{Number: e.Number, Offers: b.Offers, Box: b.Box, Owner: b.Owner})
	return g, nil
}

func (h *Holding) redemption(e *ledger.Entry, opening []byte, today uint32) (g Gain, err error) {
	var b account.Redemption
	if err := e.DecodeBody(ledger.TypeRedemption, &b); err != nil {
		return g, err
	}
	o, offers, err := h.request(opening, b.Blind, b.Day, today)
	if err != nil {
		return g, err
	}
	r, id, err := account.OpenRedemptionRequest(h.Key, h.id, h.Account, o.Request)
	if err != nil {
		return g, err
	}
	item := offers.Item(r.Item)
	switch {
	case r.Offers != offers.Serial || item == nil:
		return g, fmt.Errorf("redemption is of item %q of offers %d, which is not in offers %d", r.Item, r.Offers, offers.Serial)
	case r.Milli != item.Milli || r.Fen != item.Fen || b.Milli != r.Milli:
		return g, fmt.Errorf("redemption takes %d milli-stones, was asked for %d with %d fen, should be %d with %d fen", b.Milli, r.Milli, r.Fen, item.Milli, item.Fen)
	case b.Day > r.Until:
		return g, fmt.Errorf("redemption is of day %d, its request is good until day %d", b.Day, r.Until)
	case !reward.Redeemable(h.Activated, b.Day):
		return g, fmt.Errorf("redemption is of day %d, the account was activated on day %d", b.Day, h.Activated)
	case b.Milli > h.Milli:
		return g, fmt.Errorf("redemption takes %d milli-stones of %d", b.Milli, h.Milli)
	}
	if err := h.once(offers.Serial, id); err != nil {
		return g, err
	}
	h.Milli -= b.Milli
	g.Redeemed = b.Milli
	return g, nil
}

// prune forgets the offers that are over on the day before a day, and the requests under them.
func (h *Holding) prune(day uint32) {
	if day == 0 || len(h.Closed)+len(h.asked) > 0 {
		return // a box still needs its offers
	}
	now := cultivation.InForce(h.offers, day-1)
	if now == nil || h.offers[0].Serial == now.Serial {
		return
	}
	for h.offers[0].Serial < now.Serial {
		h.offers, h.Offers = h.offers[1:], h.Offers[1:]
	}
	var kept []byte
	for r := range slices.Chunk(h.Requests, requestLen) {
		if binary.BigEndian.Uint16(r) >= now.Serial {
			kept = append(kept, r...)
		}
	}
	h.Requests = kept
}
