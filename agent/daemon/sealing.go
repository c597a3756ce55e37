package daemon

import (
	"context"

	"rawstone/agent/internal/blob"
	"rawstone/agent/internal/inclusion"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/program"
	"rawstone/agent/internal/recall"
	"rawstone/agent/internal/rulebook"
	"rawstone/agent/internal/seal"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// openRules opens what the car has heard of policies and fetched of keys. The sealer is told of changes; it is there before any come.
func (a *agent) openRules(p *program.Program) error {
	keys, err := blob.New(blob.Config{
		Dir: a.path(keysDir), URL: a.cfg.CollectorURL, TLS: a.identity.Trust, Logger: a.deps.Logger, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	a.book, err = rulebook.Open(rulebook.Config{
		Dir: a.path(rulesDir), Blobs: keys, Environment: a.cfg.Environment, Root: p.Root, Program: p.Program, ProgramID: p.ProgramID, Charter: p.Charter,
		AgentVersion: Version, Kinds: a.consent.Kinds, NewsEvery: a.cfg.NewsEvery, Hold: a.gate, Now: a.deps.Now, Changed: func() { a.sealer.Wake() },
		Logger: a.deps.Logger, Registerer: a.metrics,
	})
	return err
}

func (a *agent) openSealing(p *program.Program) (err error) {
	c := seal.Config{
		DB: a.state, Spool: a.spool, Journal: a.journal, Clock: a.clock, Program: p.ProgramID, Vehicle: a.cfg.Vehicle, ECU: p.ECU,
		Charter: p.Charter, CharterID: p.CharterID, Rules: a.book.Rules, News: a.outdate,
		Prover:   func(q *terms.Policy) (seal.Prover, bool) { return a.book.Prover(q) },
		Families: a.consent.Families, Device: a.identity.Device, Usage: a.recorder,
		EveryDays: a.consent.EveryDays, MaxDelay: a.cfg.Dispatch.MaxDelay,
		RequestResend: a.reader.Request, OnSnapshot: a.compare, ResendWait: a.cfg.ECU.AnswerWait, RetryAfter: a.cfg.Dispatch.RetryAfter,
		Logger: a.deps.Logger, Registerer: a.metrics,
	}
	if ledger := a.purse.Ledger(); ledger != nil {
		a.recall, err = recall.New(recall.Config{
			Ledger: ledger, URL: a.cfg.CollectorURL, TLS: a.identity.TLS(), Ready: a.identity.Ready, Hold: a.gate, Now: a.deps.Now, Tell: a.alert,
			Changed: a.compared, BackoffMin: a.cfg.MQTT.RetryMin, BackoffMax: a.cfg.MQTT.RetryMax, Logger: a.deps.Logger, Registerer: a.metrics,
		})
		if err != nil {
			return err
		}
		c.Budget, c.Heard = ledger, a.recall.Heard
	}
	if a.sealer, err = seal.New(c); err != nil {
		return err
	}
	a.proofs, err = inclusion.New(inclusion.Config{
		Archive: a.sealer.Archive(), URL: a.cfg.CollectorURL, TLS: a.identity.TLS(), Ready: a.identity.Ready, Program: p.Program, ProgramID: p.ProgramID,
		Validators: a.book.Validators, Now: a.deps.Now, Tell: a.alert, BackoffMin: a.cfg.MQTT.RetryMin, BackoffMax: a.cfg.MQTT.RetryMax, Logger: a.deps.Logger, Registerer: a.metrics,
	})
	return err
}

// answered takes a receipt. As with a notice, the car is connected when it comes.
func (a *agent) answered(ctx context.Context, kind wire.Kind, body []byte, r *wire.Receipt, signed []byte) error {
	defer a.connected()
	return a.sealer.HandleReceipt(ctx, kind, body, r, signed)
}

// connected tells whoever waits for it that the car is connected.
func (a *agent) connected() {
	a.proofs.Wake()
	if a.recall != nil {
		a.recall.Wake()
	}
}

// hear takes a notice of policies.
func (a *agent) hear(b []byte) {
	defer a.connected()
	if err := a.book.Take(b); err != nil {
		a.deps.Logger.Warn("notice of policies is refused", "error", err)
	}
}

// outdate has the uplink look for a notice now.
func (a *agent) outdate() {
	a.book.Outdate()
	a.uplink.Wake()
}

// compared has the recorder and the sealer go by what the comparison of the ledger with the collector's record found.
func (a *agent) compared() {
	defer a.sealer.Wake()
	if err := a.recorder.SetFamilies(a.recorded()); err != nil {
		a.deps.Logger.Error("recorder did not follow the state of the privacy budget", "error", err)
	}
}

// recorded returns the families of which usage is recorded: what the driver turned on and the charter still allows, nothing where no report
// could be made of it.
func (a *agent) recorded() wire.Family {
	if a.purse.State() != privacy.StateSound {
		return 0
	}
	return a.consent.Families() & a.allowed
}
