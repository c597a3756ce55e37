package odometer

import (
	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/vss"
)

// State returns what to keep.
func (o *Odometer) State() state.Odometer {
	s := state.Odometer{Total: o.total, Recovered: o.recovered, Elapsed: o.elapsed, Time: o.now, Events: o.events.State(), Losses: o.losses}
	for i := range o.n {
		k := &o.trackers[i]
		if k.speed || k.modulus > 0 || !k.known {
			continue // these tell nothing after a gap
		}
		sig := &o.cfg.Signals[k.signal]
		s.Sources = append(s.Sources, state.Source{
			Path: state.Cut(sig.Path), Name: state.Cut(sig.Name), Origin: k.origin,
			Level: k.level, Claim: k.claim, At: k.at, Flipped: k.flipped, Doubted: k.doubtful(),
		})
	}
	return s
}

// restore takes a valid state over.
func (o *Odometer) restore(s *state.Odometer) {
	o.total, o.recovered, o.elapsed, o.now, o.losses = s.Total, s.Recovered, s.Elapsed, s.Time, s.Losses
	for _, src := range s.Sources {
		for i := range o.cfg.Signals {
			sig := &o.cfg.Signals[i]
			if sig.Role != vss.Distance || sig.Modulus > 0 || state.Cut(sig.Path) != src.Path || state.Cut(sig.Name) != src.Name {
				continue
			}
			if src.Doubted {
				o.losses++
			} else if k := o.add(i, src.Origin); k != nil {
				k.known, k.at, k.stepped, k.seen = true, min(src.At, s.Time), -1, never
				o.baselines++
				k.level, k.claim, k.flipped = src.Level, src.Claim, src.Flipped
			}
			break
		}
	}
}
