// Package event names what keeps distance from being trusted, counts it, and says it once an episode. It keeps one state for each
// kind whatever happens, and never holds a value of a counter.
package event

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// A Kind is something that keeps distance from being trusted.
type Kind uint8

// The kinds.
const (
	Jump             Kind = iota // a step that no car drives in the time
	Rollback                     // a counter that decreased
	UnitFlip                     // a step by the factor between miles and kilometres
	NotAvailable                 // the sender has no value, or one that no vehicle has
	TimeBackwards                // frame time went back
	Frozen                       // a counter that stands while the speed says that the car drives
	Disagreement                 // two sources that grow differently
	ImplausibleSpeed             // a speed beyond what the car can do
	Restart                      // a trip meter began anew, or distance was recovered after the agent was off
	UnseenWrap                   // a short counter that may have wrapped between two samples
	TooManySources               // more senders of distance or speed than are tracked
	Attestation                  // the attested counter grew differently from the counted distance
	NumKinds
)

func table() [NumKinds][2]string {
	return [...][2]string{
		Jump:             {"jump", "A distance counter jumped further than a car can drive; the jump is not counted."},
		Rollback:         {"rollback", "A distance counter went back; nothing is counted from it until it is steady."},
		UnitFlip:         {"unit_flip", "A distance counter changed between miles and kilometres; the change is not counted."},
		NotAvailable:     {"not_available", "A sensor says that it has no value; other sources are used meanwhile."},
		TimeBackwards:    {"time_backwards", "The clock went back; what was driven across the change may not be counted."},
		Frozen:           {"frozen", "A distance counter stands still while the car drives; other sources are used until it moves."},
		Disagreement:     {"disagreement", "Two sources of distance disagree; only the smaller distance is counted until they agree."},
		ImplausibleSpeed: {"implausible_speed", "A speed that no car reaches was ignored."},
		Restart:          {"restart", "A trip meter began anew, or distance driven while the agent was off was recovered; neither is a fault."},
		UnseenWrap:       {"unseen_wrap", "A short counter was not seen for too long to know its distance; only other sources count that part."},
		TooManySources:   {"too_many_sources", "More devices send distance or speed than are followed; the others are ignored."},
		Attestation:      {"attestation", "The attested distance differs from the distance counted here; have the odometer checked if it recurs."},
	}
}

// String returns the event's name, as metrics and logs have it.
func (e Kind) String() string { return table()[min(e, NumKinds-1)][0] }

// Meaning tells the driver what happened and what follows from it.
func (e Kind) Meaning() string { return table()[min(e, NumKinds-1)][1] }

// State is how often an event happened, and the frame time of the last time in nanoseconds.
type State struct {
	Count uint64 `cbor:"0,keyasint"`
	Last  int64  `cbor:"1,keyasint"`
}

// A Report is one kind of event for the driver.
type Report struct {
	Kind Kind
	State
	// Source is the name of the source that it was last seen on in this run; empty for none or several.
	Source string
}

// A Log counts events. It is not safe for concurrent use.
type Log struct {
	log      *slog.Logger
	counters [NumKinds]prometheus.Counter
	state    [NumKinds]State
	source   [NumKinds]string
}

// NewLog returns a log that goes on from a state. metrics may be nil.
func NewLog(log *slog.Logger, metrics prometheus.Registerer, saved [NumKinds]State) (*Log, error) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rawstone_odometer_events_total", Help: "Samples that kept distance from being trusted, by what they showed."}, []string{"event"})
	if metrics != nil {
		if err := metrics.Register(vec); err != nil {
			return nil, err
		}
	}
	l := &Log{log: log, state: saved}
	for e := range NumKinds {
		l.counters[e] = vec.WithLabelValues(e.String())
	}
	return l, nil
}

// Note counts an event at a frame time (ns) and logs it where it begins an episode.
func (l *Log) Note(e Kind, t int64, source string, begins bool) {
	l.counters[e].Inc()
	l.state[e].Count++
	l.state[e].Last, l.source[e] = t, source
	if begins {
		l.log.Warn("odometer event", "event", e.String(), "source", source)
	}
}

// State returns what to keep.
func (l *Log) State() [NumKinds]State { return l.state }

// Reports returns the kinds that happened.
func (l *Log) Reports() (out []Report) {
	for e := range NumKinds {
		if s := l.state[e]; s.Count > 0 {
			out = append(out, Report{e, s, l.source[e]})
		}
	}
	return out
}
