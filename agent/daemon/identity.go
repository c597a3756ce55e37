package daemon

import (
	"context"
	"fmt"
	"time"

	"rawstone/agent/internal/identity"
	"rawstone/agent/internal/reset"
)

// identityConfig is what enrolment and the running agent share.
func identityConfig(cfg *Config, deps Deps) identity.Config {
	return identity.Config{
		DeviceKey: cfg.DeviceKey, Dir: path(cfg, identityDir), Reset: path(cfg, resetMark), Vehicle: cfg.Vehicle, URL: cfg.CollectorURL, CA: cfg.CollectorCA, Now: deps.Now,
		BackoffMin: max(cfg.MQTT.RetryMin, time.Second), Logger: deps.Logger,
	}
}

// openIdentity opens who the car is. The newest block that a quorum of validators stands for says what the present is not before.
func (a *agent) openIdentity() (err error) {
	c := identityConfig(a.cfg, a.deps)
	c.Since, c.Changed = func() time.Time { return a.book.Since() }, func() { a.uplink.Wake() }
	c.Tell, c.Registerer, c.Hold = a.alert, a.metrics, a.gate
	a.identity, err = identity.Open(c)
	return err
}

// alert tells the driver.
func (a *agent) alert(text string) {
	if err := a.journal.Note(a.deps.Now(), text); err != nil {
		a.deps.Logger.Error("cannot tell the driver", "error", err)
	}
}

// Enroll makes the device key that the configuration names, unless it is there, and gets the first client certificate with the text of a
// token of the vehicle's registration. It can be repeated. An agent that runs goes by the new certificate within a
// minute, and by another device key when it is started again.
func Enroll(ctx context.Context, cfg *Config, token string, deps Deps) error {
	deps, err := deps.complete()
	if err != nil {
		return fmt.Errorf("cannot enrol: %w", err)
	}
	if _, err := reset.Resume(wiped(cfg)); err != nil {
		return err // rather than that the next start wipes the new certificate
	}
	return identity.Enroll(ctx, identityConfig(cfg, deps), token)
}
