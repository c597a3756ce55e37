package j1939

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/can"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id   can.ID
		want ID
	}{
		{0x0CF00400, ID{3, 61444, 0x00, Global}},       // EEC1 of the engine
		{0x18FEC1EE, ID{6, 65217, 0xEE, Global}},       // VDHR of the tachograph
		{0x18EAFFF9, ID{6, PGNRequest, 0xF9, Global}},  // a tool's request to all
		{0x1CEC0321, ID{7, PGNTransport, 0x21, 0x03}},  // a session between two
		{0x18DAF110, ID{6, 0xDA00, 0x10, 0xF1}},        // ISO 15765-3 lies on the same scheme
		{0x1FFFFFFF, ID{7, MaxPGN, 0xFF, Global}},      // every bit
		{0x15EF1234, ID{5, 0x1EF00, 0x34, 0x12}},       // proprietary A2, on the data page
		{0x02F01234, ID{0, 0x2F012, 0x34, Global}},     // extended data page
		{0x00000000, ID{0, 0, 0, 0}},                   // torque control of priority 0
		{0x18EBFF00, ID{6, PGNTransportData, 0, 0xFF}}, // a broadcast's packet
	} {
		got, ok := Split(c.id | can.Extended)
		if !ok || got != c.want {
			t.Errorf("%08X is %+v, want %+v", uint32(c.id), got, c.want)
		}
		if id, err := c.want.Compose(); err != nil || id != c.id|can.Extended {
			t.Errorf("%+v is %s, %v", c.want, id, err)
		}
	}
	for _, id := range []can.ID{0x7FF, 0x18FEC1EE, can.Extended | 1<<29} {
		if s, ok := Split(id); ok {
			t.Errorf("%08X is %+v", uint32(id), s)
		}
	}
	for says, s := range map[string]ID{
		"priority 8": {8, 0xFEC1, 0, Global}, "above 262143": {6, 0x40000, 0, Global}, "last byte": {6, 0xEA01, 0, 0},
		"everybody": {6, 0xFEC1, 0, 0x21},
	} {
		if id, err := s.Compose(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %s, %v", says, id, err)
		}
	}
}

// Laws: every extended identifier comes back from Split and Compose; the filter of its group lets it pass, and lets pass
// exactly what has the same group.
func TestIdentifierLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := can.ID(rapid.Uint32Range(0, uint32(can.MaxExtended)).Draw(t, "id")) | can.Extended
		checkID(t, id)
		s, _ := Split(id)
		other := id ^ can.ID(rapid.Uint32Range(0, uint32(can.MaxExtended)).Draw(t, "flip"))
		o, _ := Split(other)
		if got, want := Filter(s.PGN).Match(other), o.PGN == s.PGN; got != want {
			t.Fatalf("filter of %05X on %s (%05X): %v", s.PGN, other, o.PGN, got)
		}
		if f := Filter(s.PGN); f.Match(id &^ can.Extended) {
			t.Fatalf("filter of %05X lets a standard identifier pass", s.PGN)
		}
	})
}

func checkID(t interface {
	Fatalf(format string, args ...any)
}, id can.ID) {
	s, ok := Split(id)
	if !ok {
		t.Fatalf("%s was not split", id)
	}
	again, err := s.Compose()
	if err != nil || again != id {
		t.Fatalf("%s came back as %s, %v", id, again, err)
	}
	if !s.PGN.Valid() || !Filter(s.PGN).Match(id) {
		t.Fatalf("%s: group %05X", id, s.PGN)
	}
}

func FuzzID(f *testing.F) {
	f.Add(uint32(0x98FEC1EE))
	f.Add(uint32(0x7E8))
	f.Add(^uint32(0))
	f.Fuzz(func(t *testing.T, raw uint32) {
		id := can.ID(raw)
		if _, ok := Split(id); ok != (id.IsExtended() && id.Valid()) {
			t.Fatalf("%s: %v", id, ok)
		} else if ok {
			checkID(t, id)
		}
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	f, err := Request(65217, 0xF9, Global)
	want := can.Frame{ID: can.Extended | 0x18EAFFF9, Len: 3, Data: [64]byte{0xC1, 0xFE, 0x00}}
	if err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	for says, ask := range map[string]func() (can.Frame, error){
		"no group number":  func() (can.Frame, error) { return Request(0xEA01, 1, 2) },
		"PGN 262144":       func() (can.Frame, error) { return Request(1<<18, 1, 2) },
		"no source":        func() (can.Frame, error) { return Request(65217, Global, 2) },
		"nobody's address": func() (can.Frame, error) { return Request(65217, 1, NoAddress) },
	} {
		if f, err := ask(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v", says, f, err)
		}
	}
	for _, m := range []Message{
		{ID: ID{PGN: PGNRequest}, Data: []byte{0xC1, 0xFE}}, {ID: ID{PGN: 65217}, Data: []byte{0xC1, 0xFE, 0}},
		{ID: ID{PGN: PGNRequest}, Data: []byte{1, 0xEA, 0}}, {ID: ID{PGN: PGNRequest}, Data: []byte{0, 0xFE, 4}},
	} {
		if p, ok := ParseRequest(&m); ok {
			t.Errorf("%+v asks for %d", m, p)
		}
	}
	m := Message{ID: ID{PGN: PGNAcknowledgement}, Data: []byte{1, 0xFF, 0xFF, 0xFF, 0xF9, 0xC1, 0xFE, 0}}
	if v, p, asker, ok := ParseAcknowledgement(&m); v != Negative || p != 65217 || asker != 0xF9 || !ok {
		t.Errorf("%d of %d to %02X, %v", v, p, asker, ok)
	}
	for _, wrong := range []Message{
		{ID: m.ID, Data: m.Data[:7]}, {ID: ID{PGN: PGNRequest}, Data: m.Data}, {ID: m.ID, Data: []byte{4, 0xFF, 0xFF, 0xFF, 0xF9, 0xC1, 0xFE, 0}},
		{ID: m.ID, Data: []byte{1, 0xFF, 0xFF, 0xFF, 0xF9, 0xC1, 0xFE, 0x10}},
	} {
		if _, _, _, ok := ParseAcknowledgement(&wrong); ok {
			t.Errorf("%+v is an acknowledgement", wrong)
		}
	}
}

// Law: a request read back is the request.
func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := PGN(rapid.Uint32Range(0, uint32(MaxPGN)).Draw(t, "pgn"))
		if p.Addressed() {
			p &^= 0xFF
		}
		source := rapid.Uint8Range(0, NoAddress).Draw(t, "source")
		to := rapid.Uint8().Filter(func(a uint8) bool { return a != NoAddress }).Draw(t, "destination")
		f, err := Request(p, source, to)
		if err != nil {
			t.Fatal(err)
		}
		id, ok := Split(f.ID)
		got, ok2 := ParseRequest(&Message{ID: id, Data: f.Payload()})
		if !ok || !ok2 || got != p || id.Source != source || id.Destination != to {
			t.Fatalf("%05X from %02X to %02X came back as %05X %+v", p, source, to, got, id)
		}
	})
}
