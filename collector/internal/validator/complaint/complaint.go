// Package complaint keeps what owners hold against the operator: receipts with its signature whose credits the ledger lacks. A validator
// cosigns nothing while one is overdue and its own operator has not acknowledged it.
//
// A receipt is on disk before Add returns, and goes when the ledger holds what it promises. When it is overdue the ledger's own day says, and no
// clock: an operator whose ledger stands still can honour it once drops go on. The package refuses receipts that the operator has not signed
// or that promise nothing, and never gives one up by itself.
package complaint

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rawstone/collector/internal/validator/archive"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	complaintDir = "complaints"
	receiptEnd   = ".receipt"
	// acknowledged ends the name of the file with which the validator's operator lets it go on.
	acknowledged  = ".acknowledged"
	maxComplaints = 10_000
)

// complaint is a receipt whose credits were not in the copy when it came.
type complaint struct {
	text    []byte
	receipt *wire.Receipt // nil until the program is known, and its receipts can be read
}

// claimID returns the submission that earned the receipt's credits first.
func claimID(r *wire.Receipt) wire.Hash {
	if r.Original != nil {
		return *r.Original
	}
	return r.Submission
}

// last returns the last day of the ledger on which what a receipt promises may be logged: that on which the last credit takes effect. What is
// decided before that day is numbered before its drops.
func last(r *wire.Receipt) (day uint32) {
	for _, c := range r.Credits {
		day = max(day, c.Effective)
	}
	return day
}

// ErrLater says that what a receipt promises may still come: it is kept, and speaks against the operator from then on.
var ErrLater = errors.New("the ledger may still get what the receipt promises")

// Config configures a Book. All is required.
type Config struct {
	// Dir is the validator's state directory.
	Dir string
	// Archive is the validator's copy of the ledger.
	Archive *archive.Archive
	Logger  *slog.Logger
}

// A Book is a validator's complaints. It is used by one goroutine at a time.
type Book struct {
	c    Config
	list map[wire.Hash]complaint // by submission
}

// Add takes in a receipt that a program's collector has signed and whose credits its owner misses. It returns nil when the ledger, whose day is
// given, holds them. One that is kept is overdue at once or becomes so: see ErrLater.
func (b *Book) Add(p *terms.Program, day uint32, text []byte) error {
	r, err := wire.OpenReceipt(p.Receipt, text)
	if err != nil {
		return err
	}
	if !r.Accepted || len(r.Credits) == 0 {
		return errors.New("cannot complain: the receipt promises no credit")
	}
	if kept, err := b.kept(r); err != nil || kept {
		return err
	}
	id, known, err := b.find(p, r)
	if err != nil {
		return err
	}
	if !known {
		if len(b.list) >= maxComplaints {
			return fmt.Errorf("cannot complain: %d complaints wait already", maxComplaints)
		}
		if err := archive.Keep(b.file(id, receiptEnd), text); err != nil {
			return fmt.Errorf("cannot keep receipt: %w", err)
		}
		b.list[id] = complaint{text, r}
	}
	if day <= last(r) {
		return fmt.Errorf("%w until the last drop of day %d is logged, the next is one of day %d", ErrLater, last(r), day)
	}
	b.c.Logger.Error("receipt was never logged: nothing is cosigned until it is, or until it is acknowledged with `collector validator acknowledge`", "submission", id.String())
	return fmt.Errorf("receipt for submission %s is overdue since day %d: the ledger does not hold its credits", id, last(r)+1)
}

// find returns the submission under which a receipt's promise is kept. Claims over one span can be made anew at will, each with a receipt
// that promises the same again: one of them is enough.
func (b *Book) find(p *terms.Program, r *wire.Receipt) (id wire.Hash, known bool, err error) {
	for id := range b.list {
		other, err := b.receipt(p, id)
		if err != nil {
			return id, false, err
		}
		if id == r.Submission || claimID(other) == claimID(r) && slices.Equal(other.Credits, r.Credits) {
			return id, true, nil
		}
	}
	return r.Submission, false, nil
}

// receipt returns one of the list.
func (b *Book) receipt(p *terms.Program, id wire.Hash) (_ *wire.Receipt, err error) {
	c := b.list[id]
	if c.receipt == nil {
		if c.receipt, err = wire.OpenReceipt(p.Receipt, c.text); err != nil {
			return nil, fmt.Errorf("cannot read %s: %w; move it away", b.file(id, receiptEnd), err)
		}
		b.list[id] = c
	}
	return c.receipt, nil
}

// Len counts all that wait.
func (b *Book) Len() int { return len(b.list) }

// kept reports whether the ledger holds all credits of a receipt. One that repeats a span promises all credits of the span, whatever claim of
// it earned them.
func (b *Book) kept(r *wire.Receipt) (bool, error) {
	var have []ledger.Credit
	var err error
	if r.Original == nil {
		have, err = b.c.Archive.Claimed(r.Submission)
	} else {
		have, err = b.c.Archive.Span(*r.Original, r.Submission)
	}
	if err != nil {
		return false, err
	}
	for _, want := range r.Credits {
		at := -1
		for i, c := range have {
			if c.Km == want.Km && c.Effective == want.Effective {
				at = i
			}
		}
		if at < 0 {
			return false, nil
		}
		have = slices.Delete(have, at, at+1)
	}
	return true, nil
}

// Overdue returns the submissions whose receipts speak against the operator on a day of the ledger. Those that were resolved since are removed.
func (b *Book) Overdue(p *terms.Program, day uint32) (list []wire.Hash, err error) {
	for id := range b.list {
		r, err := b.receipt(p, id)
		if err != nil {
			return nil, err
		}
		if day <= last(r) {
			continue
		}
		kept, err := b.kept(r)
		if err != nil {
			return nil, err
		}
		if !kept {
			_, err := os.Stat(b.file(id, acknowledged))
			if err == nil {
				continue
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			list = append(list, id)
			continue
		}
		b.c.Logger.Info("receipt is logged by now", "submission", id.String())
		delete(b.list, id)
		if err := os.Remove(b.file(id, receiptEnd)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b wire.Hash) int { return strings.Compare(a.String(), b.String()) })
	return list, nil
}

func (b *Book) file(id wire.Hash, end string) string {
	return filepath.Join(b.c.Dir, complaintDir, id.String()+end)
}

// Open reads the complaints of an earlier life.
func Open(c Config) (*Book, error) {
	if c.Dir == "" || c.Archive == nil || c.Logger == nil {
		return nil, errors.New("cannot open complaints: directory, copy of the ledger or logger is missing")
	}
	out := make(map[wire.Hash]complaint)
	found, err := filepath.Glob(filepath.Join(c.Dir, complaintDir, "*"+receiptEnd))
	if err != nil {
		return nil, fmt.Errorf("cannot look for complaints: %w", err)
	}
	for _, name := range found {
		raw, err := hex.DecodeString(strings.TrimSuffix(filepath.Base(name), receiptEnd))
		if err != nil || len(raw) != len(wire.Hash{}) {
			return nil, fmt.Errorf("cannot use %s: its name is no submission's; move it away", name)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read complaint: %w", err)
		}
		out[wire.Hash(raw)] = complaint{text: text}
	}
	return &Book{c, out}, nil
}

// Acknowledge lets the validator whose state is in dir go on although the receipt for a submission is overdue: its operator has looked
// into it. It may be called while the validator runs.
func Acknowledge(dir string, submission wire.Hash) error {
	name := filepath.Join(dir, complaintDir, submission.String())
	if _, err := os.Stat(name + receiptEnd); err != nil {
		return fmt.Errorf("cannot acknowledge receipt: there is no complaint about submission %s: %w", submission, err)
	}
	if err := archive.Keep(name+acknowledged, nil); err != nil {
		return fmt.Errorf("cannot acknowledge receipt: %w", err)
	}
	return nil
}
