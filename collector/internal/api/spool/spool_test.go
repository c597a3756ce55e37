package spool

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func text(s string) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error { _, err := io.WriteString(w, s); return err }
}

func newSpool(t *testing.T, cfg Config) *Spool {
	t.Helper()
	cfg.Dir = t.TempDir()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMake(t *testing.T) {
	s := newSpool(t, Config{})
	c, err := s.Make(t.Context(), "a", text("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(s.cfg.Dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	if b, err := io.ReadAll(c); string(b) != "hello" || c.Size != 5 || err != nil {
		t.Errorf("%q of %d bytes, %v", b, c.Size, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := s.Make(t.Context(), "a", func(context.Context, io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if s.bytes != 0 || len(s.held) != 0 || len(s.making) != 0 {
		t.Errorf("%d bytes, %v, %v are held", s.bytes, s.held, s.making)
	}
	if _, err := New(Config{Slots: -1}); err == nil {
		t.Error("a negative bound")
	}
	s.cfg.Dir += "/none"
	if _, err := s.Make(t.Context(), "a", text("")); err == nil || len(s.held) != 0 {
		t.Errorf("%v, %v", err, s.held)
	}
}

// TestSlots: an account has one slot, and all have a few; who reads slowly has none.
func TestSlots(t *testing.T) {
	s := newSpool(t, Config{Slots: 2, Held: 2})
	begun, end := make(chan struct{}), make(chan struct{})
	made := make(chan error)
	for _, account := range []string{"a", "b"} {
		go func() {
			_, err := s.Make(t.Context(), account, func(context.Context, io.Writer) error { begun <- struct{}{}; <-end; return nil })
			made <- err
		}()
		<-begun
		if account == "a" {
			if _, err := s.Make(t.Context(), "a", text("")); !errors.Is(err, ErrBusy) {
				t.Errorf("a second slot of one account: %v", err)
			}
		}
	}
	if _, err := s.Make(t.Context(), "c", text("")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third slot: %v", err)
	}
	close(end)
	for range 2 {
		if err := <-made; err != nil {
			t.Error(err)
		}
	}
	var copies []*Copy // a and b have not read theirs
	for _, account := range []string{"c", "d", "e", "f", "a"} {
		c, err := s.Make(t.Context(), account, text(""))
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, c)
	}
	if _, err := s.Make(t.Context(), "a", text("")); !errors.Is(err, ErrBusy) {
		t.Errorf("a third answer that is not read: %v", err)
	}
	for _, c := range copies {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Make(t.Context(), "a", text("")); err != nil {
		t.Error(err)
	}
}

func TestBytes(t *testing.T) {
	s := newSpool(t, Config{Bytes: 10})
	c, err := s.Make(t.Context(), "a", text("123456"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Make(t.Context(), "b", text("12345")); !errors.Is(err, ErrBusy) {
		t.Errorf("beyond the bound: %v", err)
	}
	if _, err := s.Make(t.Context(), "b", text("1234")); err != nil {
		t.Errorf("to the bound: %v", err)
	}
	if err := c.Close(); err != nil || s.bytes != 4 {
		t.Errorf("%d bytes are held, %v", s.bytes, err)
	}
	if _, err := s.Make(t.Context(), "c", text(strings.Repeat("1", 6))); err != nil {
		t.Error(err)
	}
}

// TestDeadline: what takes too long is told so, and gives its slot back.
func TestDeadline(t *testing.T) {
	s := newSpool(t, Config{Slots: 1, Patience: time.Nanosecond})
	_, err := s.Make(t.Context(), "a", func(ctx context.Context, _ io.Writer) error {
		<-ctx.Done()
		return errors.New("interrupted")
	})
	if !errors.Is(err, context.DeadlineExceeded) || len(s.making) != 0 || len(s.held) != 0 {
		t.Errorf("%v, %v, %v", err, s.making, s.held)
	}
}
