//go:build linux

package link

import (
	"context"
	"testing"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link/internal/socket"
)

// The ratio of the two says what this package costs above the system calls.
func BenchmarkReceive(b *testing.B) {
	const batch = 10_000
	bench := func(b *testing.B, read func(*Conn, context.Context) error) {
		url := "udp://" + freeGroup(b)
		rx, tx := open(b, Config{URL: url}), open(b, Config{URL: url})
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		queued := 0
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			if queued == 0 {
				b.StopTimer()
				for range batch {
					send(b, ctx, tx, frame(0x123, 0, 1, 2, 3, 4, 5, 6, 7, 8))
				}
				queued = batch
				b.StartTimer()
			}
			if err := read(rx, ctx); err != nil {
				b.Fatal(err)
			}
			queued--
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	}
	b.Run("conn", func(b *testing.B) {
		var f can.Frame
		bench(b, func(c *Conn, ctx context.Context) error { return c.Receive(ctx, &f) })
	})
	b.Run("socket", func(b *testing.B) {
		var buf [rxSize]byte
		bench(b, func(c *Conn, _ context.Context) error {
			_, _, err := c.port.(*socket.Group).ReadFromUDPAddrPort(buf[:])
			return err
		})
	})
}

func BenchmarkSend(b *testing.B) {
	c := open(b, Config{URL: "udp://" + freeGroup(b)})
	f := frame(0x123, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(b.Context(), &f); err != nil {
			b.Fatal(err)
		}
	}
}
