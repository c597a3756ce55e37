// Package view is what the accounts' API shows, as JSON: an account, its history, openings and redemptions, and the parts of the offers. Numbers
// that may exceed 2^53 are text.
//
// It reads nothing and decides nothing. The names of the fields are those of the API's document.
package view

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/history"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

type (
	// A Profile is what an account is and has.
	Profile struct {
		Account string `json:"account"`
		Program string `json:"program"`
		// Today is the log's day.
		Today     uint32 `json:"today"`
		Owner     bool   `json:"owner"`
		Key       *Key   `json:"key,omitempty"`
		Activated uint32 `json:"activated,omitempty"`
		// RedeemableFrom is a program day.
		RedeemableFrom uint32 `json:"redeemable_from,omitempty"`
		Milli          uint64 `json:"milli"`
		Crystals       uint64 `json:"crystals"`
		Goods          []Good `json:"goods"`
	}
	// A Key signs an owner's requests.
	Key struct {
		ID     string `json:"id"`
		Public string `json:"public"`
	}
	// A Good is an item that a box gave.
	Good struct {
		Item    string `json:"item"`
		Opening int64  `json:"opening"`
	}
)

type (
	// A Grant is what a task gave.
	Grant struct {
		ID        int64  `json:"id"`
		Account   string `json:"account"`
		Task      string `json:"task"`
		Reference string `json:"reference"`
		Crystals  uint32 `json:"crystals"`
		Day       uint32 `json:"day"`
	}
	// An Opening is an owner's request for a mine box, and what it held.
	Opening struct {
		ID int64 `json:"id"`
		// State is pending until the second block after the entry opens the box, then opened.
		State string `json:"state"`
		Entry *int64 `json:"entry,omitempty"`
		Day   uint32 `json:"day"`
		// Offers is the serial of those that the box is of.
		Offers uint16  `json:"offers"`
		Box    string  `json:"box"`
		Cost   uint32  `json:"cost"`
		Drop   *uint64 `json:"drop,omitempty"`
		Prize  *Prize  `json:"prize,omitempty"`
		Block  *Block  `json:"block,omitempty"`
	}
	// A block is the one that opened a box, as far as the result follows from it.
	Block struct {
		Entry uint64 `json:"entry"`
		Seed  string `json:"seed"`
	}
	// A Redemption is stones used for an item.
	Redemption struct {
		ID     int64  `json:"id"`
		Entry  *int64 `json:"entry,omitempty"`
		Day    uint32 `json:"day"`
		Offers uint16 `json:"offers"`
		Item   string `json:"item"`
		Milli  uint64 `json:"milli"`
		Fen    uint64 `json:"fen"`
	}
)

// NewProfile shows an account of a program on the log's day, with the openings that gave goods.
func NewProfile(program wire.Hash, today uint32, p estate.Profile, won []history.Event) Profile {
	out := Profile{
		Account: p.Account, Program: program.String(), Today: today, Owner: p.Owner, Activated: p.Activated,
		Milli: p.Milli, Crystals: p.Crystals, Goods: make([]Good, 0, len(won)),
	}
	if p.Activated > 0 {
		out.RedeemableFrom = p.Activated + reward.RedeemAfterDays
	}
	if p.Key != (wire.PublicKey{}) {
		key := newKey(p.Key)
		out.Key = &key
	}
	for _, e := range won {
		out.Goods = append(out.Goods, Good{e.Goods, e.ID})
	}
	return out
}

func newKey(k wire.PublicKey) Key {
	id := k.ID()
	return Key{id.String(), base64.StdEncoding.EncodeToString(k[:])}
}

// NewOpening shows a box.
func NewOpening(e *history.Event) Opening {
	o := Opening{ID: e.ID, State: "pending", Entry: numbered(e), Day: e.Day, Offers: e.Offers, Box: e.Name, Cost: e.Cost}
	if e.Opened {
		p := newPrize(cultivation.Prize{Milli: e.Milli, Crystals: e.Crystals, Goods: e.Goods})
		o.State, o.Drop, o.Prize = "opened", &e.Drop, &p
	}
	return o
}

// NewRedemption shows a redemption.
func NewRedemption(e *history.Event) Redemption {
	return Redemption{e.ID, numbered(e), e.Day, e.Offers, e.Name, e.Milli, e.Fen}
}

// What the events of a history have in common, and what each kind has beside.
type (
	event struct {
		Type  string `json:"type"`
		ID    int64  `json:"id"`
		Entry *int64 `json:"entry,omitempty"`
		Day   uint32 `json:"day"`
		// Salt opens the entry's blind.
		Salt string `json:"salt"`
	}
	changeEvent struct {
		event
		Key       Key    `json:"key"`
		Activated uint32 `json:"activated,omitempty"`
	}
	creditEvent struct {
		event
		Kind string `json:"kind"`
		Km   uint32 `json:"km"`
		ECU  string `json:"ecu"`
		// ToSeq has 64 bits, which JSON's numbers have not.
		ToSeq string `json:"to_seq"`
	}
	grantEvent struct {
		event
		Task      string `json:"task"`
		Crystals  uint32 `json:"crystals"`
		Reference string `json:"reference"`
	}
	boxEvent struct {
		event
		Opening Opening `json:"opening"`
	}
	redemptionEvent struct {
		event
		Redemption Redemption `json:"redemption"`
	}
)

// NewEvent shows an event as its kind has it.
func NewEvent(e *history.Event) (any, error) {
	head := event{string(e.Kind), e.ID, numbered(e), e.Day, hex.EncodeToString(e.Salt[:])}
	switch e.Kind {
	case history.KindChange:
		return changeEvent{head, newKey(e.Key), e.Activated}, nil
	case history.KindCredit:
		return creditEvent{head, e.Name, e.Km, hex.EncodeToString(e.ECU), strconv.FormatUint(e.ToSeq, 10)}, nil
	case history.KindGrant:
		return grantEvent{head, e.Name, e.Crystals, hex.EncodeToString(e.Reference)}, nil
	case history.KindBox:
		return boxEvent{head, NewOpening(e)}, nil
	case history.KindRedemption:
		return redemptionEvent{head, NewRedemption(e)}, nil
	}
	return nil, fmt.Errorf("cannot show an event of kind %q", e.Kind)
}

// numbered returns the number of an event's entry in the log, nil while it has none.
func numbered(e *history.Event) *int64 {
	if e.Number < 0 {
		return nil
	}
	return &e.Number
}
