package audit

import (
	"context"
	"fmt"

	"rawstone/pkg/audit/internal/accounts"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// ErrNoOpening says that openings lack what an entry hides.
var ErrNoOpening = accounts.ErrNoOpening

// A Report says what a replay checked.
type Report struct {
	// Entries, Policies, Credits and Blocks count entries; Seeds counts the seeds whose VRF proofs were checked.
	Entries  uint64 `json:"entries"`
	Policies uint64 `json:"policies"`
	Credits  uint64 `json:"credits"`
	Blocks   uint64 `json:"blocks"`
	Seeds    uint64 `json:"seeds"`
	// Supply is what mileage has mined, and Scheduled the emission at the height reached, both in milli-stones. They differ by the carry.
	Supply    uint64 `json:"supply_milli"`
	Scheduled uint64 `json:"scheduled_milli"`
	// Offers, Changes, Grants and Redemptions count entries, and Boxes the mine boxes that blocks have opened. Cultivated is what these held,
	// and Redeemed what was used, both in milli-stones.
	Offers      uint64 `json:"offers"`
	Changes     uint64 `json:"changes"`
	Grants      uint64 `json:"grants"`
	Redemptions uint64 `json:"redemptions"`
	Boxes       uint64 `json:"boxes"`
	Cultivated  uint64 `json:"cultivated_milli"`
	Redeemed    uint64 `json:"redeemed_milli"`
	// Opened says that openings were given; Weights counts the leaves and Draws the blocks that were checked with them.
	Opened  bool   `json:"opened"`
	Weights uint64 `json:"weights"`
	Draws   uint64 `json:"draws"`
	// Balances holds the stones of every account that has any, drawn and won less redeemed, in milli-stones, and Crystals the same of
	// crystals; with openings only.
	Balances map[string]uint64 `json:"balances_milli,omitempty"`
	Crystals map[string]uint64 `json:"crystals,omitempty"`
	// Erased counts the entries whose openings were destroyed at a person's request, and ErasedMilli is what their accounts have in
	// milli-stones, which nobody can claim; with openings only.
	Erased      uint64 `json:"erased,omitempty"`
	ErasedMilli uint64 `json:"erased_milli,omitempty"`
}

// String is the report in one line.
func (r Report) String() string {
	s := fmt.Sprintf("ledger is right: %d entries, %d credits, %d blocks, %s stones issued of %s scheduled, %d seeds; %d boxes opened, %s stones cultivated, %s redeemed",
		r.Entries, r.Credits, r.Blocks, stones(r.Supply), stones(r.Scheduled), r.Seeds, r.Boxes, stones(r.Cultivated), stones(r.Redeemed))
	if r.Opened {
		s += fmt.Sprintf("; with openings %d weights and %d draws", r.Weights, r.Draws)
		if r.Erased > 0 {
			s += fmt.Sprintf("; %d entries were erased, and the %s stones of their accounts are nobody's", r.Erased, stones(r.ErasedMilli))
		}
		return s
	}
	return s + "; weights and draws not checked without openings"
}

func stones(milli uint64) string {
	return fmt.Sprintf("%d.%03d", milli/reward.Milli, milli%reward.Milli)
}

// Report returns what was checked so far.
func (r *Replay) Report() Report {
	p := r.report
	p.Supply, p.Scheduled = r.supply, reward.Emission(r.height)
	p.Policies, p.Offers, p.Changes = uint64(r.documents.Policies()), uint64(len(r.documents.Offers())), uint64(len(r.documents.Changes()))
	p.Boxes, p.Cultivated, p.Redeemed = r.treasury.Boxes(), r.treasury.Pool().Issued(), r.treasury.Redeemed()
	if r.opened != nil {
		p.Balances, p.Crystals = r.opened.Balances(), r.opened.Crystals()
		p.Erased, p.ErasedMilli = r.opened.Erased()
	}
	return p
}

// Config configures an audit.
type Config struct {
	// Dir is the log's directory.
	Dir string
	// Root is the pinned public key of the program root.
	Root wire.PublicKey
	// Openings may be nil: then only what a stranger can check is checked.
	Openings Opener
}

// Audit replays a log directory from nothing: the tree under its signed checkpoint, and every entry. The report says how far it came
// also when there is an error.
func Audit(ctx context.Context, c Config) (Report, error) {
	r, err := NewReplay(c.Root, c.Openings)
	if err != nil {
		return Report{}, err
	}
	err = Read(ctx, c.Dir, c.Root, func(e *ledger.Entry) error { return r.Apply(e) })
	return r.Report(), err
}

// Read reads a log directory: ReadFrom.
func Read(ctx context.Context, dir string, root wire.PublicKey, fn func(*ledger.Entry) error) error {
	return ReadFrom(ctx, tlog.Dir(dir), root, fn)
}

// ReadFrom opens a log under the key that its own program document names, which root must have signed, and calls fn with each entry.
// Everything is checked that tlog.Reader checks, but nothing that Replay.Apply does; the log is as fn saw it only when ReadFrom returns nil.
func ReadFrom(ctx context.Context, source tlog.Source, root wire.PublicKey, fn func(*ledger.Entry) error) error {
	b, err := tlog.FirstOf(ctx, source)
	if err != nil {
		return err
	}
	first, err := ledger.DecodeEntry(b)
	if err != nil {
		return fmt.Errorf("cannot read entry 0 of log %s: %w", source, err)
	}
	program, _, err := terms.OpenProgram(root, first.Body)
	if err != nil {
		return fmt.Errorf("cannot accept entry 0: %w", err)
	}
	reader, err := tlog.NewReader(ctx, source, program.LogKey)
	if err != nil {
		return err
	}
	number := uint64(0)
	for b, err := range reader.Entries(ctx) {
		if err != nil {
			return err
		}
		e, err := ledger.DecodeEntry(b)
		if err != nil {
			return fmt.Errorf("cannot read entry %d: %w", number, err)
		}
		if err := fn(e); err != nil {
			return err
		}
		number++
	}
	return nil
}
