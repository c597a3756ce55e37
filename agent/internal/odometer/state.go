package odometer

import (
	"rawstone/agent/internal/odometer/event"
	"rawstone/agent/internal/vss"
)

// State is what an odometer keeps over a restart; it encodes as CBOR in at most 4 KiB. Distances are in millimetres.
type State struct {
	// Total is the distance counted, Recovered the part of it that a counter told after nothing had watched.
	Total     int64 `cbor:"0,keyasint"`
	Recovered int64 `cbor:"1,keyasint"`
	// Elapsed is the frame time that passed forwards, microseconds; Time the frame time of its end, nanoseconds, 0 for none.
	Elapsed int64                       `cbor:"2,keyasint"`
	Time    int64                       `cbor:"3,keyasint"`
	Sources []SourceState               `cbor:"4,keyasint"`
	Events  [event.NumKinds]event.State `cbor:"5,keyasint"`
	// Losses is how often distance may have been driven that no counter can tell afterwards.
	Losses uint64 `cbor:"6,keyasint"`
}

// SourceState is a counter's last trusted level, and the distance that it stands for.
type SourceState struct {
	Path   string `cbor:"0,keyasint"`
	Name   string `cbor:"1,keyasint"`
	Origin uint8  `cbor:"2,keyasint"`
	Level  int64  `cbor:"3,keyasint"`
	Claim  int64  `cbor:"4,keyasint"`
	At     int64  `cbor:"6,keyasint"` // frame time of the level's last sample, ns
	// Flipped says that the values are kilometres read as miles.
	Flipped bool `cbor:"5,keyasint"`
}

// maxName bounds the parts of a source's name that are kept.
const maxName = 64

func cut(s string) string { return s[:min(len(s), maxName)] }

// State returns what to keep.
func (o *Odometer) State() State {
	s := State{Total: o.total, Recovered: o.recovered, Elapsed: o.elapsed, Time: o.now, Events: o.events.State(), Losses: o.losses}
	if !o.started {
		s.Time = o.savedTime
	}
	for i := range o.n {
		k := &o.trackers[i]
		if k.speed || k.modulus > 0 || !k.known {
			continue // these tell nothing after a gap
		}
		sig := &o.cfg.Signals[k.signal]
		s.Sources = append(s.Sources, SourceState{cut(sig.Path), cut(sig.Name), k.origin, k.level, k.claim, k.at, k.flipped})
	}
	return s
}

// restore takes a valid state over.
func (o *Odometer) restore(s *State) {
	o.total, o.recovered, o.elapsed, o.savedTime, o.losses = s.Total, s.Recovered, s.Elapsed, s.Time, s.Losses
	for _, src := range s.Sources {
		for i := range o.cfg.Signals {
			sig := &o.cfg.Signals[i]
			if sig.Role != vss.Distance || sig.Modulus > 0 || cut(sig.Path) != src.Path || cut(sig.Name) != src.Name {
				continue
			}
			if k := o.add(i, src.Origin); k != nil {
				k.known, k.at, k.stepped, k.seen = true, min(src.At, s.Time), -1, never
				o.baselines++
				k.level, k.claim, k.flipped = src.Level, src.Claim, src.Flipped
			}
			break
		}
	}
}

// Valid reports whether an odometer can have made the state; a damaged one is not to be trusted in part.
func (s *State) Valid() bool {
	ok := s.Total >= 0 && s.Total <= maxTotal && s.Recovered >= 0 && s.Recovered <= s.Total && s.Elapsed >= 0 && s.Elapsed <= maxElapsed && len(s.Sources) <= maxSources
	for _, src := range s.Sources {
		ok = ok && src.Level >= 0 && src.Level <= maxLevel && src.Claim <= s.Total+maxLevel && src.Claim >= -maxLevel && len(src.Path) <= maxName && len(src.Name) <= maxName
	}
	return ok
}
