package setting

import (
	"log/slog"
	"net/netip"

	"rawstone/collector/internal/statement"
	"rawstone/pkg/config"
	"rawstone/pkg/wire"
)

// API is the accounts' API for the maker's app, with TLS 1.3; for a process with the role web. It is off while Listen is empty.
type API struct {
	// Listen is its address, such as 0.0.0.0:8444; empty, the default, for none.
	Listen string `yaml:"listen"`
	// JWKS is the file with the authorization server's public keys (RFC 7517), which is read again when it changes. Issuer and Audience are what
	// its access tokens (RFC 9068) must say. Required with Listen.
	JWKS     string `yaml:"jwks"`
	Issuer   string `yaml:"issuer"`
	Audience string `yaml:"audience"`
	// LeewayS is how far the authorization server's clock may differ, in seconds, 0 to 120; default 10.
	LeewayS int `yaml:"leeway_s"`
	// Exchange is the equity statement that `collector equity` wrote; empty, the default, before there is one.
	Exchange string `yaml:"exchange"`
	// StatementDays and StatementMB bound the days' trees that are kept below StateDir for statements: 1 to 10000 days, default 400, and 1 to
	// 10000000 MB, default 20480. A statement that goes back further makes the trees of its older days each time.
	StatementDays int `yaml:"statement_days"`
	StatementMB   int `yaml:"statement_mb"`
}

const (
	maxLeewayS       = 120
	maxStatementDays = 10_000
	maxStatementMB   = 10_000_000
)

// statementsDir is below the state directory.
const statementsDir = "statements"

// Statements returns what statements are made from, but for the records, which are opened for the role Statements.
func (c *Config) Statements(root wire.PublicKey, logger *slog.Logger) statement.Config {
	return statement.Config{
		LogDir: c.Ledger, Root: root, Days: c.Path(statementsDir), KeptDays: c.API.StatementDays, KeptBytes: int64(c.API.StatementMB) << 20, Logger: logger,
	}
}

func (a *API) validate(f *config.Faults) {
	if a.LeewayS < 0 || a.LeewayS > maxLeewayS {
		f.Add("$.api.leeway_s", "%d is not from 0 to %d", a.LeewayS, maxLeewayS)
	}
	if a.StatementDays < 1 || a.StatementDays > maxStatementDays {
		f.Add("$.api.statement_days", "%d is not from 1 to %d", a.StatementDays, maxStatementDays)
	}
	if a.StatementMB < 1 || a.StatementMB > maxStatementMB {
		f.Add("$.api.statement_mb", "%d is not from 1 to %d", a.StatementMB, maxStatementMB)
	}
	if a.Listen == "" {
		return
	}
	if _, err := netip.ParseAddrPort(a.Listen); err != nil {
		f.Add("$.api.listen", "%q is not IP:port such as 0.0.0.0:8444", a.Listen)
	}
	for key, v := range map[string]string{"jwks": a.JWKS, "issuer": a.Issuer, "audience": a.Audience} {
		if v == "" {
			f.Add("$.api."+key, "must be set")
		}
	}
}
