package demo

import (
	"context"
	"path/filepath"
	"strings"
)

// token names the file of a vehicle's enrolment token.
func (d *demo) token(vehicle string) string { return filepath.Join(d.plan.State, vehicle+".token") }

// enroll gives every car its device key and certificate, once the collector takes connections.
func (d *demo) enroll(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-d.ended:
		return err
	case <-d.journey.ready:
	}
	for _, c := range d.plan.Cars {
		if _, err := run(ctx, d.bin("agent"), "enroll", "--config", c.Agent, "--token-file", d.token(c.Vehicle)); err != nil {
			return err
		}
		d.journey.say(c.Vehicle, "enrolled: it made its device key and holds a client certificate")
		if err := d.decide(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// decide plays the driver, who turns on what the car may tell.
func (d *demo) decide(ctx context.Context, c Car) error {
	for _, name := range c.Consent {
		if _, err := run(ctx, d.bin("agent"), "consent", "--config", c.Agent, name, "on"); err != nil {
			return err
		}
	}
	if len(c.Consent) > 0 {
		d.journey.say(c.Vehicle, "the driver turned on %s", strings.Join(c.Consent, ", "))
	}
	if c.Cadence == "" {
		return nil
	}
	_, err := run(ctx, d.bin("agent"), "cadence", "--config", c.Agent, c.Cadence)
	return err
}
