// Package app plays the maker's app, the backend behind it and the authorization server that gives both their access tokens, against the
// collector's accounts API: for CI, for demos, and for whoever wants to try the API by hand.
//
// It has no knowledge that a real app lacks: it knows the API's document, the program document, and its own keys. It refuses to run
// against a program of production.
package app

import (
	"strconv"
	"time"

	"rawstone/pkg/config"
)

const (
	defaultEvery = time.Second
	maxAccounts  = 64
)

// A Config is the app's configuration file. Paths are relative to it.
type Config struct {
	// API is where the accounts API is, https://HOST:PORT; CA holds the authority of its certificate.
	API string `yaml:"api"`
	CA  string `yaml:"ca"`
	// Program names the pinned root and the program document.
	Program struct {
		Root string `yaml:"root"`
		File string `yaml:"file"`
	} `yaml:"program"`
	// Issuer and Audience are those of the tokens, as the collector expects them.
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// StateDir holds the keys of the authorization server and of the accounts, and jwks.json for the collector. An account's key in
	// account-NAME.key replaces the one in account-NAME.former.key, where there is one.
	StateDir string `yaml:"state_dir"`
	// Accounts are those that play, 1 to 64.
	Accounts []string `yaml:"accounts"`
	// Every is the time between two looks at an account, 100ms to 1h; 1s by default.
	Every time.Duration `yaml:"every"`
}

// Load reads and checks the configuration file.
func Load(path string) (*Config, error) {
	c := &Config{Every: defaultEvery}
	if err := config.Load(path, c); err != nil {
		return nil, err
	}
	config.Resolve(path, &c.CA, &c.Program.Root, &c.Program.File, &c.StateDir)
	return c, nil
}

// Validate implements config.Config.
func (c *Config) Validate(f *config.Faults) {
	for path, v := range map[string]string{
		"$.api": c.API, "$.ca": c.CA, "$.program.root": c.Program.Root, "$.program.file": c.Program.File, "$.issuer": c.Issuer,
		"$.audience": c.Audience, "$.state_dir": c.StateDir,
	} {
		if v == "" {
			f.Add(path, "must be set")
		}
	}
	if len(c.Accounts) < 1 || len(c.Accounts) > maxAccounts {
		f.Add("$.accounts", "%d accounts, want 1 to %d", len(c.Accounts), maxAccounts)
	}
	for i, a := range c.Accounts {
		if !accountName(a) {
			f.Add("$.accounts["+strconv.Itoa(i)+"]", "%q is not 1 to 64 letters, digits, hyphens and underscores", a)
		}
	}
	if c.Every < 100*time.Millisecond || c.Every > time.Hour {
		f.Add("$.every", "%v is not within 100ms to 1h", c.Every)
	}
}

// accountName says whether an account's name may name its key's file.
func accountName(a string) bool {
	for _, r := range a {
		if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return len(a) >= 1 && len(a) <= 64
}
