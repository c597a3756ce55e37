package demo

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"rawstone/pkg/config"
)

// A Validator is one of the program's validators.
type Validator struct {
	// Name is as in the program's source, and that of its certificate; Config is its configuration.
	Name   string `yaml:"name"`
	Config string `yaml:"config"`
}

// certify gives the collector and the validators the certificates by which they know each other.
func (d *demo) certify(ctx context.Context, ca string) error {
	node := func(name, roles string) error {
		_, err := run(ctx, d.bin("collector"), "ca", "node", "--dir", ca, "--name", name, "--role", roles, "--host", "127.0.0.1", "--out", filepath.Join(d.plan.State, "nodes"))
		return err
	}
	if err := node("collector", "broker,ingest,settle,web"); err != nil {
		return err
	}
	for i := range d.plan.Validators {
		v := &d.plan.Validators[i]
		config.Resolve(d.opt.Plan, &v.Config)
		if err := node(v.Name, "validator"); err != nil {
			return err
		}
	}
	return nil
}

// seat starts the validators and waits until they are there: one that misses a drop is out for the rest of the day. One that ends by itself
// ends no demo: drops go on as long as a quorum is left.
func (d *demo) seat(ctx context.Context) (all []*process, err error) {
	d.journey.wantSeats(len(d.plan.Validators))
	for _, v := range d.plan.Validators {
		argv := []string{d.bin("collector"), "validator", "--config", v.Config}
		p, err := start(v.Name, d.journey.line, append(argv, "--log-format", "json")...)
		if err != nil {
			return nil, err
		}
		d.processes, all = append(d.processes, p), append(all, p)
		done, watched := p.done, make(chan error, 1)
		p.done = watched
		go func() {
			defer close(watched)
			err := <-done
			if !d.stopping.Load() {
				d.journey.say(v.Name, "the validator is gone; start it again with %s", strings.Join(argv, " "))
				err = nil
			}
			watched <- err
		}()
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-d.journey.seated:
		return all, nil
	case <-time.After(stopTimeout):
		return nil, errors.New("the validators do not start")
	}
}
