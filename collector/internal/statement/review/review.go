// Package review has an owner check their account's statement from files alone: the statement, the pinned program root, what was kept of the
// statement before, and on request the log, in a directory or on a server.
//
// With the log it also checks that the statement's newest checkpoint is one of its past (RFC 6962 §2.1.2), so that the owner is shown the log
// that everybody is shown. What is kept is replaced only once all is right. The package asks no collector and reads nobody else's data.
package review

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"

	"rawstone/pkg/durable"
	"rawstone/pkg/statement"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
	"rawstone/pkg/wire"
)

// Config says what to check.
type Config struct {
	// Account is whose the statement must be, Statement its file, Root that of the pinned program root.
	Account, Statement, Root string
	// State is the file of what was verified before; when there is none the statement must be a whole one. It is written anew, readable by its
	// owner alone, for it holds the account's secret. Empty keeps nothing.
	State string
	// Ledger is the log's directory or URL; empty leaves it out.
	Ledger string
}

// Check verifies a statement.
func Check(ctx context.Context, c Config) (*statement.Report, error) {
	root, err := terms.LoadRoot(c.Root)
	if err != nil {
		return nil, err
	}
	before, err := Load(c.State)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(c.Statement)
	if err != nil {
		return nil, fmt.Errorf("cannot read statement: %w", err)
	}
	defer f.Close()
	report, after, err := statement.Verify(f, statement.Config{Root: root, Account: c.Account, State: before})
	if err != nil {
		return nil, err
	}
	if c.Ledger != "" {
		if err := consistent(ctx, c.Ledger, report); err != nil {
			return nil, err
		}
	}
	if c.State == "" {
		return report, nil
	}
	return report, save(c.State, after)
}

// Load reads a state; without a file, or a name, it is nil.
func Load(path string) (*statement.State, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot read state: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, statement.MaxStateLen+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read state: %w", err)
	}
	s, err := statement.DecodeState(b)
	if err != nil {
		return nil, fmt.Errorf("%w; give the file that `collector audit owner --state` wrote, not %s; or go without it and check a whole statement", err, path)
	}
	return s, nil
}

// save replaces the file, or leaves it as it was.
func save(path string, s *statement.State) (err error) {
	b, err := s.Encode()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".state-*")
	if err != nil {
		return fmt.Errorf("cannot keep state: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cannot keep state: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// consistent checks that the statement's newest checkpoint is one of the log's past.
func consistent(ctx context.Context, location string, r *statement.Report) error {
	var source tlog.Source = tlog.Dir(location)
	if strings.Contains(location, "://") {
		var err error
		if source, err = remote.New(remote.Config{URL: location}); err != nil {
			return err
		}
	}
	log, err := tlog.NewReader(ctx, source, r.LogKey)
	if err != nil {
		return err
	}
	now := log.Checkpoint()
	if now.Size < r.Size {
		return fmt.Errorf("cannot accept statement: its newest checkpoint covers %d entries, log %s holds %d: another log, or an old copy", r.Size, source, now.Size)
	}
	var path [][]byte
	if now.Size > r.Size {
		b, err := client.NewProofBuilder(ctx, now.Size, tiles(source))
		if err == nil {
			path, err = b.ConsistencyProof(ctx, r.Size, now.Size)
		}
		if err != nil {
			return fmt.Errorf("cannot compare with log %s: %w", source, err)
		}
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, r.Size, now.Size, path, r.LogRoot[:], now.Root[:]); err != nil {
		return fmt.Errorf("cannot accept statement: its newest checkpoint, of %d entries, is not one of log %s: somebody is shown another log", r.Size, source)
	}
	return nil
}

// tiles fetches a log's tiles, and a full one where the log has grown beyond a partial one.
func tiles(s tlog.Source) client.TileFetcherFunc {
	const maxTileLen = layout.TileWidth * len(wire.Hash{})
	return func(ctx context.Context, level, index uint64, p uint8) ([]byte, error) {
		b, err := s.Read(ctx, layout.TilePath(level, index, p), maxTileLen)
		if p != 0 && errors.Is(err, fs.ErrNotExist) {
			return s.Read(ctx, layout.TilePath(level, index, 0), maxTileLen)
		}
		return b, err
	}
}
