package isotp

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/can"
)

// Two ends on two bus loops, whole messages both ways at once, one of each pair of Writes waiting for the other.
func TestBothWays(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Config
	}{
		{"classic", Config{}, Config{}},
		{"classic, blocks and separation", Config{BlockSize: 7, STmin: 300 * time.Microsecond}, Config{BlockSize: 1, STmin: 2 * time.Millisecond, Padding: true, PadByte: 0x55}},
		{"fd", Config{FD: true}, Config{FD: true, BitRateSwitch: true, BlockSize: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var loops sync.WaitGroup
				toA, toB := make(chan can.Frame, 4096), make(chan can.Frame, 4096)
				var gotA, gotB [][]byte
				end := func(cfg Config, tx, rx can.ID, out, in chan can.Frame, got *[][]byte) *Conn {
					cfg.Tx, cfg.Rx = tx, rx
					cfg.Send = func(_ context.Context, f *can.Frame) error { out <- *f; return nil }
					cfg.Deliver = func(msg []byte) { *got = append(*got, bytes.Clone(msg)) }
					conn, err := New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					loops.Go(func() {
						for {
							select {
							case f := <-in:
								if err := conn.Handle(ctx, &f); err != nil {
									t.Error(err)
								}
							case <-ctx.Done():
								return
							}
						}
					})
					return conn
				}
				a := end(c.a, tester, ecu, toB, toA, &gotA)
				b := end(c.b, ecu, tester, toA, toB, &gotB)
				var writers sync.WaitGroup
				for range 2 {
					writers.Go(func() {
						if err := a.Write(ctx, message(4095)); err != nil {
							t.Error(err)
						}
					})
					writers.Go(func() {
						if err := b.Write(ctx, message(4095)); err != nil {
							t.Error(err)
						}
					})
				}
				writers.Wait()
				synctest.Wait()
				cancel()
				loops.Wait()
				want := [][]byte{message(4095), message(4095)}
				if d := cmp.Diff(want, gotA); d != "" {
					t.Errorf("a received something else: %s", d)
				}
				if d := cmp.Diff(want, gotB); d != "" {
					t.Errorf("b received something else: %s", d)
				}
				if d := cmp.Diff(Stats{Sent: 2, Received: 2}, a.Stats()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// join wires two ends so that what one sends the other handles before Send returns; lose says which frames get lost.
func join(t testing.TB, a, b Config, lose func(f *can.Frame) bool) (ca, cb *Conn, gotA, gotB *[][]byte) {
	t.Helper()
	gotA, gotB = new([][]byte), new([][]byte)
	deliver := func(got *[][]byte) func([]byte) {
		return func(msg []byte) { *got = append(*got, bytes.Clone(msg)) }
	}
	send := func(to **Conn) func(context.Context, *can.Frame) error {
		return func(ctx context.Context, f *can.Frame) error {
			if lose != nil && lose(f) {
				return nil
			}
			return (*to).Handle(ctx, f)
		}
	}
	a.Tx, a.Rx, a.Send, a.Deliver = tester, ecu, send(&cb), deliver(gotA)
	b.Tx, b.Rx, b.Send, b.Deliver = ecu, tester, send(&ca), deliver(gotB)
	var err error
	if ca, err = New(a); err != nil {
		t.Fatal(err)
	}
	if cb, err = New(b); err != nil {
		t.Fatal(err)
	}
	return ca, cb, gotA, gotB
}

func TestLostFrame(t *testing.T) {
	for _, c := range []struct {
		name  string
		block uint8
		lose  byte // first byte of the frame that gets lost, once
		want  error
		stats Stats // of the receiver, after a second message that must arrive
	}{
		{"consecutive", 0, 0x23, nil, Stats{Received: 1, Sequence: 1, Unexpected: 1}},
		{"consecutive in a block", 2, 0x23, ErrTimeout, Stats{Received: 1, Sequence: 1}},
		{"last", 0, 0x25, nil, Stats{Received: 1, Interrupted: 1}},
		{"first", 0, 0x10, ErrTimeout, Stats{Received: 1}},
		{"flow control", 0, 0x30, ErrTimeout, Stats{Received: 1, Timeouts: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lost := false
				a, b, _, got := join(t, Config{Timeout: 2 * time.Second}, Config{BlockSize: c.block}, func(f *can.Frame) bool {
					if lost || f.Data[0] != c.lose {
						return false
					}
					lost = true
					return true
				})
				if err := a.Write(t.Context(), message(40)); !errors.Is(err, c.want) {
					t.Errorf("Write: %v, want %v", err, c.want)
				}
				if !lost {
					t.Fatal("nothing was lost")
				}
				if err := a.Write(t.Context(), message(41)); err != nil {
					t.Error(err)
				}
				if d := cmp.Diff([][]byte{message(41)}, *got); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff(c.stats, b.Stats()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

func TestOverflowReachesWriter(t *testing.T) {
	a, b, _, got := join(t, Config{}, Config{MaxLen: 100}, nil)
	if err := a.Write(t.Context(), message(101)); !errors.Is(err, ErrOverflow) {
		t.Errorf("Write: %v, want ErrOverflow", err)
	}
	if err := a.Write(t.Context(), message(100)); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([][]byte{message(100)}, *got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Stats{Received: 1, Overflows: 1}, b.Stats()); d != "" {
		t.Error(d)
	}
}

// Whatever is written arrives, for any pair of configurations that speak the same kind of frame.
func TestRoundTripLaw(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		fd := rapid.Bool().Draw(r, "fd")
		draw := func(name string) Config {
			return Config{
				FD: fd, Padding: rapid.Bool().Draw(r, name+" padding"), PadByte: rapid.Byte().Draw(r, name+" pad"),
				BlockSize: rapid.Byte().Draw(r, name+" block"), MaxLen: 10_000,
			}
		}
		a, b, _, got := join(t, draw("a"), draw("b"), nil)
		n := rapid.OneOf(rapid.IntRange(1, 200), rapid.SampledFrom([]int{4094, 4095, 4096, 4097, 10_000})).Draw(r, "n")
		msg := rapid.SliceOfN(rapid.Byte(), n, n).Draw(r, "msg")
		if err := a.Write(context.Background(), msg); err != nil {
			r.Fatal(err)
		}
		if len(*got) != 1 || !bytes.Equal((*got)[0], msg) {
			r.Fatalf("delivered %x, want %x", *got, msg)
		}
		if d := cmp.Diff(Stats{Received: 1}, b.Stats()); d != "" {
			r.Fatal(d)
		}
	})
}
