// Package demo runs the whole of Rawstone on one machine: validators, a collector, cars, and their agents, each a process of its own, from
// configuration files that anybody may change. It makes the program's keys, registers the vehicles, starts everything, tells the
// journey of each car from the processes' own logs, and stops everything in order.
//
// It has no knowledge that the programs lack: every step is a command that an operator could type. It refuses to wipe a state
// directory that it did not make.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"rawstone/pkg/config"
)

// marker names the file that shows that a state directory is this package's to wipe.
const marker = ".rawstone-demo"

// onceLimit bounds a run with Once.
const onceLimit = 90 * time.Second

// A Plan is the demo's own configuration file. Paths are relative to it.
type Plan struct {
	// State is the directory that every run makes anew; the other files refer to it.
	State string `yaml:"state"`
	// Program is the source of the program, Collector the collector's configuration.
	Program   string `yaml:"program"`
	Collector string `yaml:"collector"`
	// Ledger and Dashboard are where the collector's configuration puts them, for the audit and for the reader.
	Ledger    string `yaml:"ledger"`
	Dashboard string `yaml:"dashboard"`
	// Validators are those of the program's source, 1 to 16.
	Validators []Validator `yaml:"validators"`
	// Cars are the vehicles, 1 to 16.
	Cars []Car `yaml:"cars"`
	// App is the configuration of `firmware-sim app`, which plays the owners' app; empty for none. Guests are accounts without a car.
	App    string   `yaml:"app"`
	Guests []string `yaml:"guests"`
}

// A Car is one simulated car and its agent.
type Car struct {
	// Vehicle is the vehicle's id, Account the name of the account that it earns for; empty for one that the collector names.
	Vehicle string `yaml:"vehicle"`
	Account string `yaml:"account"`
	// Sim and Agent are their configurations for a synthesised drive.
	Sim   string `yaml:"sim"`
	Agent string `yaml:"agent"`
	// Consent are the families and kinds that the demo turns on as the driver, and Cadence how often the car speaks; empty for the agent's own,
	// everything off and weekly.
	Consent []string `yaml:"consent"`
	Cadence string   `yaml:"cadence"`
	// Replay, when set, is what the car plays instead while its capture exists.
	Replay *Replay `yaml:"replay"`
}

// A Replay is a car that plays a recorded drive.
type Replay struct {
	// Capture is the file's name in the folder of captures.
	Capture string `yaml:"capture"`
	Sim     string `yaml:"sim"`
	Agent   string `yaml:"agent"`
}

// Validate implements config.Config.
func (p *Plan) Validate(f *config.Faults) {
	for path, v := range map[string]string{"$.state": p.State, "$.program": p.Program, "$.collector": p.Collector, "$.ledger": p.Ledger, "$.dashboard": p.Dashboard} {
		if v == "" {
			f.Add(path, "must be set")
		}
	}
	if len(p.Cars) < 1 || len(p.Cars) > 16 {
		f.Add("$.cars", "%d cars, want 1 to 16", len(p.Cars))
	}
	if len(p.Validators) < 1 || len(p.Validators) > 16 {
		f.Add("$.validators", "%d validators, want 1 to 16", len(p.Validators))
	}
	for i, v := range p.Validators {
		if v.Name == "" || v.Config == "" {
			f.Add("$.validators["+strconv.Itoa(i)+"]", "must name name and config")
		}
	}
	for i, c := range p.Cars {
		if c.Vehicle == "" || c.Sim == "" || c.Agent == "" {
			f.Add("$.cars["+strconv.Itoa(i)+"]", "must name vehicle, sim and agent")
		}
	}
}

// Options of a run.
type Options struct {
	// Plan is the path of the plan.
	Plan string
	// Bin is the directory of the three programs.
	Bin string
	// Captures is the folder of recorded drives; a missing one only means that no car replays.
	Captures string
	// Once ends the run by itself: at the first drop that issues stones after every car holds an accepted claim, then audits.
	Once bool
	// Out receives the story.
	Out io.Writer
}

// Run runs the demo until ctx is done, a process ends by itself, or, with Once, the journey is complete.
func Run(ctx context.Context, opt Options) (err error) {
	// Children get a death signal when the thread that started them ends: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var plan Plan
	if err := config.Load(opt.Plan, &plan); err != nil {
		return err
	}
	config.Resolve(opt.Plan, &plan.State, &plan.Program, &plan.Collector, &plan.Ledger)
	if opt.Once {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, onceLimit, fmt.Errorf("the demo did not complete within %v", onceLimit))
		defer cancel()
	}
	d := &demo{opt: opt, plan: plan, begin: time.Now()}
	if err := d.prepare(ctx); err != nil {
		return err
	}
	return d.play(ctx)
}

type demo struct {
	opt       Options
	plan      Plan
	begin     time.Time
	journey   *journey
	processes []*process // in the order in which they are stopped
	agents    []*process
	ended     chan error
	stopping  atomic.Bool
}

func (d *demo) bin(name string) string { return filepath.Join(d.opt.Bin, name) }

// prepare makes the state directory, the program's keys and documents, and registers every vehicle.
func (d *demo) prepare(ctx context.Context) error {
	if err := wipe(d.plan.State); err != nil {
		return err
	}
	fmt.Fprintln(d.opt.Out, "making the program: keys, policy, charter, development setup of the proof system")
	if _, err := run(ctx, d.bin("collector"), "init", "--source", d.plan.Program, "--dir", filepath.Join(d.plan.State, "program")); err != nil {
		return err
	}
	fmt.Fprintln(d.opt.Out, "playing the manufacturer: authorities that certify the cars' attestation ECUs and the collector's HTTPS server")
	ca := filepath.Join(d.plan.State, "ca")
	if _, err := run(ctx, d.bin("collector"), "ca", "init", "--dir", ca); err != nil {
		return err
	}
	if _, err := run(ctx, d.bin("collector"), "ca", "server", "--dir", ca, "--host", "127.0.0.1",
		"--out", filepath.Join(ca, "server.pem"), "--out-key", filepath.Join(ca, "server.key")); err != nil {
		return err
	}
	if err := d.certify(ctx, ca); err != nil {
		return err
	}
	if d.plan.App != "" {
		config.Resolve(d.opt.Plan, &d.plan.App)
		if _, err := run(ctx, d.bin("firmware-sim"), "app", "init", "--config", d.plan.App); err != nil {
			return err
		}
	}
	for _, guest := range d.plan.Guests {
		if err := d.account(ctx, guest); err != nil {
			return err
		}
	}
	for i := range d.plan.Cars {
		c := &d.plan.Cars[i]
		config.Resolve(d.opt.Plan, &c.Sim, &c.Agent)
		if r := c.Replay; r != nil {
			config.Resolve(d.opt.Plan, &r.Sim, &r.Agent)
			r.Capture = filepath.Join(d.opt.Captures, r.Capture)
			if _, err := os.Stat(r.Capture); err != nil {
				fmt.Fprintf(d.opt.Out, "%s drives a synthesised day: no capture at %s\n", c.Vehicle, r.Capture)
				c.Replay = nil
			} else {
				c.Sim, c.Agent = r.Sim, r.Agent
			}
		}
		identity := filepath.Join(d.plan.State, c.Vehicle+".identity.pem")
		certificate := filepath.Join(d.plan.State, c.Vehicle+".cert.pem")
		if _, err := run(ctx, d.bin("firmware-sim"), "ecu", "init", "--config", c.Sim, "--out", identity); err != nil {
			return err
		}
		if _, err := run(ctx, d.bin("collector"), "ca", "ecu", "--dir", ca, "--ecu-key", identity, "--out", certificate); err != nil {
			return err
		}
		argv := []string{d.bin("collector"), "vehicle", "add", "--config", d.plan.Collector, "--id", c.Vehicle, "--ecu-key", identity, "--ecu-cert", certificate}
		if c.Account != "" {
			if err := d.account(ctx, c.Account); err != nil {
				return err
			}
			argv = append(argv, "--account", c.Account)
		}
		token, err := run(ctx, argv...)
		if err != nil {
			return err
		}
		if err := os.WriteFile(d.token(c.Vehicle), []byte(token+"\n"), 0o600); err != nil {
			return fmt.Errorf("cannot keep token: %w", err)
		}
	}
	return nil
}

// account adds an account.
func (d *demo) account(ctx context.Context, name string) error {
	_, err := run(ctx, d.bin("collector"), "account", "add", "--config", d.plan.Collector, "--id", name)
	return err
}

// wipe makes an empty state directory, refusing one that holds anything but an earlier run.
func wipe(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot prepare state directory: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil {
			return fmt.Errorf("cannot prepare state directory %s: it holds something that is not an earlier demo; move it away", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot prepare state directory: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot prepare state directory: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, marker), nil, 0o644); err != nil {
		return fmt.Errorf("cannot prepare state directory: %w", err)
	}
	return nil
}

// play starts every process, waits for the end and stops them: agents first, so that nothing is published to a broker that is gone,
// then cars, the collector, and the validators last.
func (d *demo) play(ctx context.Context) (err error) {
	d.journey = newJourney(d.opt.Out, time.Now(), len(d.plan.Cars))
	d.ended = make(chan error, 2+2*len(d.plan.Cars)+len(d.plan.Validators))
	defer func() { err = errors.Join(err, d.stop()) }()
	validators, err := d.seat(ctx)
	if err != nil {
		return err
	}
	collector, err := d.start("collector", d.bin("collector"), "serve", "--config", d.plan.Collector)
	if err != nil {
		return err
	}
	if err := d.enroll(ctx); err != nil {
		return err
	}
	var cars []*process
	for i, c := range d.plan.Cars {
		argv := []string{d.bin("firmware-sim"), "drive", "--config", c.Sim}
		if c.Replay != nil {
			argv = []string{d.bin("firmware-sim"), "replay", "--config", c.Sim, c.Replay.Capture}
		}
		car, err := d.start("car "+strconv.Itoa(i+1), argv...)
		if err != nil {
			return err
		}
		cars = append(cars, car)
		agent, err := d.start("agent "+strconv.Itoa(i+1), d.bin("agent"), "run", "--config", c.Agent)
		if err != nil {
			return err
		}
		d.agents = append(d.agents, agent)
	}
	if d.plan.App != "" {
		app, err := d.start("app", d.bin("firmware-sim"), "app", "play", "--config", d.plan.App)
		if err != nil {
			return err
		}
		cars = append(cars, app)
	}
	d.processes = append(append(append(d.processes[:0:0], d.agents...), cars...), append([]*process{collector}, validators...)...)
	fmt.Fprintf(d.opt.Out, "%d processes run; the dashboard is at %s\n", len(d.processes), d.plan.Dashboard)
	complete := d.journey.complete
	if !d.opt.Once {
		complete = nil
	}
	select {
	case <-ctx.Done():
		if cause := context.Cause(ctx); d.opt.Once || !errors.Is(cause, context.Canceled) {
			return fmt.Errorf("the demo did not complete: %w", cause)
		}
		return nil
	case err := <-d.ended:
		return err
	case <-complete:
		return d.finish(ctx)
	}
}

// start starts a process and watches for an end that nobody asked for.
func (d *demo) start(name string, argv ...string) (*process, error) {
	p, err := start(name, d.journey.line, append(argv, "--log-format", "json")...)
	if err != nil {
		return nil, err
	}
	d.processes = append(d.processes, p)
	done, watched := p.done, make(chan error, 1)
	p.done = watched
	go func() {
		err := <-done
		if err == nil {
			d.ended <- fmt.Errorf("%s ended by itself", name)
		} else {
			d.ended <- fmt.Errorf("%s ended by itself: %w", name, err)
		}
		watched <- err
		close(watched)
	}()
	return p, nil
}

// stop stops all processes and says how much memory the agents took.
func (d *demo) stop() error {
	d.stopping.Store(true)
	for _, a := range d.agents {
		if kib, err := a.peakRSS(); err == nil {
			d.journey.say(a.name, "peak resident memory %.1f MiB", float64(kib)/1024)
		}
	}
	var errs []error
	for _, p := range d.processes {
		errs = append(errs, p.stop())
	}
	d.processes = nil
	return errors.Join(errs...)
}

// finish stops everything, exports the openings and audits the ledger.
func (d *demo) finish(ctx context.Context) error {
	if err := d.stop(); err != nil {
		return err
	}
	if d.journey.creditedSoFar() == 0 {
		return errors.New("no stones were credited")
	}
	openings := filepath.Join(d.plan.State, "openings.json")
	if _, err := run(ctx, d.bin("collector"), "openings", "--config", d.plan.Collector, "--out", openings); err != nil {
		return err
	}
	report, err := run(ctx, d.bin("collector"), "audit", "--ledger", d.plan.Ledger,
		"--root", filepath.Join(d.plan.State, "program", "root.pub"), "--openings", openings)
	if err != nil {
		return err
	}
	fmt.Fprintln(d.opt.Out, report)
	return nil
}
