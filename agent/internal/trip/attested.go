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

// longSpan is the distance of a long comparison in floors: long enough for a share to show that hides below the floor of a day.
const longSpan = 40

// Attested compares the growth of the attested odometer (metres) with the distance counted in the same span: since the snapshot
// before; and up to that one from an older one, up to 40 floors of distance, so that a counter which runs high or low by little each
// day is found. True means a finding: they differ by more than the configured share and floor. Nothing of it is ever sent.
//
// Call it for a snapshot that was asked for only where the car has not moved in this run of the agent: it tells of another moment. Of
// several that were asked for, which tell of as many moments before this run, only the first is compared, with what came before the
// run. Only consecutive sequence numbers are compared. The ECU signs when it wakes, which may be before the agent runs, so distance that was recovered after a restart may
// lie on either side of a snapshot and widens what is allowed. Where distance may have been driven that no source could tell
// afterwards, only a counted distance above the attested one is a finding.
func (r *Recorder) Attested(programDay uint32, seq uint64, odometerM uint32, asked bool) (f Finding, found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, base := r.mark, r.base
	if was.Set && seq <= was.Seq {
		return Finding{}, false
	}
	is := mark{true, seq, programDay, odometerM, r.odometer.Total(), r.odometer.Recovered(), r.odometer.Losses()}
	var long Finding
	goesOn := was.Set && base.Set && seq == was.Seq+1 && !(asked && r.answered)
	r.answered = asked
	if goesOn {
		f, found = r.differ(was, is, is.Losses != was.Losses || r.odometer.Pending())
		// What was not recovered yet when the snapshot before came has been by now.
		then := was
		then.Recovered = is.Recovered
		longFound := false
		if long, longFound = r.differ(base, then, is.Losses != base.Losses || is.Total == was.Total); longFound && !found {
			f, found = long, true
		}
	}
	if r.newest-r.began < settled {
		is.Recovered = r.recovered
	}
	switch r.mark = is; {
	case !goesOn || found:
		r.base = is
	case max(long.Attested, long.Counted) >= longSpan*r.cfg.AttestedFloor:
		r.base = was
	}
	if found {
		r.odometer.Note(event.Attestation)
	}
	r.dirty = true
	r.keep()
	return f, found
}

// differ compares the growths between two snapshots. lost means that nothing can tell some of the distance.
func (r *Recorder) differ(was, is mark, lost bool) (Finding, bool) {
	f := Finding{was.Day, is.Day, int64(is.Metres) - int64(was.Metres), (is.Total - was.Total) / 1000}
	allowed := r.cfg.AttestedFloor + (is.Recovered-was.Recovered)/1000 + max(f.Attested, f.Counted)*r.cfg.AttestedShare/1000
	return f, f.Attested < 0 || f.Counted-f.Attested > allowed || !lost && f.Attested-f.Counted > allowed
}
