package enrolment

import (
	"net/netip"
	"sync"
	"time"
)

// The bounds of what a source may be refused: a number at once, and one more after each while.
const (
	refusals     = 20
	refusalEvery = 3 * time.Second
	maxSources   = 4096
)

// sources are those who were refused lately, each with the time at which it will have all its refusals again (the generic cell rate
// algorithm, ITU-T I.371 annex A). When there are too many of them, all others share one.
type sources struct {
	mu  sync.Mutex
	all map[netip.Prefix]time.Time
}

func newSources() *sources { return &sources{all: make(map[netip.Prefix]time.Time)} }

// source is who sends, as far as a network tells: an IPv4 address, or the /64 of an IPv6 one, of which a host has as many as it likes.
func source(hostport string) netip.Prefix {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := a.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// find returns a source's own name in the map, or the one that it shares with others, and how long until it has all its refusals.
func (s *sources) find(from netip.Prefix, now time.Time) (netip.Prefix, time.Duration) {
	full, ok := s.all[from]
	if !ok && len(s.all) >= maxSources {
		for p, full := range s.all {
			if !full.After(now) {
				delete(s.all, p)
			}
		}
		if len(s.all) >= maxSources {
			from = netip.Prefix{}
			full = s.all[from]
		}
	}
	owed := max(full.Sub(now), 0)
	if owed > refusals*refusalEvery { // the clock was set back
		owed = 0
	}
	return from, owed
}

// wait returns how long a source has to wait before it is heard, zero when it need not.
func (s *sources) wait(from netip.Prefix, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, owed := s.find(from, now)
	return max(owed-(refusals-1)*refusalEvery, 0)
}

// count counts a refusal.
func (s *sources) count(from netip.Prefix, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, owed := s.find(from, now)
	s.all[from] = now.Add(min(owed+refusalEvery, refusals*refusalEvery))
}
