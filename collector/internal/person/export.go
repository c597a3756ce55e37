package person

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/history"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// hexed is written in hexadecimal.
type hexed []byte

// MarshalText returns hexadecimal digits.
func (b hexed) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// document is an export. Its comments are in the operator's manual; numbers are those of the ledger's entries, null while there is none, and days
// the program's.
type document struct {
	Account     string       `json:"account"`
	Secret      hexed        `json:"secret"`
	DrawnMilli  uint64       `json:"drawn_milli"`
	Crystals    uint64       `json:"crystals"`
	Vehicles    []vehicle    `json:"vehicles"`
	Bindings    []binding    `json:"bindings"`
	Handovers   []handover   `json:"handovers"`
	History     []event      `json:"history"`
	Leaves      []leaf       `json:"leaves"`
	Submissions []submission `json:"submissions"`
	Claims      []claim      `json:"claims"`
	Reports     []report     `json:"usage_reports"`
	Answers     []answer     `json:"answers"`
	NotHere     string       `json:"not_here"`
}

type (
	head struct {
		Seq        uint64 `json:"seq"`
		Day        uint32 `json:"day"`
		Commitment hexed  `json:"commitment"`
		Signature  hexed  `json:"signature"`
	}
	vehicle struct {
		ID                string `json:"id"`
		DeviceKey         hexed  `json:"device_key"`
		Model             string `json:"model,omitempty"`
		AddedDay          uint32 `json:"added_day"`
		LastSeenS         int64  `json:"last_seen_s"`
		CertificateUntilS int64  `json:"certificate_until_s"`
		Revoked           bool   `json:"revoked"`
		Waiting           bool   `json:"waits_for_enrolment"`
	}
	binding struct {
		Number  *int64 `json:"number"`
		Salt    hexed  `json:"salt"`
		Vehicle string `json:"vehicle"`
		ECUKey  hexed  `json:"ecu_key"`
		First   head   `json:"first"`
		Head    head   `json:"head"`
		Closed  bool   `json:"closed"`
		Cut     uint64 `json:"cut"`
		Revoked bool   `json:"key_revoked"`
	}
	handover struct {
		Number  *int64 `json:"number"`
		Salt    hexed  `json:"salt"`
		ECU     hexed  `json:"ecu"`
		Cut     uint64 `json:"cut"`
		Revoked bool   `json:"revoked"`
	}
	event struct {
		Kind      history.Kind `json:"kind"`
		Number    *int64       `json:"number"`
		Salt      hexed        `json:"salt"`
		Name      string       `json:"name,omitempty"`
		Day       uint32       `json:"day"`
		Key       hexed        `json:"key,omitempty"`
		Activated uint32       `json:"activated,omitempty"`
		Km        uint32       `json:"km,omitempty"`
		ECU       hexed        `json:"ecu,omitempty"`
		ToSeq     uint64       `json:"to_seq,omitempty"`
		Crystals  uint32       `json:"crystals,omitempty"`
		Cost      uint32       `json:"cost,omitempty"`
		Milli     uint64       `json:"milli,omitempty"`
		Fen       uint64       `json:"fen,omitempty"`
		Offers    uint16       `json:"offers,omitempty"`
		Opened    bool         `json:"opened,omitempty"`
		Drop      uint64       `json:"drop,omitempty"`
		Goods     string       `json:"goods,omitempty"`
		Reference hexed        `json:"reference,omitempty"`
		Request   hexed        `json:"request,omitempty"`
	}
	leaf struct {
		Day       uint32 `json:"day"`
		Pseudonym hexed  `json:"pseudonym"`
		Weight    uint64 `json:"weight_km"`
	}
	submission struct {
		ID       hexed  `json:"id"`
		Vehicle  string `json:"vehicle"`
		Kind     string `json:"kind"`
		Day      uint32 `json:"day"`
		Accepted bool   `json:"accepted"`
		Reason   string `json:"reason,omitempty"`
		Km       uint32 `json:"km"`
		Receipt  hexed  `json:"receipt"`
	}
	claim struct {
		ID   hexed `json:"id"`
		Body hexed `json:"body"`
	}
	report struct {
		Vehicle  string  `json:"vehicle"`
		Epoch    uint32  `json:"epoch"`
		Families uint32  `json:"families"`
		Values   []int64 `json:"noised_values"`
		Charter  hexed   `json:"charter"`
	}
	answer struct {
		Day  uint32 `json:"day"`
		Body string `json:"body"`
	}
)

const notHere = "Not in this file: the ledger's public entries, which the numbers name; messages that were given up, which go after 90 days (`collector dead-letter`); " +
	"copies that validators keep, earlier backups and what an auditor was given; and what is only in the car."

// Export writes everything that the records hold of an account's person, as one JSON document.
func Export(ctx context.Context, c Config, account string, w io.Writer) error {
	var d document
	err := c.Reader.View(ctx, func(tx *store.Tx) error {
		k, err := tx.Kept(ctx, account)
		if err != nil {
			return err
		}
		d = document{Account: account, Secret: k.Secret[:], DrawnMilli: k.Milli, Crystals: k.Crystals, NotHere: notHere,
			// What there is none of is an empty list.
			Vehicles: []vehicle{}, Bindings: []binding{}, Handovers: []handover{}, History: []event{}, Leaves: []leaf{}, Submissions: []submission{}, Claims: []claim{},
			Reports: []report{}, Answers: []answer{}}
		d.keep(&k)
		km, err := tx.Earned(ctx, account)
		if err != nil {
			return err
		}
		for _, l := range erasure.Leaves(k.Secret, km) {
			d.Leaves = append(d.Leaves, leaf{l.Day, l.Pseudonym[:], l.Weight})
		}
		return d.read(ctx, tx)
	})
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNoAccount
	}
	if err != nil {
		return fmt.Errorf("cannot export account %s: %w", account, err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(&d); err != nil {
		return fmt.Errorf("cannot export account %s: %w", account, err)
	}
	return nil
}

func number(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}

func headOf(h wire.Head, s wire.Signature) head { return head{h.Seq, h.Day, h.Commitment[:], s[:]} }

func (d *document) keep(k *erasure.Kept) {
	for _, v := range k.Vehicles {
		d.Vehicles = append(d.Vehicles, vehicle{v.ID, v.Device, v.Model, v.Added, v.Seen, v.Certified, v.Revoked, v.Waiting})
	}
	for _, b := range k.Bindings {
		d.Bindings = append(d.Bindings, binding{number(b.Number), b.Salt[:], b.Vehicle, b.ECU[:], headOf(b.First, b.FirstSignature), headOf(b.Head, b.HeadSignature), b.Closed, b.Cut, b.Revoked})
	}
	for _, h := range k.Handovers {
		d.Handovers = append(d.Handovers, handover{number(h.Number), h.Salt[:], h.ECU[:], h.Cut, h.Revoked})
	}
	for _, s := range k.Submissions {
		d.Submissions = append(d.Submissions, submission{s.ID[:], s.Vehicle, s.Kind, s.Day, s.Accepted, s.Reason, s.Km, s.Receipt})
	}
	for _, c := range k.Claims {
		d.Claims = append(d.Claims, claim{c.ID[:], c.Body})
	}
	for _, r := range k.Reports {
		values := (&wire.Report{Vector: r.Vector}).Values()
		d.Reports = append(d.Reports, report{r.Vehicle, r.Epoch, uint32(r.Families), values, r.Charter[:]})
	}
	for _, a := range k.Answers {
		d.Answers = append(d.Answers, answer{a.Day, strings.ToValidUTF8(string(a.Body), "")})
	}
}

// read reads the account's history, newest first.
func (d *document) read(ctx context.Context, tx *store.Tx) error {
	reader := tx.History()
	for before := int64(0); ; {
		events, err := reader.History(ctx, d.Account, before, history.MaxEvents)
		if err != nil {
			return err
		}
		for i := range events {
			e := &events[i]
			before = e.ID
			out := event{Kind: e.Kind, Number: number(e.Number), Salt: e.Salt[:], Name: e.Name, Day: e.Day, Activated: e.Activated, Km: e.Km, ECU: e.ECU, ToSeq: e.ToSeq,
				Crystals: e.Crystals, Cost: e.Cost, Milli: e.Milli, Fen: e.Fen, Offers: e.Offers, Opened: e.Opened, Drop: e.Drop, Goods: e.Goods, Reference: e.Reference, Request: e.Request}
			if e.Kind == history.KindChange {
				out.Key = e.Key[:]
			}
			d.History = append(d.History, out)
		}
		if len(events) < history.MaxEvents {
			return nil
		}
	}
}
