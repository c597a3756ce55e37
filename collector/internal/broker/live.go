package broker

import (
	"context"
	"sync"
	"time"

	"rawstone/pkg/wire"
)

const (
	watchEvery = time.Second
	watchWait  = 2 * time.Second // for the records' answer
)

// A live is an admitted connection of a vehicle.
type live struct {
	vehicle string
	device  wire.PublicKey
	until   time.Time // when its certificate ends
}

// connections are the admitted connections by the server's number for them. They stay until a sweep finds them gone.
type connections struct {
	mu  sync.Mutex
	all map[uint64]live
}

func (c *connections) add(id uint64, l live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[id] = l
}

func (c *connections) remove(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, id)
}

// that returns the connections of which match says that they are meant.
func (c *connections) that(match func(uint64, live) bool) (ids []uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, l := range c.all {
		if match(id, l) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (c *connections) has(vehicle string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.all {
		if l.vehicle == vehicle {
			return true
		}
	}
	return false
}

// Disconnect cuts the connections of a vehicle but for those with the device key except, none when that is zero, and returns how many. It
// keeps no vehicle from connecting again: Vehicles does.
func (b *Broker) Disconnect(vehicle string, except wire.PublicKey) int {
	return b.cut(func(_ uint64, l live) bool { return l.vehicle == vehicle && l.device != except })
}

func (b *Broker) cut(match func(uint64, live) bool) (n int) {
	for _, id := range b.auth.live.that(match) {
		if b.server.DisconnectClientByID(id) == nil {
			n++
		}
		b.auth.live.remove(id)
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
	b.auth.live.sweep(func(id uint64) bool { return b.server.GetClient(id) != nil })
	now := b.auth.now()
	b.cut(func(_ uint64, l live) bool { return now.After(l.until) })
	ctx, cancel := context.WithTimeout(ctx, watchWait)
	defer cancel()
	for {
		changed, next, err := b.auth.vehicles.Changed(ctx, serial)
		if err != nil || len(changed) == 0 {
			return serial, err
		}
		for _, vehicle := range changed {
			if !b.auth.live.has(vehicle) {
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

// sweep forgets the connections that are gone.
func (c *connections) sweep(there func(uint64) bool) {
	for _, id := range c.that(func(id uint64, _ live) bool { return !there(id) }) {
		c.remove(id)
	}
}
