// Package auditor replays a ledger from files or from a server, as a stranger, or with the openings and the archived claims that an auditor
// is given.
//
// A directory and a server are read alike: every byte that counts is held against the log's signed checkpoint, so that a flipped bit, a missing
// tile and a file that ends early are found and named wherever the log lies. With archived claims each credit needs one that proves it
// (package proof). The package writes nothing and needs no collector.
package auditor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"rawstone/pkg/audit"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
	"rawstone/pkg/wire"
)

// Config says what to audit and with what.
type Config struct {
	// Ledger is a log's directory, or the URL (http or https) below which a server hands it out.
	Ledger string
	// Root is the file that pins the program root.
	Root string
	// Openings is the file that `collector openings` wrote; empty for a stranger's audit.
	Openings string
	// Claims is a directory that `collector claim export` wrote; empty leaves the claims unchecked. They need openings, and the directories
	// of the verifying keys that the ledger's policies name.
	Claims string
	Keys   []string
	// Day, when not 0, asks for the balances at the end of that program day, and needs openings. Of later entries only the log's tree is
	// checked: openings that were written after the day need not hold them.
	Day uint32
}

// Report says what was checked.
type Report struct {
	audit.Report
	// ClaimsChecked says that archived claims were given; Proven counts the credits that one proves, and CreditsErased those that nobody can
	// check any more, because their openings were destroyed at a person's request.
	ClaimsChecked bool   `json:"claims_checked"`
	Proven        uint64 `json:"proven"`
	CreditsErased uint64 `json:"credits_erased,omitempty"`
	// AtDay are every account's stones in milli-stones after the last drop of Config.Day, nil while the log has not come so far.
	AtDay map[string]uint64 `json:"at_day_milli,omitempty"`
}

// String is the report in one line.
func (r Report) String() string {
	if !r.ClaimsChecked {
		return r.Report.String()
	}
	s := fmt.Sprintf("%s; the claims behind %d credits hold", r.Report, r.Proven)
	if r.CreditsErased > 0 {
		s += fmt.Sprintf(", %d were erased", r.CreditsErased)
	}
	return s
}

// Audit replays a ledger from nothing. The report says how far it came also when there is an error.
func Audit(ctx context.Context, c Config) (Report, error) {
	source, err := open(c.Ledger)
	if err != nil {
		return Report{}, err
	}
	return auditFrom(ctx, source, c)
}

// open returns the log in a directory or on a server.
func open(location string) (tlog.Source, error) {
	if strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://") {
		return remote.New(remote.Config{URL: location})
	}
	if _, err := os.Stat(location); err != nil {
		return nil, fmt.Errorf("cannot audit ledger: %w; %s", err, whichLedger)
	}
	return tlog.Dir(location), nil
}

const whichLedger = "name the directory ledger below the collector's state_dir, or a copy of it"

func auditFrom(ctx context.Context, source tlog.Source, c Config) (r Report, err error) {
	root, err := terms.LoadRoot(c.Root)
	if err != nil {
		return r, err
	}
	if len(c.Keys) > 0 && c.Claims == "" {
		return r, errors.New("cannot use verifying keys without claims: give the directory that `collector claim export` wrote with --proofs, or leave --keys out")
	}
	var openings audit.Opener
	var claims *claims
	if c.Openings != "" {
		set, err := readOpenings(c.Openings)
		if err != nil {
			return r, err
		}
		openings = set
		if c.Claims != "" {
			if claims, err = openClaims(c, root, set); err != nil {
				return r, err
			}
		}
	} else if c.Claims != "" {
		return r, errors.New("cannot check claims without openings: they say which claim is behind a credit; `collector openings` writes them")
	}
	replay, err := audit.NewReplay(root, openings)
	if err != nil {
		return r, err
	}
	over := func() bool { return c.Day != 0 && replay.Due().Day > c.Day }
	refused := false
	err = audit.ReadFrom(ctx, source, root, func(e *ledger.Entry) error {
		if over() {
			return nil
		}
		err := replay.Apply(e)
		if err == nil && claims != nil {
			err = claims.add(ctx, e)
		}
		refused = err != nil
		return err
	})
	if err == nil && claims != nil {
		err = claims.flush(ctx)
		refused = err != nil
	}
	if r.Report = replay.Report(); err == nil && over() {
		r.AtDay = r.Balances
	}
	if claims != nil {
		r.ClaimsChecked, r.Proven, r.CreditsErased = true, claims.proven, claims.erased
	}
	_, here := source.(tlog.Dir)
	switch {
	case err == nil || ctx.Err() != nil:
	case errors.Is(err, audit.ErrNoOpening):
		err = fmt.Errorf("%w: the openings are older than the ledger, or of another; write them again with `collector openings`, or audit a copy of the ledger taken before them", err)
	case refused:
	case errors.Is(err, tlog.ErrEmpty):
		if here {
			err = fmt.Errorf("%w; %s", err, whichLedger)
		}
	case here:
		err = fmt.Errorf("%w; fetch the ledger again, or from a mirror", err)
	}
	return r, err
}

func readOpenings(path string) (*opening.Set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read openings: %w; `collector openings` writes them", err)
	}
	defer f.Close()
	set, err := opening.Read(f)
	if err != nil {
		return nil, fmt.Errorf("cannot use openings %s: %w", path, err)
	}
	return set, nil
}

// openClaims makes the check of the archived claims.
func openClaims(c Config, root wire.PublicKey, openings *opening.Set) (*claims, error) {
	if len(c.Keys) == 0 {
		return nil, errors.New("cannot check claims without verifying keys: give the directories with the keys and lock files that the ledger's policies name")
	}
	verifiers, err := proof.Keys(c.Keys...)
	if err != nil {
		return nil, err
	}
	checker, err := proof.New(proof.Config{Root: root, Openings: openings, Verifier: verifiers})
	if err != nil {
		return nil, err
	}
	kept, err := openArchive(c.Claims)
	if err != nil {
		return nil, err
	}
	return &claims{checker: checker, openings: openings, kept: kept}, nil
}
