package rawstone_test

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// What a campaign gathers to compare: the collector's own exports, its records, the drivers' journals and the ECUs' histories.

func (c *campaign) loadPolicies() error {
	program, id, err := terms.LoadProgram(c.path("program/root.pub"), c.path("program/program.cose"))
	if err != nil {
		return err
	}
	paths, err := filepath.Glob(c.path("program/policies/*.cose"))
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		p, err := terms.OpenPolicy(program.Policy, id, b)
		if err != nil {
			return err
		}
		c.policies = append(c.policies, p)
	}
	return err
}

func (c *campaign) truth(id string) []sim.Truth {
	c.t.Helper()
	cfg, err := sim.Load(c.path(id + "/sim.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	truth, err := sim.GroundTruth(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return truth
}

// records gathers what the collector handed out and the ECUs wrote down; with all, also what the drivers were told, the answers and the
// ledger's credits.
func (c *campaign) records(all bool) (cars []carRecord, credits []ledgerCredit, err error) {
	cfg := []string{"--config", c.path("collector.yaml")}
	if _, err := c.try(append([]string{"collector", "claim", "export", "--out", c.path("claims")}, cfg...)...); err != nil {
		return nil, nil, err
	}
	claims := make(map[wire.KeyID][]*wire.Claim)
	paths, err := filepath.Glob(c.path("claims/*.claim"))
	if err != nil {
		return nil, nil, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		m, err := wire.DecodeClaim(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		claims[m.ECU] = append(claims[m.ECU], m)
	}
	for _, id := range c.vehicles {
		text, err := os.ReadFile(c.path(id + "/identity.pem"))
		if err != nil {
			return nil, nil, err
		}
		identity, err := attest.ParseIdentity(text)
		if err != nil {
			return nil, nil, err
		}
		r := carRecord{vehicle: id, key: identity.Key.ID(), truth: c.truth(id)}
		r.claims = claims[r.key]
		delete(claims, r.key)
		if all {
			if r.journal, err = c.journal(id); err != nil {
				return nil, nil, err
			}
			if r.answered, err = c.answered(id); err != nil {
				return nil, nil, err
			}
		}
		cars = append(cars, r)
	}
	if len(claims) > 0 {
		return nil, nil, errors.New("claims of ECUs that no car has")
	}
	if all {
		credits, err = c.credits(cfg)
	}
	return cars, credits, err
}

// answered reads the collector's records of a vehicle's submissions.
func (c *campaign) answered(id string) (_ map[string]bool, err error) {
	db, err := sql.Open("sqlite", "file:"+c.path("collector/records.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(c.t.Context(), "SELECT id, accepted FROM submissions WHERE vehicle = ?", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	answers := make(map[string]bool)
	for rows.Next() {
		var submission []byte
		var accepted bool
		if err := rows.Scan(&submission, &accepted); err != nil {
			return nil, err
		}
		answers[hex.EncodeToString(submission)] = accepted
	}
	return answers, rows.Err()
}

// credits reads the ledger with its openings.
func (c *campaign) credits(cfg []string) (credits []ledgerCredit, err error) {
	if err := os.RemoveAll(c.path("openings.json")); err != nil {
		return nil, err
	}
	if _, err := c.try(append([]string{"collector", "openings", "--out", c.path("openings.json")}, cfg...)...); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(c.path("openings.json"))
	if err != nil {
		return nil, err
	}
	open, err := opening.Read(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	root, err := terms.LoadRoot(c.path("program/root.pub"))
	if err != nil {
		return nil, err
	}
	err = audit.Read(c.t.Context(), c.path("collector/ledger"), root, func(e *ledger.Entry) error {
		if e.Type != ledger.TypeCredit {
			return nil
		}
		credit, err := e.Credit()
		if err != nil {
			return err
		}
		opening, ok := open.Credit(e.Number)
		if !ok {
			return fmt.Errorf("credit %d has no opening", e.Number)
		}
		if blind, err := opening.Blind(); err != nil || blind != credit.Blind {
			return fmt.Errorf("credit %d is not what its opening says (%v)", e.Number, err)
		}
		credits = append(credits, ledgerCredit{opening, credit.Km})
		return nil
	})
	return credits, err
}
