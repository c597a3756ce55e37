package usage

import (
	"context"
	"fmt"
	"math"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxEarlier bounds the charters that are looked back for.
const maxEarlier = 16

// Earlier is a charter that was in force before this one. Reports of dispatches up to a program day may still come under it.
type Earlier struct {
	Charter *terms.Charter
	ID      wire.Hash
	// Until is the last epoch: the day after the one on which the next charter was logged, as cars hear of it when they next connect.
	Until uint32
}

// A Log is the ledger as the records have it; see package outbox.
type Log interface {
	LastEntries(ctx context.Context, t ledger.Type, limit int) ([]ledger.Entry, error)
	EntriesAfter(ctx context.Context, t ledger.Type, after uint64, limit int) ([]ledger.Entry, error)
}

// ReadEarlier returns the charters in the log that came before the one in force, the newest first. Where that one is not logged yet, it is from
// today on. It refuses a log with a charter that the program's board did not sign.
func ReadEarlier(ctx context.Context, log Log, d *terms.Documents, clock terms.Clock) (out []Earlier, err error) {
	list, err := log.LastEntries(ctx, ledger.TypeCharter, maxEarlier)
	if err != nil {
		return nil, err
	}
	for i, e := range list {
		c, id, err := terms.OpenCharter(d.Program, d.ProgramID, e.Body)
		if err != nil {
			return nil, fmt.Errorf("cannot read charters: entry %d of the log: %w", e.Number, err)
		}
		if c.Serial >= d.Charter.Serial {
			continue
		}
		day := clock.Today()
		if i > 0 {
			if day, err = logged(ctx, log, list[i-1], clock); err != nil {
				return nil, err
			}
		}
		out = append(out, Earlier{Charter: c, ID: id, Until: min(day, math.MaxUint32-1) + 1})
	}
	return out, nil
}

// logged returns the program day of the block that an entry came before, or today where there is none yet.
func logged(ctx context.Context, log Log, e ledger.Entry, clock terms.Clock) (uint32, error) {
	next, err := log.EntriesAfter(ctx, ledger.TypeBlock, e.Number, 1)
	if err != nil || len(next) == 0 {
		return clock.Today(), err
	}
	sealed, err := next[0].Sealed()
	if err != nil {
		return 0, err
	}
	b, err := ledger.DecodeBlock(sealed.Payload)
	if err != nil {
		return 0, err
	}
	return b.Day, nil
}
