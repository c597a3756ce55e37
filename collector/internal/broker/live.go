package broker

import (
	"context"
	"time"

	"rawstone/collector/internal/broker/internal/connection"
	"rawstone/pkg/wire"
)

const (
	watchEvery = time.Second
	watchWait  = 2 * time.Second // for the records' answer
)

// Disconnect cuts the connections of a vehicle but for those with the device key except, none when that is zero, and returns how many. It
// keeps no vehicle from connecting again: Vehicles does.
func (b *Broker) Disconnect(vehicle string, except wire.PublicKey) int {
	return b.cut(func(_ uint64, c connection.Connection) bool { return c.Vehicle == vehicle && c.Device != except })
}

func (b *Broker) cut(match func(uint64, connection.Connection) bool) (n int) {
	for _, id := range b.auth.live.That(match) {
		if b.server.DisconnectClientByID(id) == nil {
			n++
		}
		b.auth.live.Remove(id)
	}
	return n
}

// Run cuts the connections of vehicles that were revoked or have enrolled with another device key, also by another process, and those
// whose certificate has ended: it looks each second, until ctx is done. While the records cannot be read it goes on and says so.
func (b *Broker) Run(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	serial := int64(0) // from the beginning, so that nothing falls between the first connection and this
	for {
		next, err := b.watch(ctx, serial)
		if err != nil && ctx.Err() == nil {
			b.auth.say(unwatched, err, "revoked vehicles cannot be looked up: their connections stay until the records can be read again")
		}
		serial = next
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// watch cuts what has changed after a serial number, and returns how far it came.
func (b *Broker) watch(ctx context.Context, serial int64) (int64, error) {
	b.auth.live.Sweep(func(id uint64) bool { return b.server.GetClient(id) != nil })
	now := b.auth.now()
	b.cut(func(_ uint64, c connection.Connection) bool { return now.After(c.Until) })
	ctx, cancel := context.WithTimeout(ctx, watchWait)
	defer cancel()
	for {
		changed, next, err := b.auth.vehicles.Changed(ctx, serial)
		if err != nil || len(changed) == 0 {
			return serial, err
		}
		for _, vehicle := range changed {
			if !b.auth.live.Has(vehicle) {
				continue
			}
			device, ok, err := b.auth.vehicles.Device(ctx, vehicle)
			if err != nil {
				return serial, err
			}
			if !ok {
				device = wire.PublicKey{}
			}
			b.Disconnect(vehicle, device)
		}
		serial = next
	}
}
