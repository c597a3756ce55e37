// Package announce renders the yearly publication of a program: what stones it may give in a year, by which rules and parameters, and with
// what odds. It takes everything from the ledger: the signed program, charter, policies, offers and changes of validators, and how far the
// blocks have come. There is no configuration that it could read, so whoever holds the same entries gets the same bytes.
//
// It checks the log's tree under its signed checkpoint, each document's signature, order and notice, and the cosignatures of the block that its state is from. That
// every entry before follows from the rules is not its question: package audit replays them.
//
// The package reads no clock. Years and months are those of the program's offset from UTC, and a program day belongs to the year in which
// it begins.
package announce

import (
	"context"
	"fmt"

	"rawstone/collector/internal/announce/internal/record"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Format names the schema of an Announcement's JSON form; any change that a reader could notice changes it.
const Format = "rawstone/announcement/v1"

// Config says what to announce.
type Config struct {
	// Log is where the ledger is.
	Log tlog.Source
	// Root is the pinned public key of the program root.
	Root wire.PublicKey
	// Year is a year of the Gregorian calendar, 1970 to 9999.
	Year int
}

// Make reads the ledger and returns the announcement of the year.
func Make(ctx context.Context, c Config) (*Announcement, error) {
	b, err := tlog.FirstOf(ctx, c.Log)
	if err != nil {
		return nil, err
	}
	first, err := ledger.DecodeEntry(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read the first entry of log %s: %w", c.Log, err)
	}
	// Only for the key of the checkpoints: the record opens it again when it is proven to be the log's.
	program, _, err := terms.OpenProgram(c.Root, first.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot accept the first entry of log %s: %w", c.Log, err)
	}
	reader, err := tlog.NewReader(ctx, c.Log, program.LogKey)
	if err != nil {
		return nil, err
	}
	r := record.New(c.Root, c.Year)
	number := uint64(0)
	for b, err := range reader.Entries(ctx) {
		if err != nil {
			return nil, err
		}
		e, err := ledger.DecodeEntry(b)
		if err != nil {
			return nil, fmt.Errorf("cannot read entry %d: %w", number, err)
		}
		if err := r.Take(e); err != nil {
			return nil, err
		}
		number++
	}
	if err := r.Finish(); err != nil {
		return nil, err
	}
	return announce(r, c.Year, reader.Checkpoint()), nil
}
