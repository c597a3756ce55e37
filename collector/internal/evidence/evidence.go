// Package evidence checks claims, and the ledger, from files alone, as an auditor does who has no collector: the signed policies, the
// program that they belong to, the verifying key and the registry of ECU keys. It also says in plain words what a claim tells and what
// it does not, and writes the files that an auditor needs out of a collector's records.
//
// A claim holds when a registered key signed both of its snapshots for the program, its span lies within one binding of the key to a
// vehicle and before its cut, each policy is in force on its last day, and each proof proves the statement that policy and tier make of
// the span: nothing that is proven is taken from the claim itself. A claim that begins at the collector's head carries that snapshot's
// number alone; the snapshot is then looked for in the registry and among the claims given beside it.
//
// The package judges each claim by itself and has no clock. Whether two claims tell of the same kilometres, and whether one was
// credited, is the ledger's question.
package evidence

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Verifier checks proofs under one verifying key.
type Verifier interface {
	Verify(claim.Statement, wire.Proof) error
}

// Config says what claims are checked against; what is not said to be optional is required.
type Config struct {
	Program  wire.Hash
	Policies []*terms.Policy
	Registry *Registry
	// Verifiers holds a verifier by the hash of each policy's verifying key.
	Verifiers map[wire.Hash]Verifier
	// ECUCA is optional: with it, a claim holds only when an authority in it certified its ECU's key (ca.CheckECU) and the certificate is
	// valid at the time At.
	ECUCA *x509.CertPool
	At    time.Time
}

// A Checker checks claims.
type Checker struct {
	cfg      Config
	policies map[uint16]*terms.Policy
}

// New returns a checker.
func New(cfg Config) (*Checker, error) {
	if cfg.Program.IsZero() || len(cfg.Policies) == 0 || cfg.Registry == nil {
		return nil, errors.New("cannot check claims: program, policies or registry missing")
	}
	if cfg.Registry.Program != cfg.Program {
		return nil, errors.New("cannot check claims: the registry belongs to another program: export it from this one's collector")
	}
	if (cfg.ECUCA == nil) != cfg.At.IsZero() {
		return nil, errors.New("cannot check claims: authorities of ECU certificates and a time do not come together")
	}
	if err := terms.CheckPolicies(cfg.Policies); err != nil {
		return nil, fmt.Errorf("cannot check claims: %w", err)
	}
	c := &Checker{cfg: cfg, policies: make(map[uint16]*terms.Policy)}
	for _, p := range cfg.Policies {
		if p.Program != cfg.Program {
			return nil, fmt.Errorf("cannot check claims: policy %d belongs to another program", p.Serial)
		}
		if cfg.Verifiers[p.VerifyingKey] == nil {
			return nil, fmt.Errorf("cannot check claims: no verifying key for policy %d: it names %s", p.Serial, p.VerifyingKey)
		}
		c.policies[p.Serial] = p
	}
	return c, nil
}

// A Finding is what a claim that holds was found to prove.
type Finding struct {
	// Vehicle is the vehicle that the key was bound to.
	Vehicle  string
	From, To wire.Head
	Proven   []Proven
}

// Proven is one proof of a claim.
type Proven struct {
	Policy *terms.Policy
	Tier   int
	// Km is what the tier credits over the span in kilometres.
	Km uint32
}

// snapshots are the snapshots known of ECU keys by their numbers. One that is known in two forms is kept as false.
type snapshots map[place]known

type (
	place struct {
		ecu wire.KeyID
		seq uint64
	}
	known struct {
		head wire.Head
		one  bool
	}
)

func (s snapshots) add(ecu wire.KeyID, h wire.Head) {
	k, ok := s[place{ecu, h.Seq}]
	s[place{ecu, h.Seq}] = known{h, !ok || k.one && k.head == h}
}

// Check returns, for each claim in the order given, what it proves or why it does not hold. Claims are also looked through for the
// snapshots that others begin with.
func (c *Checker) Check(claims []*wire.Claim) ([]Finding, []error) {
	all := make(snapshots)
	for id, e := range c.cfg.Registry.ecus {
		for _, b := range e.bindings {
			all.add(id, b.first)
			all.add(id, b.head) // which may be the same
		}
	}
	errs := make([]error, len(claims))
	for i, m := range claims {
		errs[i] = c.signatures(m, all)
	}
	findings := make([]Finding, len(claims))
	for i, m := range claims {
		if errs[i] == nil {
			findings[i], errs[i] = c.check(m, all)
		}
	}
	return findings, errs
}

// signatures checks that a registered key signed the snapshots that the claim carries, and notes them.
func (c *Checker) signatures(m *wire.Claim, all snapshots) error {
	e, ok := c.cfg.Registry.ecus[m.ECU]
	if !ok {
		return fmt.Errorf("the registry does not know ECU key %s", m.ECU)
	}
	if c.cfg.ECUCA != nil {
		if err := ca.CheckECU(c.cfg.ECUCA, e.certificate, e.key, c.cfg.At); err != nil {
			return err
		}
	}
	pub, err := e.key.Key()
	if err != nil {
		return err
	}
	if err := attest.Verify(pub, c.cfg.Program, m.To); err != nil {
		return fmt.Errorf("snapshot %d: %w", m.To.Seq, err)
	}
	from, whole := m.From.Snapshot()
	if whole {
		if err := attest.Verify(pub, c.cfg.Program, from); err != nil {
			return fmt.Errorf("snapshot %d: %w", from.Seq, err)
		}
		all.add(m.ECU, from.Head())
	}
	all.add(m.ECU, m.To.Head())
	return nil
}

func (c *Checker) check(m *wire.Claim, all snapshots) (f Finding, err error) {
	from, ok := all[place{m.ECU, m.From.Seq}]
	if !ok {
		return f, fmt.Errorf("it begins with snapshot %d and does not carry it: give the claim that ends there as well", m.From.Seq)
	}
	to := all[place{m.ECU, m.To.Seq}]
	if !from.one || !to.one {
		return f, errors.New("its ECU signed two snapshots under one number")
	}
	f.From, f.To = from.head, to.head
	if f.To.Day <= f.From.Day {
		return f, errors.New("it ends on or before the day it begins on")
	}
	if f.Vehicle, err = c.vehicle(m); err != nil {
		return f, err
	}
	for _, p := range m.Proofs {
		policy, tier := c.policies[p.Policy], int(p.Tier)
		switch {
		case policy == nil:
			return f, fmt.Errorf("policy %d is not among those given", p.Policy)
		case tier >= len(policy.Tiers):
			return f, fmt.Errorf("policy %d has no tier %d", p.Policy, tier)
		case terms.InForce(c.cfg.Policies, policy.Kind, f.To.Day) != policy:
			return f, fmt.Errorf("policy %d is not in force on day %d", p.Policy, f.To.Day)
		}
		statement := claim.Statement{From: f.From.Commitment, To: f.To.Commitment, Rows: policy.Statement(tier)}
		if err := c.cfg.Verifiers[policy.VerifyingKey].Verify(statement, p.Proof); err != nil {
			return f, fmt.Errorf("policy %d, tier %d: %w", p.Policy, tier, err)
		}
		f.Proven = append(f.Proven, Proven{policy, tier, policy.Credit(tier, f.To.Day-f.From.Day)})
	}
	return f, nil
}

// vehicle returns the vehicle that the claim's key was bound to over the whole span. Bindings of a key do not overlap, so that only the last
// one that begins before the claim's end can hold for it.
func (c *Checker) vehicle(m *wire.Claim) (string, error) {
	e := c.cfg.Registry.ecus[m.ECU]
	at := e.bindings[0]
	for _, b := range e.bindings[1:] {
		if b.first.Seq < m.To.Seq {
			at = b
		}
	}
	switch {
	case m.From.Seq < at.first.Seq:
		return "", fmt.Errorf("it begins before snapshot %d, with which its ECU key was bound to vehicle %s", at.first.Seq, at.vehicle)
	case at.closed && m.To.Seq > at.cut && e.revoked:
		return "", fmt.Errorf("its ECU key is revoked and earns nothing behind snapshot %d", at.cut)
	case at.closed && m.To.Seq > at.cut:
		return "", fmt.Errorf("its ECU key was handed over at snapshot %d and earns nothing behind it", at.cut)
	}
	return at.vehicle, nil
}
