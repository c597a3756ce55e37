// Package equity makes and reads the equity statement: at the end of a set program day, reward.EquityPerMille of the founding-round equity
// value is split among all stones, exact to the fen.
//
// The statement is made from the ledger by a full replay with openings, never from the collector's records, so that whoever holds the openings
// makes the same file. It names accounts: it is for the operator and the auditor, and the API shows an owner their own line alone.
package equity

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"rawstone/collector/internal/evidence/auditor"
	"rawstone/pkg/reward"
)

// maxLen bounds a statement's file in bytes: some 10,000,000 accounts.
const maxLen = 1 << 30

// A Statement is the equity statement.
type Statement struct {
	// Day is the program day at whose end stones are counted.
	Day uint32 `json:"day"`
	// ValueFen is the founding-round equity value in fen, PerMille the part of it that is split.
	ValueFen uint64 `json:"value_fen"`
	PerMille uint64 `json:"per_mille"`
	// AllMilli are the stones of all accounts.
	AllMilli uint64 `json:"all_milli"`
	// Portions are by account, ascending.
	Portions []Portion `json:"portions"`
}

// A Portion is an account's.
type Portion struct {
	Account string `json:"account"`
	Milli   uint64 `json:"milli"`
	Fen     uint64 `json:"fen"`
}

// Config says what to make a statement of.
type Config struct {
	// Ledger, Root and Openings are as in an audit with openings.
	Ledger, Root, Openings string
	// Day is the program day at whose end stones are counted, at least 1; ValueFen the equity value in fen, at least 1.
	Day      uint32
	ValueFen uint64
}

// Make replays the ledger and splits the value.
func Make(ctx context.Context, c Config) (*Statement, error) {
	var lacks []string
	for what, missing := range map[string]bool{
		"a program day (--day)": c.Day == 0, "a value of at least 1 fen (--value-fen)": c.ValueFen == 0, "openings (--openings)": c.Openings == "",
	} {
		if missing {
			lacks = append(lacks, what)
		}
	}
	if len(lacks) > 0 {
		slices.Sort(lacks)
		return nil, fmt.Errorf("cannot make equity statement: it lacks %s", strings.Join(lacks, " and "))
	}
	r, err := auditor.Audit(ctx, auditor.Config{Ledger: c.Ledger, Root: c.Root, Openings: c.Openings, Day: c.Day})
	if err != nil {
		return nil, fmt.Errorf("cannot make equity statement: %w", err)
	}
	if r.AtDay == nil {
		return nil, fmt.Errorf("cannot make equity statement: program day %d is not over in the ledger; make it when the day's last drop is drawn", c.Day)
	}
	var holdings []reward.Holding
	for account, milli := range r.AtDay {
		holdings = append(holdings, reward.Holding{Account: account, Milli: milli})
	}
	portions, err := reward.Equity(c.ValueFen, holdings)
	if err != nil {
		return nil, fmt.Errorf("cannot make equity statement: %w", err)
	}
	s := &Statement{Day: c.Day, ValueFen: c.ValueFen, PerMille: reward.EquityPerMille}
	for _, p := range portions {
		milli := r.AtDay[p.Account]
		s.AllMilli += milli
		s.Portions = append(s.Portions, Portion{p.Account, milli, p.Cents})
	}
	return s, nil
}

// Write writes the statement as JSON.
func (s *Statement) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(s); err != nil {
		return fmt.Errorf("cannot write equity statement: %w", err)
	}
	return nil
}

// Read reads a statement's file and checks that its portions follow from its stones.
func Read(path string) (*Statement, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read equity statement: %w; `collector equity` makes it", err)
	}
	defer f.Close()
	s := new(Statement)
	dec := json.NewDecoder(io.LimitReader(f, maxLen))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("cannot read equity statement %s: %w; give the file that `collector equity` wrote", path, err)
	}
	holdings, all := make([]reward.Holding, len(s.Portions)), uint64(0)
	for i, p := range s.Portions {
		holdings[i] = reward.Holding{Account: p.Account, Milli: p.Milli}
		all += p.Milli // reward.Equity bounds each and their sum
	}
	want, err := reward.Equity(s.ValueFen, holdings)
	if err != nil {
		return nil, fmt.Errorf("cannot use equity statement %s: %w; make it anew with `collector equity`", path, err)
	}
	for i, p := range s.Portions {
		if s.PerMille != reward.EquityPerMille || s.AllMilli != all || want[i].Account != p.Account || want[i].Cents != p.Fen {
			return nil, fmt.Errorf("cannot use equity statement %s: the portion of its account %d does not follow from the stones; make it anew with `collector equity`", path, i+1)
		}
	}
	return s, nil
}

// Of returns an account's portion; one without stones gets nothing.
func (s *Statement) Of(account string) Portion {
	i, ok := slices.BinarySearchFunc(s.Portions, account, func(p Portion, a string) int { return strings.Compare(p.Account, a) })
	if !ok {
		return Portion{Account: account}
	}
	return s.Portions[i]
}
