package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A record is one line of a program's JSON log. Only what the journey tells is decoded.
type record struct {
	Level   string `json:"level"`
	Message string `json:"msg"`

	// Accepted is a receipt's outcome; elsewhere it is a number.
	Accepted    any    `json:"accepted"`
	Reason      string `json:"reason"`
	Error       string `json:"error"`
	Validator   string `json:"validator"`
	Km          uint32 `json:"km"`
	TierKm      uint32 `json:"tier_km"`
	Frames      uint64 `json:"frames"`
	Day         uint32 `json:"day"`
	DurationMS  int64  `json:"duration_ms"`
	ClaimBytes  int    `json:"claim_bytes"`
	Bytes       int    `json:"bytes"`
	Drop        uint64 `json:"drop"`
	Units       uint64 `json:"units"`
	Owners      int    `json:"owners"`
	MilliStones uint64 `json:"milli_stones"`

	// The app's.
	Task          string `json:"task"`
	Crystals      uint64 `json:"crystals"`
	Box           string `json:"box"`
	PrizeMilli    uint64 `json:"prize_milli_stones"`
	PrizeCrystals uint64 `json:"prize_crystals"`
	PrizeGoods    string `json:"prize_goods"`
	Item          string `json:"item"`
	Fen           uint64 `json:"fen"`
}

// prize says what a mine box held.
func (r record) prize() string {
	switch {
	case r.PrizeMilli > 0:
		return fmt.Sprintf("%.3f stones", float64(r.PrizeMilli)/1000)
	case r.PrizeCrystals > 0:
		return fmt.Sprintf("%d crystals", r.PrizeCrystals)
	case r.PrizeGoods != "":
		return r.PrizeGoods
	}
	return "nothing"
}

// A journey turns the logs of all processes into the story of each car and knows when it is complete.
type journey struct {
	mu       sync.Mutex
	out      io.Writer
	begin    time.Time
	firstDay uint32
	cars     map[string]bool // agents whose claim was accepted
	want     int             // how many agents there are
	credited uint64          // milli-stones so far
	ready    chan struct{}   // closed when the collector is
	seats    int             // validators that are yet to start
	seated   chan struct{}   // closed when all have
	complete chan struct{}   // closed at the first issuing drop after every agent holds an accepted claim
	closed   bool
}

func newJourney(out io.Writer, begin time.Time, agents int) *journey {
	return &journey{out: out, begin: begin, cars: make(map[string]bool), want: agents, ready: make(chan struct{}), seated: make(chan struct{}), complete: make(chan struct{})}
}

// wantSeats says how many validators there are.
func (j *journey) wantSeats(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seats = n
}

// line takes one line of a process's log.
func (j *journey) line(source string, text []byte) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		j.say(source, "%s", text) // a panic or a library's own words
		return
	}
	j.mu.Lock()
	said := j.tell(source, r)
	j.mu.Unlock()
	if said == "" && (r.Level == "WARN" || r.Level == "ERROR") {
		said = strings.ToLower(r.Level) + ": " + string(text)
	}
	if said != "" {
		j.say(source, "%s", said)
	}
}

// tell returns the sentence for a record, or nothing, and keeps count. The lock is held.
func (j *journey) tell(source string, r record) string {
	switch r.Message {
	case "collector ready":
		select {
		case <-j.ready:
		default:
			close(j.ready)
		}
	case "validator ready":
		if j.seats--; j.seats == 0 {
			close(j.seated)
		}
		return "validator ready with its own key and its own copy of the ledger"
	case "validator is out until the next day":
		return fmt.Sprintf("validator %s is out until the next day: %s", r.Validator, r.Error)
	case "drops wait":
		return "drops wait: " + r.Error
	case "drops go on":
		return "drops go on, and those that are due are made up"
	case "frames read":
		return fmt.Sprintf("%d frames read", r.Frames)
	case "snapshot signed":
		if j.firstDay == 0 {
			j.firstDay = r.Day
		}
		return fmt.Sprintf("attestation ECU signed the snapshot of day %d", r.Day-min(j.firstDay, r.Day))
	case "proof made":
		return fmt.Sprintf("proof of at least %d km made in %d ms; claim of %d bytes", r.TierKm, r.DurationMS, r.ClaimBytes)
	case "claim sent":
		return fmt.Sprintf("claim sent: %d bytes", r.Bytes)
	case "report sent":
		return fmt.Sprintf("noised usage report sent: %d bytes", r.Bytes)
	case "receipt received":
		if r.Accepted != true {
			return "receipt: refused, " + r.Reason
		}
		if r.Km == 0 {
			return "receipt: report accepted"
		}
		j.cars[source] = true
		return fmt.Sprintf("receipt: claim accepted, %d km credited", r.Km)
	case "account activated":
		return "an owner activated their account; its key signs what they ask for"
	case "crystals granted":
		return fmt.Sprintf("%d crystals for task %s", r.Crystals, r.Task)
	case "mine box asked for":
		return fmt.Sprintf("mine box %s asked for, %d crystals; the block after the next opens it", r.Box, r.Crystals)
	case "mine box opened":
		return fmt.Sprintf("mine box %s held %s", r.Box, r.prize())
	case "stones redeemed":
		return fmt.Sprintf("%.3f stones and CNY %.2f redeemed for %s", float64(r.MilliStones)/1000, float64(r.Fen)/100, r.Item)
	case "drop drawn":
		if r.Units == 0 {
			return ""
		}
		return fmt.Sprintf("drop %d drawn: %.1f stones among %d owners", r.Drop, float64(r.Units)/2, r.Owners)
	case "stones credited":
		if r.MilliStones == 0 {
			return ""
		}
		first := ""
		if j.credited == 0 {
			first = fmt.Sprintf(" (the first, after %.1f s)", time.Since(j.begin).Seconds())
		}
		j.credited += r.MilliStones
		if len(j.cars) == j.want && !j.closed {
			j.closed = true
			close(j.complete)
		}
		return fmt.Sprintf("%.1f stones credited to %d owners%s", float64(r.MilliStones)/1000, r.Owners, first)
	}
	return ""
}

// creditedSoFar returns the milli-stones credited.
func (j *journey) creditedSoFar() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.credited
}

func (j *journey) say(source, format string, args ...any) {
	line := fmt.Sprintf("%6.1fs  %-10s  %s\n", time.Since(j.begin).Seconds(), source, fmt.Sprintf(format, args...))
	j.mu.Lock()
	defer j.mu.Unlock()
	io.WriteString(j.out, line)
}
