package genesis

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"

	"rawstone/pkg/config"
)

const maxValidators = 16

// A Source is the readable description of a development program.
type Source struct {
	// Name is the program's name, 1 to 64 bytes.
	Name string `yaml:"name"`
	// DayS is the length of a program day in seconds, default 86400; DropS the time between drops, default 600. DropS divides DayS.
	DayS  uint32 `yaml:"day_s"`
	DropS uint32 `yaml:"drop_s"`
	// OffsetS moves the day boundary away from midnight UTC, in seconds; default 28800, midnight in China.
	OffsetS int64 `yaml:"offset_s"`
	// BoardKeys is how many board keys are made, default 3; BoardQuorum how many sign the charter, default 2.
	BoardKeys   int   `yaml:"board_keys"`
	BoardQuorum uint8 `yaml:"board_quorum"`
	// Validators are the names of those who cosign, 1 to 16, each of letters, digits and hyphens; default operator, auditor, bank and owners.
	// Each gets a key file of its own. Quorum is how many of them make a block final, default more than two thirds: 3 of 4.
	Validators []string `yaml:"validators"`
	Quorum     uint8    `yaml:"quorum"`
	// Charter and Policies are the sources of the documents to sign; relative to this file.
	Charter  string   `yaml:"charter"`
	Policies []string `yaml:"policies"`
	// Offers is the source of the first offers, relative to this file; empty for none. They come into force at the earliest day that the
	// ledger allows, which their source must leave open (from_day 0).
	Offers string `yaml:"offers"`
}

func defaultSource() Source {
	return Source{DayS: 86400, DropS: 600, OffsetS: 28800, BoardKeys: 3, BoardQuorum: 2, Validators: []string{"operator", "auditor", "bank", "owners"}}
}

// quorum is how many validators make a block final.
func (s *Source) quorum() uint8 { return cmp.Or(s.Quorum, uint8(2*len(s.Validators)/3+1)) }

// Validate implements config.Config.
func (s *Source) Validate(f *config.Faults) {
	if s.Name == "" {
		f.Add("$.name", "must be set")
	}
	if s.Charter == "" {
		f.Add("$.charter", "must name a file")
	}
	if len(s.Policies) == 0 {
		f.Add("$.policies", "must name at least one file")
	}
	if s.BoardKeys < 1 || s.BoardKeys > 16 || s.BoardQuorum < 1 || int(s.BoardQuorum) > s.BoardKeys {
		f.Add("$.board_quorum", "%d of %d board keys cannot be met", s.BoardQuorum, s.BoardKeys)
	}
	if n := len(s.Validators); n < 1 || n > maxValidators || int(s.quorum()) > n {
		f.Add("$.validators", "a quorum of %d among %d validators is not from 1 to %d", s.quorum(), n, maxValidators)
	}
	for i, name := range s.Validators {
		if !regexp.MustCompile(`^[a-zA-Z0-9-]{1,32}$`).MatchString(name) || slices.Contains(s.Validators[:i], name) {
			f.Add("$.validators["+strconv.Itoa(i)+"]", "%q is not 1 to 32 letters, digits and hyphens, or is there twice", name)
		}
	}
}
