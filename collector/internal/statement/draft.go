package statement

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"rawstone/collector/internal/statement/internal/dayfile"
	"rawstone/collector/internal/store"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/statement"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// A draft is what a statement is written from.
type draft struct {
	desk    *Desk
	account string
	secret  [32]byte
	from    uint64 // the drop of the first block that is written
	whole   bool   // rather than what is newer than a state

	signed  []byte // the program document
	program *terms.Program
	id      wire.Hash
	newest  []byte // the body of the block tip
	tip     *ledger.Block
	log     *tlog.Reader
	blocks  []block                // up to the newest, from the one before from on or from settled on
	orders  map[uint32]*ledger.Day // of the blocks' days
	entries []item                 // documents, offers and the account's own entries, in the order of their numbers

	settled  uint64 // first drop that milli lacks
	milli    uint64
	crystals uint64
}

// A block is one with its payload.
type block struct {
	*ledger.Block
	payload []byte
}

// An item is an entry that a statement holds; opening is nil for those that hide nothing.
type item struct {
	ledger.Entry
	opening any
}

// draft reads everything but the days' trees in one transaction: what stands below the checkpoint of its newest block does not change any more.
func (d *Desk) draft(ctx context.Context, account string, since uint64) (*draft, error) {
	s := &draft{desk: d, account: account, from: since, whole: since == 0}
	return s, d.cfg.Records.View(ctx, func(tx *store.Tx) error {
		if err := s.read(ctx, tx); err != nil {
			return err
		}
		own, err := own(ctx, tx, account, s.tip.Size)
		if err != nil {
			return err
		}
		if err := s.readBlocks(ctx, tx, own); err != nil {
			return err
		}
		if err := s.readEntries(ctx, tx, own); err != nil {
			return err
		}
		return s.totals(ctx, tx)
	})
}

// read reads the account, the program, the drawn stones and the newest block that goes with them, as one transaction sees them.
func (s *draft) read(ctx context.Context, tx *store.Tx) (err error) {
	s.secret, err = tx.AccountSecret(ctx, s.account)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: %q", ErrNoAccount, s.account)
	} else if err != nil {
		return err
	}
	first, err := tx.Entries(ctx, 0, 1)
	if err != nil {
		return err
	}
	if len(first) == 0 || first[0].Type != ledger.TypeProgram {
		return ErrNotYet
	}
	s.signed = first[0].Body
	if s.program, s.id, err = terms.OpenProgram(s.desk.cfg.Root, s.signed); err != nil {
		return err
	}
	if s.log, err = tlog.OpenReader(s.desk.cfg.LogDir, s.program.LogKey); errors.Is(err, fs.ErrNotExist) {
		return ErrNotYet
	} else if err != nil {
		return err
	}
	if s.settled, err = tx.Settled(ctx); err != nil {
		return err
	}
	if s.milli, err = tx.Balance(ctx, s.account); err != nil {
		return err
	}
	return s.readNewest(ctx, tx)
}

const candidates = 8 // blocks of which one must have its tree in the log

// readNewest finds the newest block that the log has the tree of and behind which nothing is settled.
func (s *draft) readNewest(ctx context.Context, tx *store.Tx) error {
	list, err := tx.LastEntries(ctx, ledger.TypeBlock, candidates)
	if err != nil {
		return err
	}
	for _, e := range list {
		b, err := open(&e)
		if err != nil {
			return err
		}
		if b.Size > s.log.Checkpoint().Size || b.Drop+1 < s.settled {
			continue
		}
		if s.from > b.Drop+1 {
			return fmt.Errorf("%w: %d", ErrAhead, s.from)
		}
		s.tip, s.newest = b.Block, e.Body
		return nil
	}
	return ErrNotYet
}

func open(e *ledger.Entry) (block, error) {
	sealed, err := e.Sealed()
	if err != nil {
		return block{}, err
	}
	b, err := ledger.DecodeBlock(sealed.Payload)
	return block{b, sealed.Payload}, err
}

// readBlocks reads the blocks and the orders of their days. A whole statement begins with the first block that covers an entry of the
// account; without any it holds the newest block alone.
func (s *draft) readBlocks(ctx context.Context, tx *store.Tx, own []opened) error {
	before := s.tip.Size
	if len(own) > 0 {
		before = own[0].number
	}
	enough := func(b block) bool {
		if s.whole {
			return b.Size < before && b.Drop < s.settled
		}
		return b.Drop < min(s.from, s.settled)
	}
	for limit, done := 64, false; !done; limit *= 4 {
		list, err := tx.LastEntries(ctx, ledger.TypeBlock, limit)
		if err != nil {
			return err
		}
		done = len(list) < limit
		s.blocks = s.blocks[:0]
		for _, e := range list {
			b, err := open(&e)
			if err != nil {
				return err
			}
			if b.Drop <= s.tip.Drop {
				s.blocks = append(s.blocks, b)
			}
			if enough(b) {
				done = true
				break
			}
		}
	}
	slices.Reverse(s.blocks)
	if s.whole {
		for _, b := range s.blocks {
			if b.Size < before {
				s.from = b.Drop + 1
			}
		}
	}
	var err error
	s.orders, err = readOrders(ctx, tx, int(s.tip.Day-s.blocks[0].Day)+1+candidates)
	return err
}

// readOrders reads the orders of the newest days, at most limit of them.
func readOrders(ctx context.Context, tx *store.Tx, limit int) (map[uint32]*ledger.Day, error) {
	list, err := tx.LastEntries(ctx, ledger.TypeDay, limit)
	if err != nil {
		return nil, err
	}
	orders := make(map[uint32]*ledger.Day, len(list))
	for _, e := range list {
		sealed, err := e.Sealed()
		if err != nil {
			return nil, err
		}
		o, err := ledger.DecodeDay(sealed.Payload)
		if err != nil {
			return nil, err
		}
		orders[o.Day] = o
	}
	return orders, nil
}

// write writes the statement.
func (s *draft) write(ctx context.Context, w *statement.Writer) error {
	err := w.Write(&statement.Record{Opening: &statement.Opening{
		Version: statement.Version, Account: s.account, Secret: s.secret, Program: s.signed, From: s.from, Newest: s.newest,
	}})
	if err != nil {
		return err
	}
	var place *dayfile.Place // the account's among the leaves of the last block's day
	for i, b := range s.blocks {
		fresh := i == 0 || s.blocks[i-1].Day != b.Day
		if fresh {
			if err := ctx.Err(); err != nil {
				return err
			}
			if place, err = s.desk.place(ctx, reward.Pseudonym(s.secret, b.Day), b.Block, s.orders[b.Day]); err != nil {
				return err
			}
		}
		units, err := share(place, b.Block)
		if err != nil {
			return err
		}
		if b.Drop >= s.settled {
			s.milli += units * reward.Unit
		}
		if b.Drop+1 < s.from || b.Drop < s.from && !s.whole {
			continue
		}
		if err := s.writeEntries(w, b.Size); err != nil {
			return err
		}
		if b.Drop < s.from {
			err = w.Write(&statement.Record{Base: b.payload})
		} else {
			if fresh && place != nil {
				if err := w.Write(&statement.Record{Day: &statement.Day{Day: b.Day, Weight: place.Weight, Path: place.Path}}); err != nil {
					return err
				}
			}
			err = w.Write(&statement.Record{Block: &statement.Block{Payload: b.payload, Units: units}})
		}
		if err != nil {
			return err
		}
	}
	if err := w.Write(&statement.Record{Close: &statement.Close{Milli: s.milli, Crystals: s.crystals}}); err != nil {
		return err
	}
	return w.Flush()
}

// writeEntries writes the entries that are numbered below a number and not written yet.
func (s *draft) writeEntries(w *statement.Writer, below uint64) error {
	for ; len(s.entries) > 0 && s.entries[0].Number < below; s.entries = s.entries[1:] {
		r, err := s.record(&s.entries[0])
		if err != nil {
			return err
		}
		if err := w.Write(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *draft) record(i *item) (*statement.Record, error) {
	if i.opening == nil && i.Type != ledger.TypeOffers {
		return &statement.Record{Document: &statement.Document{Type: i.Type, Body: i.Body}}, nil
	}
	e := new(statement.Entry)
	var err error
	if e.Entry, err = i.Encode(); err != nil {
		return nil, err
	}
	if i.opening != nil {
		if e.Opening, err = codec.Encode(i.opening); err != nil {
			return nil, err
		}
	}
	e.Path, err = s.log.Inclusion(i.Number, s.tip.Size)
	return &statement.Record{Entry: e}, err
}
