package outbox

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/wire"
)

// TestEveryEntryHasAnEnd plays what may become of a submission: answered, taken back, without room, lost with the power.
func TestEveryEntryHasAnEnd(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	db, err := flash.Open(flash.Config{Dir: t.TempDir(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := spool.Open(spool.Config{DB: db, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{DB: db, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	full := &fullSpool{Spool: s}
	o := Outbox{Spool: full, Journal: j, Now: func() time.Time { return now }}
	put := func(body string) error {
		return o.Put(Submission{Kind: wire.KindReport, Body: []byte(body), Contents: "what", Cost: "how much", Due: now})
	}
	outcome := func(body, want string) {
		t.Helper()
		entries, err := j.List(0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Submission == wire.ID([]byte(body)).String() && strings.Contains(e.Outcome, want) && (want != "" || e.Outcome == "") {
				return
			}
		}
		t.Errorf("no entry of %s says %q", body, want)
	}
	for _, body := range []string{"answered", "off", "lost"} {
		if err := put(body); err != nil {
			t.Fatal(err)
		}
		outcome(body, "")
	}
	if err := o.Finish(wire.ID([]byte("answered")), "accepted"); err != nil || s.Has(wire.ID([]byte("answered"))) {
		t.Errorf("an answered submission is kept: %v", err)
	}
	outcome("answered", "accepted")
	n, err := o.Withdraw(wire.KindReport, TurnedOff, func(body []byte) bool { return string(body) == "off" })
	if n != 1 || err != nil || s.Has(wire.ID([]byte("off"))) || !s.Has(wire.ID([]byte("lost"))) {
		t.Errorf("%d taken back, %v", n, err)
	}
	outcome("off", "turned off")
	// What finds no room and then does is as if nothing had been; what does not never left.
	full.full = true
	for _, body := range []string{"late", "never"} {
		if err := put(body); !errors.Is(err, errFull) {
			t.Fatal(err)
		}
	}
	full.full = false
	if err := put("late"); err != nil {
		t.Fatal(err)
	}
	if err := o.Abandon(); err != nil {
		t.Fatal(err)
	}
	outcome("late", "")
	outcome("never", "never left")
	// The power goes between journal and spool.
	if err := s.Free(wire.ID([]byte("lost"))); err != nil {
		t.Fatal(err)
	}
	if err := o.Sweep(); err != nil {
		t.Fatal(err)
	}
	outcome("lost", "may or may not have left")
	outcome("late", "")
	if waiting := j.Waiting(); len(waiting) != 1 {
		t.Errorf("%d entries wait for an end", len(waiting))
	}
}

var errFull = errors.New("full")

type fullSpool struct {
	Spool
	full bool
}

func (s *fullSpool) Put(kind wire.Kind, b []byte, created, due time.Time) (wire.Hash, []wire.Hash, error) {
	if s.full {
		return wire.Hash{}, nil, errFull
	}
	return s.Spool.Put(kind, b, created, due)
}
