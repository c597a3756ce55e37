// Package evidence attacks the reports that leave a car: an adversary who sees all of them, asks again and again, cuts the power
// between any two steps, puts older copies of the flash back, and averages what it gets. The real report maker, ledger and store must
// give it one draw for each charge and no more charges than the budget has; cars that are broken on purpose must be caught.
//
// What one draw reveals is measured in pkg/dp/evidence. RAWSTONE_PRIVACY=long takes more weeks and more retries. The package has tests
// only.
package evidence

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/report"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// allowed is the number of releases that the charter gives a year.
const allowed = 6

func charter() *terms.Charter {
	return &terms.Charter{
		Version: wire.Version, Program: wire.ID([]byte("program")), Serial: 1, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200,
		Usage: terms.Usage{
			Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 900, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: allowed,
		},
	}
}

// drawn is the mechanism that the charter asks for, for mutants that draw beside the ledger and for knowing σ.
func drawn(t *testing.T) *dp.Gaussian {
	t.Helper()
	k := make([]dp.Coordinate, wire.VectorLen)
	for i := range k {
		k[i] = dp.Coordinate{Max: 900, Scale: 1}
	}
	g, err := dp.NewGaussian(dp.Params{Epsilon: 1, Delta: 1e-6, Clip: 900, Coordinates: k})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// errCut is a power cut: whatever ran has ended there.
var errCut = errors.New("the power went")

// usage is one week as the car counts it. cut says that the power goes before it is marked as told.
type usage struct {
	totals [wire.VectorLen]int64
	cut    bool
}

func (u *usage) Take(context.Context) ([wire.VectorLen]int64, func(context.Context) error, error) {
	return u.totals, func(context.Context) error {
		if u.cut {
			return errCut
		}
		return nil
	}, nil
}

// device signs reports. cut says that the power goes between noise and signature; what was to be signed is then lost.
type device struct {
	crypto.Signer
	cut bool
}

func (d *device) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if d.cut {
		return nil, errCut
	}
	return d.Signer.Sign(r, digest, opts)
}

// car is a vehicle that the adversary can do everything to but read its memory.
type car struct {
	t      *testing.T
	dir    string
	usage  usage
	device device
	db     *badger.DB
	ledger *budget.Ledger
	maker  *report.Maker
	// record is what the collector holds of the ledger: the charge of the newest report that came.
	record wire.Charge
	// asks says whether the car hears the record before it reports, as the contract with the collector wants.
	asks bool
}

func newCar(t *testing.T, asks bool) *car {
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &car{t: t, dir: t.TempDir(), device: device{Signer: key}, asks: asks}
	for i := range c.usage.totals {
		c.usage.totals[i] = int64(10 * (i % 7))
	}
	c.start()
	t.Cleanup(c.stop)
	return c
}

func (c *car) start() {
	c.t.Helper()
	var err error
	if c.db, err = flash.Open(flash.Config{Dir: filepath.Join(c.dir, "store"), Logger: slog.New(slog.DiscardHandler)}); err != nil {
		c.t.Fatal(err)
	}
	rules := charter()
	limit, err := budget.YearLimit(report.Cost(&rules.Usage), int64(rules.Usage.YearlyDispatches))
	if err != nil {
		c.t.Fatal(err)
	}
	if c.ledger, err = budget.New(budget.Config{DB: c.db, Anchor: filepath.Join(c.dir, "budget.anchor"), Limit: limit}); err != nil {
		c.t.Fatal(err)
	}
	c.usage.cut, c.device.cut = false, false
	c.maker, err = report.New(report.Config{
		Vehicle: "CAR1", Charter: rules, CharterID: wire.ID([]byte("charter")), Families: func() wire.Family { return wire.AllFamilies },
		Device: &c.device, Budget: c.ledger, Usage: &c.usage, Heard: func() error { return nil },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if c.asks {
		// A refusal is the ledger's to keep: the car starts all the same.
		if err := c.ledger.Compare(c.record.Index(), c.record.Head()); err != nil && !errors.Is(err, budget.ErrRolledBack) {
			c.t.Fatal(err)
		}
	}
}

func (c *car) stop() {
	if c.ledger != nil {
		c.ledger.Close()
	}
	c.db.Close()
}

func (c *car) restart() {
	c.stop()
	c.start()
}

// report asks for the week's report and returns its values, and false where there is none.
func (c *car) report(epoch uint32) ([]int64, bool) {
	c.t.Helper()
	sealed, lost, err := c.maker.Make(c.t.Context(), epoch, &c.usage)
	if err != nil && !errors.Is(err, errCut) {
		c.t.Fatal(err)
	}
	if err != nil || lost != nil {
		return nil, false
	}
	public, err := wire.NewPublicKey(c.device.Public())
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := wire.OpenReport(public, "CAR1", sealed)
	if err != nil {
		c.t.Fatal(err)
	}
	if r.Charge.Index() > c.record.Index() {
		c.record = r.Charge
	}
	return r.Values(), true
}

// copyTo and putBack are the adversary's copy of the flash, store and anchor both.
func (c *car) copyTo(dir string) {
	c.stop()
	if err := os.CopyFS(dir, os.DirFS(c.dir)); err != nil {
		c.t.Fatal(err)
	}
	c.start()
}

func (c *car) putBack(dir string) {
	c.stop()
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Fatal(err)
	}
	if err := os.CopyFS(c.dir, os.DirFS(dir)); err != nil {
		c.t.Fatal(err)
	}
	c.start()
}

// heard is everything that left the car, by week.
type heard map[uint32][][]int64

// complaints judges what left: an epoch with two different draws, more releases than the charter gives, or an average that comes nearer
// the truth than one draw does. figures tells the numbers.
func (h heard) complaints(truth [wire.VectorLen]int64, sigma float64) (figures string, complaints []string) {
	most, total := 0, 0
	var square float64
	for _, reports := range h {
		distinct := slices.Clone(reports)
		slices.SortFunc(distinct, slices.Compare[[]int64])
		distinct = slices.CompactFunc(distinct, slices.Equal[[]int64])
		most = max(most, len(distinct))
		total += len(distinct)
		for i, v := range truth {
			var mean float64
			for _, r := range reports {
				mean += float64(r[i]) / float64(len(reports))
			}
			square += (mean - float64(v)) * (mean - float64(v)) / sigma / sigma
		}
	}
	n := float64(len(h) * wire.VectorLen)
	spread := math.Sqrt(square / n)
	if most > 1 {
		complaints = append(complaints, fmt.Sprintf("a week was drawn %d times", most))
	}
	if total > allowed {
		complaints = append(complaints, fmt.Sprintf("%d releases in a year that has %d", total, allowed))
	}
	// The square of one draw's error has variance 2: six standard deviations below 1.
	if spread*spread < 1-6*math.Sqrt(2/n) {
		complaints = append(complaints, fmt.Sprintf("averages err by %.2f σ", spread))
	}
	return fmt.Sprintf("%d\t%d\t%d\t%.2f σ", len(h), most, total, spread), complaints
}

// retry asks for one week's report again and again, with the power going at a random step between requests.
func retry(c *car, source *rand.Rand, epoch uint32, times int, ask func(uint32) ([]int64, bool), h heard) {
	for range times {
		switch source.IntN(12) {
		case 0:
			c.restart()
		case 1:
			c.device.cut = true
			ask(epoch)
			c.restart()
		case 2:
			c.usage.cut = true
			ask(epoch)
			c.restart()
		}
		if values, ok := ask(epoch); ok {
			h[epoch] = append(h[epoch], values)
		}
	}
}

func TestAveraging(t *testing.T) {
	weeks, times := 10, 12
	if os.Getenv("RAWSTONE_PRIVACY") == "long" {
		weeks, times = 50, 40
	}
	g := drawn(t)
	source := rand.New(rand.NewPCG(11, 1))
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "car\tweeks heard\tdraws a week, at most\treleases\taverage errs by\tcaught")
	judge := func(name string, c *car, h heard, mutant bool) {
		t.Helper()
		figures, complaints := h.complaints(c.usage.totals, g.Sigma())
		verdict := "-"
		if mutant {
			verdict = strings.Join(complaints, ", ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, figures, verdict)
		if mutant && len(complaints) == 0 {
			t.Errorf("%s: not caught: %s", name, figures)
		}
		if !mutant && len(complaints) > 0 {
			t.Errorf("%s: %s", name, strings.Join(complaints, "; "))
		}
	}
	epochs := func(do func(epoch uint32)) {
		for week := range uint32(weeks) {
			do(100 + 7*week)
		}
	}

	c, h := newCar(t, true), heard{}
	epochs(func(epoch uint32) { retry(c, source, epoch, times, c.report, h) })
	judge("as built: asked again, power cut at random", c, h, false)
	if len(h) < allowed/2 || len(h) > allowed {
		t.Errorf("%d weeks were heard of a car that may tell %d: this measures nothing", len(h), allowed)
	}

	// An older flash is put back after every week. The car hears the collector's record at each start.
	rolled := func(name string, asks, mutant bool) {
		c, h := newCar(t, asks), heard{}
		old := t.TempDir()
		c.copyTo(filepath.Join(old, "0"))
		epochs(func(epoch uint32) {
			if values, ok := c.report(epoch); ok {
				h[epoch] = append(h[epoch], values)
			}
			c.putBack(filepath.Join(old, "0"))
			if values, ok := c.report(epoch); ok {
				h[epoch] = append(h[epoch], values)
			}
		})
		judge(name, c, h, mutant)
		if !mutant && !errors.Is(c.ledger.Err(), budget.ErrRolledBack) {
			t.Errorf("%s: the ledger says %v, want that it was rolled back", name, c.ledger.Err())
		}
	}
	rolled("as built: older flash put back", true, false)
	rolled("mutant: older flash put back, the collector's record not asked", false, true)

	// Mutants of the order of work.
	c, h = newCar(t, true), heard{}
	anew := func(epoch uint32) ([]int64, bool) { // whatever the ledger says, a retry draws
		if _, ok := c.report(epoch); !ok {
			return nil, false
		}
		y, err := g.Release(c.usage.totals[:])
		return y, err == nil
	}
	epochs(func(epoch uint32) { retry(c, source, epoch, times, anew, h) })
	judge("mutant: noise drawn anew on each retry", c, h, true)

	c, h = newCar(t, true), heard{}
	sent := false
	late := func(epoch uint32) ([]int64, bool) { // draws and sends, then charges; a power cut comes between
		y, err := g.Release(c.usage.totals[:])
		if err != nil {
			return nil, false
		}
		if sent = !sent; sent {
			c.restart()
			return y, true
		}
		_, ok := c.report(epoch)
		return y, ok
	}
	epochs(func(epoch uint32) {
		for range 2 {
			if values, ok := late(epoch); ok {
				h[epoch] = append(h[epoch], values)
			}
		}
	})
	judge("mutant: charged after sending", c, h, true)

	c, h = newCar(t, false), heard{}
	refund := filepath.Join(t.TempDir(), "before")
	epochs(func(epoch uint32) { // what a crash lost is given back: the ledger of before the charge
		os.RemoveAll(refund)
		c.copyTo(refund)
		if values, ok := c.report(epoch); ok {
			h[epoch] = append(h[epoch], values)
			c.putBack(refund)
		}
	})
	judge("mutant: the charge is refunded when the power goes", c, h, true)

	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a charter of %d reports a year, σ = %.0f\n%s", allowed, g.Sigma(), b.String())
}
