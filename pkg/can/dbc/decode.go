package dbc

import "rawstone/pkg/can"

// Decode appends the readings of f to dst and returns the longer slice; it allocates only when dst is too short. Readings come in
// the order of the wants, those with AnySource behind the others. A signal is left out when the frame is too short for it, or a
// multiplexor says that the frame carries another one in its place. Remote and error frames carry none.
func (p *Plan) Decode(f *can.Frame, dst []Reading) []Reading {
	if f.ID > can.MaxStandard || f.Flags&(can.Remote|can.Error) != 0 {
		return p.decodeUnusual(f, dst)
	}
	known := p.standard[f.ID]
	if known == nil {
		return dst
	}
	return known.Decode(f, dst)
}

// decodeUnusual is Decode for every frame but a data frame with a standard identifier.
func (p *Plan) decodeUnusual(f *can.Frame, dst []Reading) []Reading {
	if f.Flags&(can.Remote|can.Error) != 0 {
		return dst
	}
	if known := p.extended[f.ID]; known != nil {
		dst = known.Decode(f, dst)
	}
	if len(p.groups) > 0 && f.ID.IsExtended() {
		if known := p.groups[anySource(f.ID).ID]; known != nil {
			dst = known.Decode(f, dst)
		}
	}
	return dst
}
