package usage

import (
	"context"
	"crypto"
	"testing"
	"time"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// shelf is a log: charters with the days of the blocks behind them, -1 for none yet.
type shelf struct {
	t        *testing.T
	charters []ledger.Entry // newest first
	days     map[uint64]int64
}

func (s shelf) LastEntries(context.Context, ledger.Type, int) ([]ledger.Entry, error) {
	return s.charters, nil
}

func (s shelf) EntriesAfter(_ context.Context, t ledger.Type, after uint64, limit int) ([]ledger.Entry, error) {
	if t != ledger.TypeBlock || limit != 1 {
		s.t.Errorf("read %d of %v", limit, t)
	}
	if s.days[after] < 0 {
		return nil, nil
	}
	payload, err := ledger.EncodePayload(&ledger.Block{Day: uint32(s.days[after]), Proofs: []ledger.Proof{{}}})
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := (&ledger.Sealed{Payload: payload}).Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	return []ledger.Entry{{Type: ledger.TypeBlock, Body: body}}, nil
}

// TestReadEarlier: an earlier charter holds up to the day after the block behind the next one, and up to tomorrow where that is not in the log
// or has no block behind it; the one in force is none of them.
func TestReadEarlier(t *testing.T) {
	key := vectortest.Key(t, "board")
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	d := &terms.Documents{ProgramID: wire.Hash{1}, Program: &terms.Program{Board: wire.KeySet{public}, BoardQuorum: 1}}
	clock := terms.Clock{Timing: terms.Timing{DayS: 86400, DropS: 600}, Now: func() time.Time { return time.Unix(today*86400, 0) }}
	charter := func(serial uint16) *terms.Charter {
		return &terms.Charter{Version: wire.Version, Program: d.ProgramID, Serial: serial, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200, Usage: gaussianUsage()}
	}
	s := shelf{t: t, days: map[uint64]int64{20: 950, 30: -1}}
	for serial := uint16(3); serial >= 1; serial-- {
		body, err := terms.SealCharter([]crypto.Signer{key}, charter(serial))
		if err != nil {
			t.Fatal(err)
		}
		s.charters = append(s.charters, ledger.Entry{Number: uint64(serial) * 10, Type: ledger.TypeCharter, Body: body})
	}
	const block = 950
	for inForce, want := range map[uint16][]uint32{1: nil, 2: {block + 1}, 3: {today + 1, block + 1}, 4: {today + 1, today + 1, block + 1}} {
		d.Charter = charter(inForce)
		got, err := ReadEarlier(t.Context(), s, d, clock)
		if err != nil || len(got) != len(want) {
			t.Fatalf("before charter %d: %d earlier ones, %v; want %d", inForce, len(got), err, len(want))
		}
		for i, e := range got {
			if _, id, err := terms.OpenCharter(d.Program, d.ProgramID, s.charters[len(s.charters)-len(got)+i].Body); err != nil || e.ID != id || e.Until != want[i] {
				t.Errorf("before charter %d: charter %d up to %d, %v; want %d", inForce, e.Charter.Serial, e.Until, err, want[i])
			}
		}
	}
	s.charters[1].Body = []byte("none")
	if _, err := ReadEarlier(t.Context(), s, d, clock); err == nil {
		t.Error("read a charter that is none")
	}
}
