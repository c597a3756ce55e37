package statement

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/history"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// opened is the opening of an account's entry.
type opened struct {
	number  uint64
	opening any // a pointer to what the entry's blind hashes
}

// own returns the openings of an account's entries that are numbered below a number, in their order.
func own(ctx context.Context, tx *store.Tx, account string, below uint64) (own []opened, err error) {
	all, err := tx.OpeningsOf(ctx, account)
	if err != nil {
		return nil, err
	}
	add := func(whose string, number uint64, opening any) {
		if whose == account && number < below {
			own = append(own, opened{number, opening})
		}
	}
	for i := range all.Credits {
		add(all.Credits[i].Opening.Account, all.Credits[i].Number, &all.Credits[i].Opening)
	}
	for i := range all.Changes {
		add(all.Changes[i].Opening.Account, all.Changes[i].Number, &all.Changes[i].Opening)
	}
	for i := range all.Grants {
		add(all.Grants[i].Opening.Account, all.Grants[i].Number, &all.Grants[i].Opening)
	}
	for i := range all.Requests {
		add(all.Requests[i].Opening.Account, all.Requests[i].Number, &all.Requests[i].Opening)
	}
	// A hand-over is of whom its key is bound to; one that revokes, also of those to whom it was.
	type key struct {
		now  string
		ours bool
	}
	keys := make(map[wire.KeyID]key)
	bindings := all.Bindings
	bind := func(below uint64) {
		for ; len(bindings) > 0 && bindings[0].Number < below; bindings = bindings[1:] {
			b := &bindings[0]
			id := b.Opening.ECU.ID()
			keys[id] = key{b.Opening.Account, keys[id].ours || b.Opening.Account == account}
			add(b.Opening.Account, b.Number, &b.Opening)
		}
	}
	for i := range all.Handovers {
		h := &all.Handovers[i]
		bind(h.Number)
		if k := keys[h.Opening.ECU]; k.now == account || k.ours && h.Opening.Revoked {
			add(account, h.Number, &h.Opening)
		}
	}
	bind(math.MaxUint64)
	slices.SortFunc(own, func(a, b opened) int { return cmp.Compare(a.number, b.number) })
	return own, nil
}

// everything is more than there are documents of any type.
const everything = 1 << 20

// readEntries reads the documents and offers that the owner lacks, and the account's own entries.
func (s *draft) readEntries(ctx context.Context, tx *store.Tx, own []opened) error {
	known := uint64(0) // the owner has what is numbered below
	for _, b := range s.blocks {
		if !s.whole && b.Drop+1 == s.from {
			known = b.Size + 1
		}
	}
	for _, t := range []ledger.Type{ledger.TypeCharter, ledger.TypePolicy, ledger.TypeWitness, ledger.TypeOffers} {
		list, err := tx.LastEntries(ctx, t, everything)
		if err != nil {
			return err
		}
		slices.Reverse(list)
		if t == ledger.TypeOffers && s.whole && s.from > 0 {
			if list, err = s.needed(list); err != nil {
				return err
			}
		}
		for _, e := range list {
			if e.Number >= known && e.Number < s.tip.Size {
				s.entries = append(s.entries, item{Entry: e})
			}
		}
	}
	for _, o := range own {
		if o.number < known {
			continue
		}
		list, err := tx.Entries(ctx, o.number, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 || list[0].Number != o.number {
			return fmt.Errorf("entry %d is not in the records", o.number)
		}
		s.entries = append(s.entries, item{list[0], o.opening})
	}
	slices.SortFunc(s.entries, func(a, b item) int { return cmp.Compare(a.Number, b.Number) })
	return nil
}

// needed drops the offers that nothing in the statement can name: those that were over before the day of the block that it is based on.
func (s *draft) needed(list []ledger.Entry) ([]ledger.Entry, error) {
	offers := make([]*cultivation.Offers, len(list))
	for i, e := range list {
		var err error
		if offers[i], err = cultivation.OpenOffers(s.program.Policy, s.id, e.Body); err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Number, err)
		}
	}
	day := s.blocks[0].Day
	first := cultivation.InForce(offers, day-min(day, 1))
	for len(list) > 0 && first != nil && offers[0].Serial < first.Serial {
		list, offers = list[1:], offers[1:]
	}
	return list, nil
}

// totals reads what the account's boxes have given and its redemptions have taken by the entries before the newest block.
func (s *draft) totals(ctx context.Context, tx *store.Tx) error {
	reader := tx.Estate(estate.Rules{Program: s.program, ID: s.id})
	for before := int64(0); ; {
		events, err := reader.History(ctx, s.account, before, history.MaxEvents)
		if err != nil {
			return err
		}
		for _, e := range events {
			if before = e.ID; e.Number >= 0 && uint64(e.Number) < s.tip.Size {
				s.count(e)
			}
		}
		if len(events) < history.MaxEvents {
			return nil
		}
	}
}

func (s *draft) count(e history.Event) {
	switch e.Kind {
	case history.KindGrant:
		s.crystals += uint64(e.Crystals)
	case history.KindBox:
		s.crystals -= uint64(e.Cost) // granted before, so that the sum of all is not below zero
		if e.Opened && e.Drop <= s.tip.Drop {
			s.crystals += uint64(e.Crystals)
			s.milli += e.Milli
		}
	case history.KindRedemption:
		s.milli -= e.Milli
	}
}
