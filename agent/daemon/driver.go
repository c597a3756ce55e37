package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/control"
	"rawstone/agent/internal/driver"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/program"
	"rawstone/agent/internal/reset"
	"rawstone/pkg/terms"
)

// Places below the state directory. A reset wipes stateDir with what lies beside it, rulesDir, keysDir and identityDir, and of budgetDir
// the sealed reports alone, nothing of its anchor; it leaves resetMark, until the car is enrolled.
const (
	stateDir     = "state"
	usageKey     = "state.key" // what lies beside the store's directory under its name goes with it
	rulesDir     = "rules"
	keysDir      = "keys"
	identityDir  = "identity"
	budgetDir    = "budget"
	budgetAnchor = "budget.anchor"
	resetMark    = "reset.done"
)

func path(c *Config, name string) string { return filepath.Join(c.StateDir, name) }

func files(c *Config) terms.Files {
	return terms.Files{Root: c.Program.Root, Program: c.Program.File, Charter: c.Program.Charter}
}

func wiped(c *Config) reset.Config {
	return reset.Config{
		Dir: c.StateDir, Store: stateDir, Mark: resetMark, Others: []string{rulesDir, keysDir, identityDir, stateDir + ".*", control.Name},
		Keys: []string{usageKey}, Purge: func() error { return privacy.Erase(path(c, budgetDir), slog.New(slog.DiscardHandler)) },
	}
}

func purse(c *Config, u *terms.Usage, deps Deps) privacy.Config {
	return privacy.Config{Dir: path(c, budgetDir), Anchor: path(c, budgetAnchor), Counter: c.BudgetCounter, Usage: u, Logger: deps.Logger}
}

// openConsent opens what the driver decided, and the account of what it has cost.
func (a *agent) openConsent(p *program.Program) (err error) {
	if a.consent, err = consent.Open(consent.Config{DB: a.state, Charter: p.Charter, Logger: a.deps.Logger}); err != nil {
		return err
	}
	if a.consent.Damaged() {
		a.alert("What you had turned on could not be read, so that everything is off: turn on again with `agent consent --config FILE` what you want to.")
	}
	c := purse(a.cfg, &p.Charter.Usage, a.deps)
	c.Registerer = a.metrics
	if a.purse, err = privacy.Open(c); err != nil {
		return err
	}
	a.opened = append(a.opened, a.purse)
	return nil
}

// openControl opens the way for the driver's commands.
func (a *agent) openControl() error {
	desk, err := driver.New(driver.Config{
		Consent: a.consent, Journal: a.journal, Clock: a.clock, Purse: func() (*privacy.Purse, error) { return a.purse, nil },
		Day: func() uint32 { return a.rooms().Day() }, Apply: a.apply,
	})
	if err != nil {
		return err
	}
	if a.control, err = control.Listen(a.cfg.StateDir, desk, a.deps.Logger); err != nil {
		return err
	}
	a.opened = append(a.opened, a.control)
	return nil
}

// apply has the rooms follow a decision of the driver.
func (a *agent) apply(is consent.Choice) error {
	defer a.sealer.Wake()
	return errors.Join(a.recorder.SetFamilies(a.recorded()), a.sealer.Withdraw())
}

// Desk returns where the driver's commands go: to the agent that runs by this configuration, or to its stores where none does. The closer
// lets them go.
func Desk(ctx context.Context, cfg *Config, deps Deps) (control.Desk, io.Closer, error) {
	deps, err := deps.complete()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the driver's desk: %w", err)
	}
	client, err := control.Dial(ctx, cfg.StateDir)
	if err == nil {
		return client, io.NopCloser(nil), nil
	} else if !errors.Is(err, control.ErrNotRunning) {
		return nil, nil, err
	}
	documents, err := terms.Load(files(cfg), cfg.Environment)
	if err != nil {
		return nil, nil, err
	}
	if _, err := reset.Resume(wiped(cfg)); err != nil {
		return nil, nil, err
	}
	return driver.Open(driver.Stopped{
		StateDir: path(cfg, stateDir), UsageKey: path(cfg, usageKey), Charter: documents.Charter, Clock: terms.Clock{Timing: documents.Timing, Now: deps.Now},
		Budget: purse(cfg, &documents.Charter.Usage, deps), Logger: deps.Logger,
	})
}

// Reset takes from the car what it knows of its driver. The agent must not run. What stays is the privacy budget's ledger and the device key,
// which asks for nothing until Enroll.
func Reset(cfg *Config) error { return reset.Wipe(wiped(cfg)) }
