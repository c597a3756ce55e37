// Package fleet is the load generator: many enrolled vehicles with valid claims, played against a running collector at a given rate or flat
// out.
//
// Everything is real but the driving: ECU keys under the manufacturer's certificates, device keys, enrolment, proofs, signatures, TLS and
// MQTT as an agent has them. What costs much is made once: some 2,000 spans of a drive have proofs, and every vehicle's ECU signs the same
// commitments along a piece of it, each in its own name. A vehicle's keys and claims follow from a seed in the fleet's directory, so that
// they are the same whenever they are made; the directory keeps the seed, the plan, proofs, tokens, certificates and what receipts came.
// A run that was interrupted at any point, even killed, is resumed by the same command, and nothing is counted twice.
//
// A vehicle has one claim in flight, in order, sends again what is without a receipt, over the next broker when one fails, and believes
// signed receipts only. The fleet refuses a directory of another program, policy or number of days, and one that is in use.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"rawstone/firmware-sim/internal/fleet/internal/bar"
	"rawstone/firmware-sim/internal/fleet/internal/enrolment"
	"rawstone/firmware-sim/internal/fleet/internal/player"
	"rawstone/firmware-sim/internal/fleet/internal/roster"
	"rawstone/pkg/wire"
)

// Bounds of Options.
const (
	MaxVehicles    = 1_000_000
	MaxDays        = 1000
	MaxConnections = 20_000
)

const (
	lockFile         = "lock"
	certificatesFile = "certificates"
)

// Options of a run.
type Options struct {
	// Vehicles is how many there are, 1 to MaxVehicles; Days how many claims each makes, 1 to MaxDays.
	Vehicles, Days int
	// Place says where the collector is, Bin is the directory of the program collector, Dir the fleet's own directory.
	Place    roster.Place
	Bin, Dir string
	// Rate is how many claims a second are sent; 0 means flat out.
	Rate float64
	// Connections is how many vehicles are connected at a time, 1 to MaxConnections.
	Connections int
	// Patience is how long a vehicle goes on without any progress.
	Patience time.Duration
	// Progress shows bars on Bars; both may be absent.
	Progress bool
	Bars     io.Writer
	// Out receives the story and the result.
	Out io.Writer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	switch {
	case o.Vehicles < 1 || o.Vehicles > MaxVehicles:
		return fmt.Errorf("--vehicles %d is not from 1 to %d", o.Vehicles, MaxVehicles)
	case o.Days < 1 || o.Days > MaxDays:
		return fmt.Errorf("--days %d is not from 1 to %d", o.Days, MaxDays)
	case o.Connections < 1 || o.Connections > MaxConnections:
		return fmt.Errorf("--connections %d is not from 1 to %d", o.Connections, MaxConnections)
	case !(o.Rate >= 0 && o.Rate <= 1e6):
		return fmt.Errorf("--rate %v is not from 0 to 1,000,000 a second", o.Rate)
	case o.Patience <= 0:
		return errors.New("--patience is not above 0")
	}
	return nil
}

// run is one run of a fleet.
type run struct {
	opt    Options
	roster *roster.Roster
}

// Run makes whatever of the fleet is missing, plays it, and returns what came of that; the error says what is not as it must be.
func Run(ctx context.Context, opt Options) (*Result, error) {
	if err := opt.validate(); err != nil {
		return nil, err
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	r := &run{opt: opt}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make fleet: %w", err)
	}
	lock, err := r.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	var proofs, enrolling *bar.Bar
	r.roster, err = roster.Open(ctx, roster.Config{
		Place: opt.Place, Dir: opt.Dir, Vehicles: opt.Vehicles, Days: opt.Days, Now: opt.Now,
		Proofs: func(total int) func(int) { proofs = r.bar("making proofs", total); return proofs.Set },
	})
	proofs.End()
	if err != nil {
		return nil, err
	}
	tokens, err := r.register(ctx)
	if err != nil {
		return nil, err
	}
	certificates, err := enrolment.Certificates(ctx, enrolment.Config{
		Roster: r.roster, File: r.path(certificatesFile), Tokens: tokens, Now: opt.Now,
		Count: func(total int) func() {
			enrolling = r.bar("enrolling vehicles", total)
			return func() { enrolling.Add(1) }
		},
	})
	enrolling.End()
	if err != nil {
		return nil, err
	}
	return r.deliver(ctx, certificates)
}

func (r *run) path(name string) string { return filepath.Join(r.opt.Dir, name) }

func (r *run) bar(what string, total int) *bar.Bar {
	if !r.opt.Progress {
		return nil
	}
	return bar.New(r.opt.Bars, what, total)
}

func (r *run) say(format string, args ...any) { fmt.Fprintf(r.opt.Out, format+"\n", args...) }

// lock keeps a second run out of the directory until the file is closed.
func (r *run) lock() (*os.File, error) {
	f, err := os.OpenFile(r.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make fleet: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use %s: another run of the fleet uses it", r.opt.Dir), f.Close())
	}
	return f, nil
}

// deliver signs what is left to claim and plays it.
func (r *run) deliver(ctx context.Context, certificates [][]byte) (result *Result, err error) {
	held, keep, err := r.openReceipts()
	if err != nil {
		return nil, err
	}
	result = &Result{
		Vehicles: r.roster.N, Days: r.roster.Days, Connections: r.opt.Connections, Rate: r.opt.Rate, Refused: make(map[wire.Reason]int),
	}
	cfg := player.Config{
		Roster: r.roster, Certificates: certificates, Claims: make([][][]byte, r.roster.N), First: make([]int, r.roster.N),
		Connections: r.opt.Connections, Rate: r.opt.Rate, Patience: r.opt.Patience,
	}
	for i := range held {
		cfg.First[i] = len(held[i])
		result.Earlier += len(held[i])
	}
	left := r.roster.N*r.roster.Days - result.Earlier
	signing := r.bar("signing claims", left)
	var signed atomic.Int64
	err = each(ctx, r.roster.N, func(i int) (err error) {
		if cfg.First[i] < r.roster.Days {
			cfg.Claims[i], err = r.roster.Claims(i, cfg.First[i])
			signing.Set(int(signed.Add(int64(len(cfg.Claims[i])))))
		}
		return err
	})
	signing.End()
	if err != nil {
		return nil, errors.Join(err, keep.close())
	}
	runtime.GC() // not while the clock runs
	r.say("playing %d claims of %d vehicles over at most %d connections", left, r.roster.N, r.opt.Connections)
	playing, before := r.bar("playing claims", left), cpu()
	cfg.Note = func(e player.Event) {
		result.note(e)
		if e.Outcome == player.Accepted {
			keep.add(e.Vehicle, e.Km)
			held[e.Vehicle] = append(held[e.Vehicle], e.Km)
			playing.Add(1)
		}
	}
	began, err := player.Play(ctx, cfg)
	playing.End()
	result.CPUSeconds = cpu() - before
	result.Unanswered = left - len(result.latencies)
	result.finish(began)
	result.print(r.opt.Out)
	if err := errors.Join(keep.close(), r.write(result, held)); err != nil {
		return result, err
	}
	return result, errors.Join(err, result.err())
}

// each calls do for 0 to n-1 on all cores.
func each(ctx context.Context, n int, do func(i int) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), n) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
