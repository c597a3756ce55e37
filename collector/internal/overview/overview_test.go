package overview

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/analytics/cost"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/store"
	"rawstone/pkg/dp"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const today = 1000

func bins(v ...analytics.Value) (out []analytics.Bin) {
	for _, x := range v {
		out = append(out, analytics.Bin{Mean: x, Share: x, Sum: x})
	}
	return out
}

func TestChart(t *testing.T) {
	few, wide := analytics.Value{Estimate: dp.Estimate{Suppressed: dp.FewReports}}, analytics.Value{Estimate: dp.Estimate{Suppressed: dp.WideError}}
	value := func(of float64) analytics.Value {
		return analytics.Value{Estimate: dp.Estimate{Mean: of, Low: of - 1, High: of + 1}, Bias: -of / 2}
	}
	layout := wire.Layouts()[0]
	r := analytics.Result{Privacy: cost.Privacy{Epsilon: 1, Delta: 1e-6, YearEpsilon: 9.1}}
	got := chart(r, analytics.Family{Layout: layout, Fewer: "few", Bins: bins(few, few)}, dashboard.Mean)
	if got.Suppressed != string(dp.FewReports) || got.Reports != 0 || got.Fewer != "few" || got.Family != wire.FamilyHours {
		t.Errorf("a chart without a bin to show: %+v", got)
	}
	shown := analytics.Bin{Mean: value(2), Share: value(3), Sum: value(4)}
	for measure, of := range map[dashboard.Measure]float64{dashboard.Mean: 2, dashboard.Share: 3, dashboard.Total: 4} {
		got = chart(r, analytics.Family{Layout: layout, N: 1200, Bins: append(bins(wide), shown)}, measure)
		want := dashboard.Family{Family: wire.FamilyHours, Reports: 1200, Measure: measure, Bins: []dashboard.Bin{
			{Suppressed: string(dp.WideError)}, {Mean: of, Low: of - 1, High: of + 1, Bias: -of / 2},
		}, Privacy: "cost, for all charts together: ε = 1, δ = 1e-06 a report, ε = 9.1 a year"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	r = analytics.Result{Categorical: true, Privacy: cost.Privacy{Epsilon: 0.5, YearEpsilon: 3}}
	got = chart(r, analytics.Family{Layout: layout, N: 1200, Bins: []analytics.Bin{shown}}, dashboard.Mean)
	if got.Measure != dashboard.Share || got.Bins[0].Mean != 3 || !got.Categorical || got.Privacy != "cost: ε = 0.5 a report, 3.0 a year" {
		t.Errorf("categorical: %+v", got)
	}
}

// world is records with a log of two charters of which the second is in force.
type world struct {
	Estimation
	old wire.Hash
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	program := wire.Hash{1}
	d := &terms.Documents{
		ProgramID: program, Program: &terms.Program{Board: wire.KeySet{public}, BoardQuorum: 1, Timing: terms.Timing{DayS: 86400, DropS: 600}},
	}
	w := &world{}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		for serial := uint16(1); serial <= 2; serial++ {
			c := &terms.Charter{Version: wire.Version, Program: program, Serial: serial, TierRatioMilli: 1200, Usage: terms.Usage{
				Families: wire.FamilyTrips, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600, Scale: []uint16{1, 1, 30, 1, 1}, YearlyDispatches: 52,
			}}
			signed, err := terms.SealCharter([]crypto.Signer{key}, c)
			if err != nil {
				return err
			}
			_, id, err := terms.OpenCharter(d.Program, program, signed)
			if err != nil {
				return err
			}
			if _, err := tx.AddEntry(t.Context(), ledger.TypeCharter, signed); err != nil {
				return err
			}
			if serial == 1 {
				w.old = id
			}
			d.Charter, d.CharterID = c, id
		}
		return errors.Join(tx.NumberEntries(t.Context(), 10), tx.AddAccount(t.Context(), "A"))
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Estimation = Estimation{
		Records: db, Documents: d, Clock: terms.Clock{Timing: d.Timing, Now: func() time.Time { return time.Unix(today*86400+1, 0) }}, Dir: t.TempDir(),
	}
	return w
}

// report adds a vehicle's report of trips.
func (w *world) report(ctx context.Context, tx *store.Tx, vehicle string, day uint32, charter wire.Hash, trips int32) error {
	vector := make([]byte, 4*wire.VectorLen)
	for i := 34; i < 44; i++ {
		binary.BigEndian.PutUint32(vector[4*i:], uint32(trips*30))
	}
	return tx.AddReport(ctx, store.Report{
		Vehicle: vehicle, Epoch: day, Families: wire.FamilyTrips, Vector: vector, Charter: charter, Submission: wire.ID([]byte(vehicle)), Charge: wire.NewCharge(1, [32]byte{1}),
	})
}

// TestUsage goes from records to charts: the window ends yesterday, models are told apart, an older charter is shown apart.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	err := w.Records.Update(t.Context(), func(tx *store.Tx) (err error) {
		for i := range 3300 {
			id := "V" + strings.Repeat("A", i%20) + string(rune('A'+i/20%26)) + string(rune('A'+i/520))
			v := store.Vehicle{ID: id, Account: "A", Model: []string{"Granite", "Onyx", ""}[i%3]}
			day, charter := uint32(today-1), w.Documents.CharterID
			switch {
			case i >= 3200:
				day = today // is not over
			case i%3 == 2:
				charter, day = w.old, today-20
			}
			err = errors.Join(err, tx.AddVehicle(t.Context(), v), w.report(t.Context(), tx, id, day, charter, int32(2+i%3)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := Overview{Records: w.Records, Estimator: e, Clock: w.Clock}
	show := func(s dashboard.Selection) dashboard.Usage {
		t.Helper()
		u, err := o.Usage(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	all := show(dashboard.Selection{Span: dashboard.FourWeeks, Measure: dashboard.Mean})
	if d := cmp.Diff([]string{"Granite", "Onyx"}, all.Models); d != "" {
		t.Error(d)
	}
	if all.Window != "From program day 972 (1972-08-30) to program day 999 (1972-09-26), the last that is over." {
		t.Errorf("window %q", all.Window)
	}
	if len(all.Charters) != 2 || all.Charters[0].Name != "Under charter 2, in force" || all.Charters[1].Name != "Under charter 1, an earlier one" {
		t.Fatalf("charters %+v", all.Charters)
	}
	for i, want := range []struct {
		n    uint64
		mean float64
	}{{2100, 2.5}, {1100, 4}} {
		f := all.Charters[i].Families
		if len(f) != 1 || f[0].Reports != want.n || f[0].Bins[0].Mean != want.mean {
			t.Errorf("charter %d: %+v, want %+v", i, f, want)
		}
	}
	if !strings.Contains(all.Charters[0].Privacy, "Each report is (1, 1e-06)-differentially private in the car; a year of 52 composes to ε = 9.1") ||
		!strings.HasPrefix(all.Charters[0].Clipping, "Clipping changes 1.0 %") {
		t.Errorf("%+v", all.Charters[0])
	}
	week := show(dashboard.Selection{Span: dashboard.Week, Measure: dashboard.Mean, Model: "Onyx"})
	if len(week.Charters) != 1 || week.Charters[0].Name != "" || week.Charters[0].Families[0].Reports != 1100 || week.Charters[0].Families[0].Bins[0].Mean != 3 {
		t.Errorf("a week of one model: %+v", week.Charters)
	}
}

// TestErasure: the records' erasures reach the estimates by the next day. Fewer than 1,000 reports would not be told.
func TestErasure(t *testing.T) {
	const mine, others = 600, 1000
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecu, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	update := func(fn func(*store.Tx) error) {
		t.Helper()
		if err := w.Records.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *store.Tx) error {
		err := tx.AddAccount(ctx, "B")
		for i := range mine + others {
			v := store.Vehicle{ID: fmt.Sprintf("V%d", i), Account: "A"}
			if i >= mine {
				v.Account = "B"
			}
			err = errors.Join(err, tx.AddVehicle(ctx, v), w.report(ctx, tx, v.ID, today-1, w.Documents.CharterID, 3))
		}
		return errors.Join(err, tx.AddECU(ctx, ecu, []byte("certificate")), tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: "V0", Account: "A", ECU: ecu}),
			tx.NumberEntries(ctx, 10))
	})
	now := time.Unix(today*86400+1, 0)
	w.Clock.Now = func() time.Time { return now }
	e, err := w.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	count := func() uint64 {
		t.Helper()
		err := e.Refresh(ctx)
		r, err2 := e.Estimate(analytics.Query{Window: analytics.Ending(today, analytics.Week)})
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return r[0].Families[0].N
	}
	if n := count(); n != mine+others {
		t.Fatalf("n = %d, want %d", n, mine+others)
	}
	update(func(tx *store.Tx) error {
		err := errors.Join(tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: ecu.ID()}), tx.NumberEntries(ctx, 10))
		for i := range mine {
			err = errors.Join(err, tx.RevokeVehicle(ctx, fmt.Sprintf("V%d", i)))
		}
		_, err1 := tx.AddEntry(ctx, ledger.TypeBlock, []byte{1}) // the ledger is done with what lies before a block
		err = errors.Join(err, err1, tx.NumberEntries(ctx, 10))
		_, err2 := tx.Erase(ctx, "A", nil)
		return errors.Join(err, err2)
	})
	now = now.Add(24 * time.Hour)
	if n := count(); n != others {
		t.Errorf("n = %d the day after an erasure, want %d", n, others)
	}
}

// TestBadRecords: what intake never stores spoils nothing, and a charter of the log that is none is said.
func TestBadRecords(t *testing.T) {
	w := newWorld(t)
	err := w.Records.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AddVehicle(t.Context(), store.Vehicle{ID: "V1", Account: "A"}), tx.AddReport(t.Context(), store.Report{
			Vehicle: "V1", Epoch: today - 1, Families: wire.FamilyTrips, Vector: make([]byte, 7), Charter: w.Documents.CharterID, Charge: wire.NewCharge(1, [32]byte{1}),
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := w.Open(t.Context())
	if err == nil {
		err = e.Refresh(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	err = w.Records.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AddEntry(t.Context(), ledger.TypeCharter, []byte("none"))
		return errors.Join(err, tx.NumberEntries(t.Context(), 10))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot read charters: entry 2 of the log: ") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkRecords reads and merges reports from SQLite's records.
func BenchmarkRecords(b *testing.B) {
	const n = 100_000
	w := newWorld(b)
	w.Dir = ""
	err := w.Records.Update(b.Context(), func(tx *store.Tx) error {
		for i := range n {
			id := "V" + strconv.Itoa(i%10_000)
			if i < 10_000 {
				if err := tx.AddVehicle(b.Context(), store.Vehicle{ID: id, Account: "A", Model: "M" + strconv.Itoa(i%30)}); err != nil {
					return err
				}
			}
			if err := w.report(b.Context(), tx, id, today-1-uint32(i/10_000), w.Documents.CharterID, 5); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		e, err := w.Open(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := e.Refresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*n/b.Elapsed().Seconds(), "reports/s")
}
