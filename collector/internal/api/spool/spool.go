// Package spool has long answers made into files before they are sent, so that a slow reader holds a file and nothing else.
//
// Few answers are made at once, and one of an account's at a time, each within a deadline. What was made and is not read yet is bounded for each
// account and in bytes for all. The files have no names: they are gone when they are closed, or with the process.
package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// ErrBusy is for an answer that would be one too many, of all or of its account.
var ErrBusy = errors.New("too many answers are being made or read")

// Config says how much is held; the zero value is of use.
type Config struct {
	// Dir is where the files are; that of temporary files when empty.
	Dir string
	// Slots bounds the answers that are made at once; 4 when zero.
	Slots int
	// Held bounds the answers of one account, made and being made, that are not closed; 2 when zero.
	Held int
	// Bytes bounds all that is not closed; 2 GiB when zero.
	Bytes int64
	// Patience is how long one may take to be made; a minute when zero.
	Patience time.Duration
}

// A Spool makes answers. It may be used from several goroutines.
type Spool struct {
	cfg Config

	mu     sync.Mutex
	making map[string]bool // accounts
	held   map[string]int  // of accounts
	bytes  int64
}

// New returns a spool; bounds below zero are refused.
func New(cfg Config) (*Spool, error) {
	if cfg.Slots < 0 || cfg.Held < 0 || cfg.Bytes < 0 || cfg.Patience < 0 {
		return nil, errors.New("cannot spool answers: a bound is negative")
	}
	cfg.Slots, cfg.Held, cfg.Bytes, cfg.Patience = cmp.Or(cfg.Slots, 4), cmp.Or(cfg.Held, 2), cmp.Or(cfg.Bytes, 2<<30), cmp.Or(cfg.Patience, time.Minute)
	return &Spool{cfg: cfg, making: make(map[string]bool), held: make(map[string]int)}, nil
}

// A Copy is an answer that was made, to be read once from its beginning and closed.
type Copy struct {
	io.Reader
	// Size is in bytes.
	Size int64

	close func() error
}

// Close gives the answer's room back.
func (c *Copy) Close() error { return c.close() }

// Make has an account's answer made by fill, whose errors it returns as they are. It returns ErrBusy without a call of fill where there is no room,
// and in place of its error where the room did not last.
func (s *Spool) Make(ctx context.Context, account string, fill func(context.Context, io.Writer) error) (_ *Copy, err error) {
	if !s.begin(account) {
		return nil, ErrBusy
	}
	defer s.end(account)
	f, err := os.CreateTemp(s.cfg.Dir, "answer-*.tmp") // readable by its owner alone
	if err != nil {
		s.release(account, 0)
		return nil, fmt.Errorf("cannot spool answer: %w", err)
	}
	out := &file{f: f, spool: s}
	c := &Copy{Reader: f, close: func() error {
		defer s.release(account, out.size)
		return f.Close()
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot spool answer: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	if err := fill(ctx, out); err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("cannot spool answer: %w", err)
	}
	c.Size = out.size
	return c, nil
}

func (s *Spool) begin(account string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.making) >= s.cfg.Slots || s.making[account] || s.held[account] >= s.cfg.Held {
		return false
	}
	s.making[account] = true
	s.held[account]++
	return true
}

func (s *Spool) end(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.making, account)
}

func (s *Spool) release(account string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= size
	if s.held[account]--; s.held[account] == 0 {
		delete(s.held, account)
	}
}

// reserve takes room for n bytes more.
func (s *Spool) reserve(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+n > s.cfg.Bytes {
		return false
	}
	s.bytes += n
	return true
}

// A file counts what is written to it.
type file struct {
	f     *os.File
	spool *Spool
	size  int64
}

func (w *file) Write(b []byte) (int, error) {
	if !w.spool.reserve(int64(len(b))) {
		return 0, ErrBusy
	}
	w.size += int64(len(b))
	return w.f.Write(b)
}
