package trip

import (
	"fmt"
	"time"

	"rawstone/agent/internal/odometer/event"
)

// mark is an attested snapshot, and what the odometer had counted when it came.
type mark struct {
	Set    bool   `cbor:"0,keyasint"`
	Seq    uint64 `cbor:"1,keyasint"`
	Day    uint32 `cbor:"2,keyasint"`
	Metres uint32 `cbor:"3,keyasint"` // the attested counter
	Total  int64  `cbor:"4,keyasint"` // millimetres
	// Recovered and Losses are the odometer's, Recovered when that run of the agent began where it had just begun.
	Recovered int64  `cbor:"5,keyasint"`
	Losses    uint64 `cbor:"6,keyasint"`
}

// settled is the frame time (ns) after which a snapshot that comes was signed while the agent ran.
const settled = 10 * int64(time.Minute)

// A Finding is a span between two snapshots whose attested growth differs from the counted one.
type Finding struct {
	// FromDay and ToDay are program days.
	FromDay, ToDay uint32
	// Attested and Counted are metres; Attested is negative where the counter went back.
	Attested, Counted int64
}

// String is a sentence for the driver's journal. It tells distances and stays in the car.
func (f Finding) String() string {
	if f.Attested < 0 {
		return "The attested distance counter went back; no claim can be made of that."
	}
	return fmt.Sprintf("The attested distance grew by %d m between two snapshots, and %d m were counted from the car's own signals; "+
		"have the odometer checked if this recurs.", f.Attested, f.Counted)
}

// Attested compares the growth of the attested odometer (metres) since the snapshot before with the distance counted in the same
// span. True means a finding: they differ by more than the configured share and floor. Nothing of it is ever sent.
//
// Call it only for a snapshot that came by itself: one that was asked for tells of another moment. Only consecutive sequence numbers
// are compared. The ECU signs when it wakes, which may be before the agent runs, so distance that was recovered after a restart may
// lie on either side of a snapshot and widens what is allowed. Where distance may have been driven that no source could tell
// afterwards, only a counted distance above the attested one is a finding.
func (r *Recorder) Attested(programDay uint32, seq uint64, odometerM uint32) (Finding, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, total := r.mark, r.odometer.Total()
	if was.Set && seq <= was.Seq {
		return Finding{}, false
	}
	recovered := r.odometer.Recovered()
	r.mark, r.dirty = mark{true, seq, programDay, odometerM, total, recovered, r.odometer.Losses()}, true
	if r.newest-r.began < settled {
		r.mark.Recovered = r.recovered
	}
	defer r.keep()
	if !was.Set || seq != was.Seq+1 {
		return Finding{}, false
	}
	f := Finding{was.Day, programDay, int64(odometerM) - int64(was.Metres), (total - was.Total) / 1000}
	allowed := r.cfg.AttestedFloor + (recovered-was.Recovered)/1000 + max(f.Attested, f.Counted)*r.cfg.AttestedShare/1000
	lost := r.odometer.Losses() != was.Losses || r.odometer.Pending()
	if f.Attested >= 0 && f.Counted-f.Attested <= allowed && (lost || f.Attested-f.Counted <= allowed) {
		return Finding{}, false
	}
	r.odometer.Note(event.Attestation)
	return f, true
}
