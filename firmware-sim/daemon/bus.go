package daemon

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/link"
)

// A bus is one of the car's buses. The car's clock goes with its frames: what the ECU sends in between carries the latest time.
type bus struct {
	conn *link.Conn
	sent prometheus.Counter

	mu   sync.Mutex
	time int64
}

// send puts a frame of the car on the bus.
func (b *bus) send(ctx context.Context, f *can.Frame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.time = max(b.time, f.Time)
	f.Time = b.time
	b.sent.Inc()
	return b.conn.Send(ctx, f)
}

// sendNow puts a frame on the bus that has no time of its own.
func (b *bus) sendNow(ctx context.Context, f *can.Frame) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.Time = b.time
	b.sent.Inc()
	return b.conn.Send(ctx, f)
}

// transport is the ECU's end of ISO-TP on the bus.
func (b *bus) transport(request func(attest.Request), refused prometheus.Counter) (*isotp.Conn, error) {
	return isotp.New(isotp.Config{
		Tx: attest.TxID, Rx: attest.RxID, Padding: true, MaxLen: attest.MaxRequestLen,
		Send: b.sendNow,
		Deliver: func(msg []byte) {
			r, err := attest.DecodeRequest(msg)
			if err != nil {
				refused.Inc()
				return
			}
			request(*r)
		},
	})
}

// receive feeds the transport until ctx is done.
func (b *bus) receive(ctx context.Context, tp *isotp.Conn) error {
	var f can.Frame
	for {
		err := b.conn.Receive(ctx, &f)
		if err == nil {
			err = tp.Handle(ctx, &f)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
