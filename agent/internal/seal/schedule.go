package seal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// schedule says when dispatches are. Phase and delays come from a secret drawn once, so that they survive a crash, do not depend
// on when the car was switched on, and tell nothing about each other.
type schedule struct {
	secret [32]byte
	every  uint32 // program days
	max    time.Duration
}

func (s *Sealer) schedule() schedule {
	return schedule{secret: s.current().Secret, every: uint32(s.cfg.EveryDays), max: s.cfg.MaxDelay}
}

func (s schedule) draw(label string, n, below uint64) uint64 {
	mac := hmac.New(sha256.New, s.secret[:])
	mac.Write([]byte("rawstone/schedule/v1/" + label + "\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, n))
	return binary.BigEndian.Uint64(mac.Sum(nil)) % below // the bias is below 2⁻¹⁴ for a month in nanoseconds
}

func (s schedule) phase() uint32 {
	return uint32(s.draw("phase", uint64(s.every), uint64(s.every)))
}

// last returns the latest boundary on or before day, false before the first.
func (s schedule) last(day uint32) (uint32, bool) {
	p := s.phase()
	if day < p {
		return 0, false
	}
	return day - (day-p)%s.every, true
}

// next returns the first boundary after day.
func (s schedule) next(day uint32) uint64 {
	if b, ok := s.last(day); ok {
		return uint64(b) + uint64(s.every)
	}
	return uint64(s.phase())
}

// due returns when the dispatch of a boundary may leave.
func (s schedule) due(t terms.Timing, boundary uint32, kind wire.Kind) time.Time {
	return t.DayStart(boundary).Add(time.Duration(s.draw(string(kind), uint64(boundary), uint64(s.max))))
}
