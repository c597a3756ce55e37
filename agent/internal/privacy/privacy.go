// Package privacy is the driver's account of what usage reports have cost: it opens the ledger of package budget for the car, says how it
// stands, and prints what was spent, on what, and what is left.
//
// Invariants: a ledger that does not open or does not add up leaves the car without usage reports and never without claims; it stays as it
// is, evidence included, because setting it aside or beginning anew would give spent privacy back. The statement is made from the ledger;
// what each release told is the journal's, which a reset wipes and the ledger outlives.
//
// The package charges nothing and refuses nothing: package budget does.
package privacy

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/budget/erasure"
	"rawstone/agent/internal/device"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/report"
	"rawstone/pkg/terms"
)

// A State says in one word how the ledger stands.
type State string

// The states. In all but StateSound there are no usage reports.
const (
	StateSound      State = "sound"
	StateCorrupt    State = "corrupt"     // it does not add up
	StateRolledBack State = "rolled_back" // it is an older copy
	StateShut       State = "shut"        // it does not open, or a write failed
)

// Config says where the ledger is. Fields without a default are required.
type Config struct {
	// Dir is its store's directory, Anchor its anchor file; neither is ever removed.
	Dir, Anchor string
	// Counter is the place of its counter in a TPM (device.CheckCounter), empty for none.
	Counter string
	// Usage is the charter's mechanism and yearly number of reports.
	Usage  *terms.Usage
	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// A Purse is the year's privacy budget.
type Purse struct {
	usage  *terms.Usage
	cost   budget.Cost
	ledger *budget.Ledger // nil where it did not open
	db     *flash.Guarded
	state  State // where there is no ledger
}

// Open opens the ledger. One that does not open is told by State, and logged; the error is a charter that cannot be accounted for.
func Open(cfg Config) (*Purse, error) {
	if cfg.Dir == "" || cfg.Anchor == "" || cfg.Usage == nil || cfg.Logger == nil {
		return nil, errors.New("cannot open privacy budget: no directory, anchor, charter or logger given")
	}
	p := &Purse{usage: cfg.Usage, cost: report.Cost(cfg.Usage)}
	limit, err := budget.YearLimit(p.cost, int64(cfg.Usage.YearlyDispatches))
	if err != nil {
		return nil, err
	}
	if err := p.open(cfg, limit); err != nil {
		p.state = StateShut
		if errors.Is(err, budget.ErrCorrupt) {
			p.state = StateCorrupt
		}
		cfg.Logger.Error("usage reports are off", "reason", p.Problem(), "error", err)
	}
	return p, nil
}

func (p *Purse) open(cfg Config, limit int64) error {
	c := budget.Config{Anchor: cfg.Anchor, Limit: limit, Registerer: cfg.Registerer}
	if cfg.Counter != "" {
		counter, err := device.OpenCounter(cfg.Counter)
		if err != nil {
			return err
		}
		c.Counter = counter
	}
	// Badger on a full file system would end the process, and the agent with it.
	db, err := flash.OpenGuarded(flash.StoreConfig{Dir: cfg.Dir, Logger: cfg.Logger})
	if err != nil {
		return err
	}
	c.DB, c.Room = db, db.Room
	ledger, err := budget.New(c)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	p.ledger, p.db = ledger, db
	return nil
}

// Erase takes the sealed reports out of a ledger's store, for a new owner: what was spent stays. The ledger must not be open; one that does
// not add up is no hindrance. Where there is no store none is made.
func Erase(dir string, log *slog.Logger) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := flash.OpenGuarded(flash.StoreConfig{Dir: dir, Logger: log})
	if err != nil {
		return fmt.Errorf("cannot erase sealed reports: %w", err)
	}
	err = errors.Join(erasure.Reports(db.DB), db.Close())
	if gone := os.Remove(dir + flash.BallastSuffix); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// Ledger returns the ledger, nil where it did not open.
func (p *Purse) Ledger() *budget.Ledger { return p.ledger }

// State says how the ledger stands now.
func (p *Purse) State() State {
	if p.ledger == nil {
		return p.state
	}
	switch err := p.ledger.Err(); {
	case errors.Is(err, budget.ErrRolledBack):
		return StateRolledBack
	case err != nil:
		return StateShut
	}
	return StateSound
}

// Problem says what is wrong with the ledger and what the driver can do, empty where nothing is.
func (p *Purse) Problem() string {
	switch p.State() {
	case StateCorrupt:
		return "the privacy budget ledger is corrupt, and what was spent is unknown; claims go on; for reports have the vehicle enrolled anew"
	case StateRolledBack:
		return "the privacy budget ledger is an older copy than was seen before, and what was spent is unknown; claims go on; for reports have the vehicle enrolled anew"
	case StateShut:
		return "the privacy budget ledger does not open; claims go on; restart the agent, and have the vehicle enrolled anew if that does not help"
	}
	return ""
}

// Day returns the program day that the year is counted to: the later of the day of the ECU's newest snapshot, 0 for none, and that of the last
// charge. host, the day by the host's clock, which may be years off, counts where there is neither.
func (p *Purse) Day(ecu, host uint32) uint32 {
	last := uint64(ecu)
	if p.ledger != nil {
		last = max(last, p.ledger.Summary(0).LastEpoch)
	}
	if last == 0 {
		return host
	}
	return uint32(min(last, math.MaxUint32))
}

// Left returns the part of the limit that is left in the window that ends with a program day, 0 to 1000 thousandths.
func (p *Purse) Left(day uint32) int {
	if p.State() != StateSound {
		return 0
	}
	b := p.ledger.Summary(uint64(day))
	return int(1000 * b.Left / b.Limit)
}

// Close closes the ledger and its store.
func (p *Purse) Close() error {
	if p.ledger == nil {
		return nil
	}
	if err := errors.Join(p.ledger.Close(), p.db.Close()); err != nil {
		return fmt.Errorf("cannot close privacy budget: %w", err)
	}
	return nil
}
