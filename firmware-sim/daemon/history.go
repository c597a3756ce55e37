package daemon

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

const (
	historyFile = "snapshots.jsonl"
	maxHistory  = 64 << 20
)

// Truth is a snapshot that an ECU signed and what it hides.
type Truth struct {
	Seq        uint64
	Day        uint32
	Commitment wire.Commitment
	Opening    wire.Opening
}

// historyLine is a Truth as a line of the history, bytes in hexadecimal.
type historyLine struct {
	Seq        uint64        `json:"seq"`
	Day        uint32        `json:"day"`
	Commitment string        `json:"commitment"`
	Counters   wire.Counters `json:"counters"`
	Salt       string        `json:"salt"`
}

func (l *historyLine) truth() (t Truth, err error) {
	t = Truth{Seq: l.Seq, Day: l.Day, Opening: wire.Opening{Counters: l.Counters}}
	c, err1 := hex.DecodeString(l.Commitment)
	s, err2 := hex.DecodeString(l.Salt)
	if err := errors.Join(err1, err2); err != nil {
		return t, err
	}
	if copy(t.Commitment[:], c) != len(c) || copy(t.Opening.Salt[:], s) != len(s) || len(c) != len(t.Commitment) || len(s) != len(t.Opening.Salt) {
		return t, errors.New("its commitment or salt has a wrong length")
	}
	return t, nil
}

// record returns what keeps the history of a configuration's ECU, or nil.
func record(cfg *Config) func(attest.Message) error {
	if !cfg.History {
		return nil
	}
	return func(m attest.Message) error { return appendHistory(cfg.State, m) }
}

func appendHistory(dir string, m attest.Message) (err error) {
	line, err := json.Marshal(historyLine{
		Seq: m.Snapshot.Seq, Day: m.Snapshot.Day, Commitment: hex.EncodeToString(m.Snapshot.Commitment[:]),
		Counters: m.Opening.Counters, Salt: hex.EncodeToString(m.Opening.Salt[:]),
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, historyFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write ECU history: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// GroundTruth returns every snapshot that the ECU of a configuration with `history: true` has signed, in order of sequence numbers. A snapshot that a
// crash made the ECU sign again stands there as it was signed last: the earlier one was never sent.
func GroundTruth(cfg *Config) ([]Truth, error) {
	path := filepath.Join(cfg.State, historyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read ECU history: %w", err)
	}
	if info.Size() > maxHistory {
		return nil, fmt.Errorf("cannot read ECU history %s: more than %d bytes", path, maxHistory)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read ECU history: %w", err)
	}
	var all []Truth
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var l historyLine
		err := json.Unmarshal([]byte(line), &l)
		var t Truth
		if err == nil {
			t, err = l.truth()
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read ECU history %s: line %d: %w", path, i+1, err)
		}
		if n := len(all); n > 0 && all[n-1].Seq == t.Seq {
			all = all[:n-1]
		}
		all = append(all, t)
	}
	return all, nil
}
