package statement

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"rawstone/pkg/reward"
	"rawstone/pkg/statement/internal/holding"
	"rawstone/pkg/wire"
)

// A Report says what a verified statement shows.
type Report struct {
	Account string    `json:"account"`
	Program wire.Hash `json:"-"` // spelled by MarshalJSON, as LogRoot is
	// From and To are the first drop and the last, and To is the one before From when nothing is new; Blocks counts the blocks whose proofs, seeds and arithmetic were checked, and Entries the
	// entries whose inclusion was.
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	Blocks  uint64 `json:"blocks"`
	Entries uint64 `json:"entries"`
	// Size and LogRoot are the newest checkpoint: that of the block To. LogKey is the key that signs the log's own.
	Size    uint64    `json:"size"`
	LogRoot wire.Hash `json:"-"`
	LogKey  string    `json:"log_key"`
	Days    []Row     `json:"days"`
	// Milli are the account's stones, in milli-stones, after the last block.
	Milli    uint64  `json:"milli"`
	Crystals uint64  `json:"crystals"`
	Goods    []Goods `json:"goods"`
	// Cars are the vehicles that are bound to the account.
	Cars []string `json:"cars"`
}

// MarshalJSON spells hashes in hexadecimal, and lists that are empty as such.
func (p Report) MarshalJSON() ([]byte, error) {
	type fields Report
	p.Days, p.Goods, p.Cars = append([]Row{}, p.Days...), append([]Goods{}, p.Goods...), append([]string{}, p.Cars...)
	return json.Marshal(struct {
		fields
		Program string `json:"program"`
		LogRoot string `json:"log_root"`
	}{fields(p), p.Program.String(), p.LogRoot.String()})
}

// Goods are how many of an item boxes have given.
type Goods struct {
	Item  string `json:"item"`
	Count uint64 `json:"count"`
}

// A Row is one program day, as far as the statement covers it.
type Row struct {
	Day uint32 `json:"day"`
	// Km were credited on the day. Weight are those that count on it, and Total the whole fleet's, in kilometres.
	Km     uint64 `json:"km"`
	Weight uint64 `json:"weight_km"`
	Total  uint64 `json:"total_km"`
	// Drops counts blocks and Units what they drew for the account. Drawn, Won by boxes and Redeemed are in milli-stones.
	Drops    uint64 `json:"drops"`
	Units    uint64 `json:"units"`
	Drawn    uint64 `json:"drawn_milli"`
	Won      uint64 `json:"won_milli"`
	Redeemed uint64 `json:"redeemed_milli"`
	// Granted crystals, Spent ones for boxes, and those that came Back from them.
	Granted uint64 `json:"granted"`
	Spent   uint64 `json:"spent"`
	Back    uint64 `json:"back"`
}

// add adds to a day's row and returns it; days ascend.
func (p *Report) add(day uint32, g holding.Gain) *Row {
	if n := len(p.Days); n == 0 || p.Days[n-1].Day != day {
		p.Days = append(p.Days, Row{Day: day})
	}
	r := &p.Days[len(p.Days)-1]
	r.Km, r.Units, r.Drawn, r.Won, r.Redeemed = r.Km+g.Km, r.Units+g.Units, r.Drawn+g.Drawn, r.Won+g.Won, r.Redeemed+g.Redeemed
	r.Granted, r.Spent, r.Back = r.Granted+g.Granted, r.Spent+g.Spent, r.Back+g.Back
	return r
}

func stones(milli uint64) string {
	return fmt.Sprintf("%d.%03d", milli/reward.Milli, milli%reward.Milli)
}

// share spells a part in millionths of the whole, rounded down, as per cent.
func share(part, whole uint64) string {
	if whole == 0 {
		return "-"
	}
	const all = 1_000_000
	ppm := part * all / whole // a weight is below 2^44 km
	return fmt.Sprintf("%d.%04d %%", ppm/(all/100), ppm%(all/100))
}

// Write writes the report as text with a line for each day.
func (p *Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if len(p.Days) > 0 {
		fmt.Fprintln(t, "day\tkm\tweight\tfleet\tshare\tdrops\tdrawn\tboxes\tredeemed\tcrystals\t")
	}
	for _, r := range p.Days {
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%s\t%d\t%s\t%s\t%s\t%+d\t\n", r.Day, r.Km, r.Weight, r.Total, share(r.Weight, r.Total), r.Drops, stones(r.Drawn), stones(r.Won),
			stones(r.Redeemed), int64(r.Granted+r.Back)-int64(r.Spent))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("cannot write report: %w", err)
	}
	var b strings.Builder
	if p.From > p.To {
		fmt.Fprintf(&b, "statement is right: account %s, nothing new since drop %d", p.Account, p.To)
	} else {
		fmt.Fprintf(&b, "statement is right: account %s, drops %d to %d, %d entries included, %d seeds", p.Account, p.From, p.To, p.Entries, p.Blocks)
	}
	fmt.Fprintf(&b, "; balance %s stones, %d crystals", stones(p.Milli), p.Crystals)
	for _, g := range p.Goods {
		fmt.Fprintf(&b, ", %d of %s", g.Count, g.Item)
	}
	if _, err := fmt.Fprintln(w, b.String()); err != nil {
		return fmt.Errorf("cannot write report: %w", err)
	}
	return nil
}
