// Package connection keeps in mind which vehicle's connections a server has admitted. It knows numbers that the server gave and cuts
// nothing itself.
package connection

import (
	"sync"
	"time"

	"rawstone/pkg/wire"
)

// A Connection is one of a vehicle.
type Connection struct {
	Vehicle string
	// Device is the key that its certificate is of, Until when that ends.
	Device wire.PublicKey
	Until  time.Time
}

// A Set holds connections by the server's numbers for them. They stay until they are removed or a sweep finds them gone. The zero value
// is empty; it may be used from several goroutines.
type Set struct {
	mu  sync.Mutex
	all map[uint64]Connection
}

// Add adds a connection under its number.
func (s *Set) Add(id uint64, c Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[uint64]Connection)
	}
	s.all[id] = c
}

// Remove forgets a connection.
func (s *Set) Remove(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, id)
}

// That returns the numbers of the connections for which match returns true.
func (s *Set) That(match func(uint64, Connection) bool) (ids []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, c := range s.all {
		if match(id, c) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Has reports whether a vehicle has any.
func (s *Set) Has(vehicle string) bool {
	return len(s.That(func(_ uint64, c Connection) bool { return c.Vehicle == vehicle })) > 0
}

// Sweep forgets those that are not there any more.
func (s *Set) Sweep(there func(uint64) bool) {
	for _, id := range s.That(func(id uint64, _ Connection) bool { return !there(id) }) {
		s.Remove(id)
	}
}
