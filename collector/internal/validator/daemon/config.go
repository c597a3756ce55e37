package daemon

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/peer"
	"rawstone/pkg/config"
	"rawstone/pkg/wire"
)

const defaultExchange = time.Minute

// Config is a validator's configuration file. Relative paths are relative to the file.
type Config struct {
	// Environment is "production" or "development"; there is no default. Production refuses development programs.
	Environment wire.Environment `yaml:"environment"`
	// StateDir holds the validator's copy of the ledger, what it has signed, and evidence. Required; nobody else writes there.
	StateDir string `yaml:"state_dir"`
	// Root is the file with the program root's public key, Key the validator's secret key, mode 0600. Required.
	Root string `yaml:"root"`
	Key  string `yaml:"key"`
	// ClaimKeys are directories with the verifying keys that the program's policies name; at least one.
	ClaimKeys []string `yaml:"claim_keys"`
	// Listen is the address of the feed, IP:port. Required.
	Listen string `yaml:"listen"`
	// Internal is what the validator shows to settlers and other validators. Required.
	Internal peer.Config `yaml:"internal"`
	// Validators are the others, with which checkpoints are exchanged; Exchange is how often, default 1m.
	Validators []Other       `yaml:"validators"`
	Exchange   time.Duration `yaml:"exchange_every"`
	// Web is the address of metrics and /healthz; default 127.0.0.1:8090.
	Web string `yaml:"web"`
}

// Other is another validator.
type Other struct {
	// Name is as in the program, URL is https://HOST:PORT of its feed.
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
}

// Load reads and checks a validator's configuration file.
func Load(path string) (*Config, error) {
	c := Config{Web: "127.0.0.1:8090"}
	if err := config.Load(path, &c); err != nil {
		return nil, err
	}
	c.Exchange = cmp.Or(c.Exchange, defaultExchange)
	config.Resolve(path, &c.StateDir, &c.Root, &c.Key, &c.Internal.CA, &c.Internal.Certificate, &c.Internal.Key)
	for i := range c.ClaimKeys {
		config.Resolve(path, &c.ClaimKeys[i])
	}
	return &c, nil
}

// Validate implements config.Config.
func (c *Config) Validate(f *config.Faults) {
	if c.Environment != wire.Development && c.Environment != wire.Production {
		f.Add("$.environment", "%q is neither development nor production", c.Environment)
	}
	for key, v := range map[string]string{
		"state_dir": c.StateDir, "root": c.Root, "key": c.Key,
		"internal.ca": c.Internal.CA, "internal.certificate": c.Internal.Certificate, "internal.key": c.Internal.Key,
	} {
		if v == "" {
			f.Add("$."+key, "must be set")
		}
	}
	if len(c.ClaimKeys) == 0 {
		f.Add("$.claim_keys", "must name at least one directory of a claim setup")
	}
	for key, v := range map[string]string{"listen": c.Listen, "web": c.Web} {
		if _, err := netip.ParseAddrPort(v); err != nil {
			f.Add("$."+key, "%q is not IP:port such as 127.0.0.1:9443", v)
		}
	}
	if a, err := netip.ParseAddrPort(c.Web); err == nil && !a.Addr().IsLoopback() {
		f.Add("$.web", "%q is not a loopback IP:port such as 127.0.0.1:8090: there is no sign-in", c.Web)
	}
	for i, o := range c.Validators {
		if o.Name == "" {
			f.Add(fmt.Sprintf("$.validators[%d].name", i), "must be set")
		}
		if err := feed.CheckURL(o.URL); err != nil {
			f.Add(fmt.Sprintf("$.validators[%d].url", i), "%v", err)
		}
	}
}
