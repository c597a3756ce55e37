package rawstone_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	agent "rawstone/agent/daemon"
	collector "rawstone/collector/daemon"
	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// saleFile is the variable with the file that the ECU of CAR1 made when the car was sold.
const saleFile = "RAWSTONE_E2E_SALE"

// sell gives CAR1 to a new account as `collector vehicle transfer` does.
func sell[Desk interface {
	Transfer(ctx context.Context, vehicle, to, final string, old bool) (Done, error)
}, Done any](d Desk) error {
	_, err := d.Transfer(context.Background(), "CAR1", "new", os.Getenv(saleFile), false)
	return err
}

// credits returns what the ledger's credits hide, in their order.
func (w *world) credits(t *testing.T) (list []ledger.CreditOpening, km []uint32) {
	t.Helper()
	path := w.path("credits.json")
	if err := collector.WriteOpenings(t.Context(), w.collector(t), path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set, err := opening.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	root, err := terms.LoadRoot(w.path("program/root.pub"))
	if err != nil {
		t.Fatal(err)
	}
	err = audit.Read(t.Context(), w.path("collector/ledger"), root, func(e *ledger.Entry) error {
		if e.Type != ledger.TypeCredit {
			return nil
		}
		c, err := e.Credit()
		if o, ok := set.Credit(e.Number); ok && err == nil { // the openings may be older
			list, km = append(list, o), append(km, c.Km)
		}
		return err
	})
	if err != nil {
		t.Logf("ledger is not readable yet: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	return list, km
}

// TestSoldCar sells a car whose agent was off for days and cuts its claims elsewhere: the seller gets what the ECU counted before the
// hand-over, the buyer what it counts behind it, to the last snapshot, and the auditor finds nothing wrong with that.
func TestSoldCar(t *testing.T) {
	w := newWorld(t, 2, time.Now, drivenCar(busURL(t)), "")
	w.decide(t, "hours", "weekly")
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	start(t, func(ctx context.Context) error {
		return collector.Run(ctx, w.collector(t), collector.Deps{Logger: logger})
	})
	start(t, func(ctx context.Context) error { return sim.Run(ctx, w.car(t), sim.Deps{Logger: logger}) })
	truth := func() []sim.Truth {
		list, err := sim.GroundTruth(w.car(t))
		return must(t, list, err)
	}
	until(t, 5*time.Minute, "a few days on the road", func() bool {
		list := truth()
		return len(list) > 3 && list[len(list)-1].Opening.Counters[wire.OdometerM]-list[0].Opening.Counters[wire.OdometerM] > 5000
	})
	identity, err := sim.Identity(w.car(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(saleFile, w.write(t, "sale.pem", string(identity)))
	final, err := attest.ParseIdentity(identity)
	if err != nil {
		t.Fatal(err)
	}
	cut := final.Snapshot
	if err := collector.Administer(t.Context(), w.collector(t), time.Now, sell); err != nil {
		t.Fatal(err)
	}
	until(t, 5*time.Minute, "a day after the sale", func() bool { return len(truth()) > int(cut.Seq)+1 })
	start(t, func(ctx context.Context) error { return agent.Run(ctx, w.agent(t), agent.Deps{Logger: logger}) })
	until(t, 5*time.Minute, "credits of two accounts", func() bool {
		list, _ := w.credits(t)
		return len(list) > 0 && list[len(list)-1].Account != list[0].Account
	})

	list, km := w.credits(t)
	counted := truth()
	metres := func(seq uint64) uint32 {
		i := slices.IndexFunc(counted, func(s sim.Truth) bool { return s.Seq == seq })
		return counted[i].Opening.Counters[wire.OdometerM]
	}
	seller, from, sold := list[0].Account, counted[0].Seq, false
	for i, c := range list {
		if c.Account != seller && !sold {
			if from != cut.Seq && metres(cut.Seq)-metres(from) >= 1000 {
				t.Errorf("the seller was credited up to snapshot %d, and the car was sold at %d", from, cut.Seq)
			}
			from, sold = cut.Seq, true
		}
		if (c.Account == seller) != (c.ToSeq <= cut.Seq) {
			t.Errorf("the credit for snapshot %d is account %s's; the cut is %d", c.ToSeq, c.Account, cut.Seq)
		}
		if driven := metres(c.ToSeq) - metres(from); km[i]*1000 > driven || driven > km[i]*1300+1000 {
			t.Errorf("%d km for %d m from snapshot %d to %d", km[i], driven, from, c.ToSeq)
		}
		from = c.ToSeq
	}
	if err := collector.WriteOpenings(t.Context(), w.collector(t), w.path("openings.json")); err != nil {
		t.Fatal(err)
	}
	report, err := collector.Audit(t.Context(), w.path("collector/ledger"), w.path("program/root.pub"), w.path("openings.json"))
	if err != nil {
		t.Error(err)
	}
	t.Log(report)
}
