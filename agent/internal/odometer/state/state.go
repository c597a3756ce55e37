// Package state is what an odometer keeps over a restart. It knows the limits of what an odometer can have made, and so refuses a
// damaged record; it keeps nothing itself.
package state

import (
	"math"

	"rawstone/agent/internal/odometer/event"
)

const (
	// MaxSources is how many sources an odometer follows; a source is a signal of one sender.
	MaxSources = 16
	// MaxLevel is more than a counter shows, mm: no vehicle has driven 4 million km, and 0xFFFFFFFF metres is more.
	MaxLevel = 4_000_000 * 1_000_000
	// MaxElapsed bounds Elapsed, µs: 142 years, which keeps products in range.
	MaxElapsed = int64(1) << 52
	// maxTotal is more than MaxElapsed at the largest speed, mm.
	maxTotal = math.MaxInt64 / 2
	// maxName bounds the parts of a source's name that are kept.
	maxName = 64
)

// Odometer is what an odometer keeps over a restart; it encodes as CBOR in at most 4 KiB. Distances are in millimetres.
type Odometer struct {
	// Total is the distance counted, Recovered the part of it that a counter told after nothing had watched.
	Total     int64 `cbor:"0,keyasint"`
	Recovered int64 `cbor:"1,keyasint"`
	// Elapsed is the frame time that passed forwards, microseconds; Time the frame time of its end, nanoseconds, 0 for none.
	Elapsed int64                       `cbor:"2,keyasint"`
	Time    int64                       `cbor:"3,keyasint"`
	Sources []Source                    `cbor:"4,keyasint"`
	Events  [event.NumKinds]event.State `cbor:"5,keyasint"`
	// Losses is how often distance may have been driven that no counter can tell afterwards.
	Losses uint64 `cbor:"6,keyasint"`
}

// Source is a counter's last trusted level, and the distance that it stands for.
type Source struct {
	Path   string `cbor:"0,keyasint"`
	Name   string `cbor:"1,keyasint"`
	Origin uint8  `cbor:"2,keyasint"`
	Level  int64  `cbor:"3,keyasint"`
	Claim  int64  `cbor:"4,keyasint"`
	At     int64  `cbor:"6,keyasint"` // frame time of the level's last sample, ns
	// Flipped says that the values are kilometres read as miles.
	Flipped bool `cbor:"5,keyasint"`
	// Doubted says that the level was in doubt: after a restart it is not gone on from.
	Doubted bool `cbor:"7,keyasint"`
}

// Cut returns a part of a source's name as it is kept.
func Cut(s string) string { return s[:min(len(s), maxName)] }

// Valid reports whether an odometer can have made the state; a damaged one is not to be trusted in part.
func (s *Odometer) Valid() bool {
	ok := s.Total >= 0 && s.Total <= maxTotal && s.Recovered >= 0 && s.Recovered <= s.Total && s.Elapsed >= 0 && s.Elapsed <= MaxElapsed && len(s.Sources) <= MaxSources
	for _, src := range s.Sources {
		ok = ok && src.Level >= 0 && src.Level <= MaxLevel && src.Claim <= s.Total+MaxLevel && src.Claim >= -MaxLevel && len(src.Path) <= maxName && len(src.Name) <= maxName
	}
	return ok
}
