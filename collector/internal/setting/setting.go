// Package setting is the collector's configuration file: what each section says, and what goes together in which process.
//
// It opens none of the files that a configuration names.
package setting

import (
	"net/netip"
	"path/filepath"

	"rawstone/collector/internal/admin"
	"rawstone/collector/internal/backup"
	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/cluster"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/records"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/store"
	"rawstone/pkg/config"
	"rawstone/pkg/wire"
)

// Files below the state directory.
const (
	recordsFile = "records.db"
	ledgerDir   = "ledger"
	usageDir    = "usage"
)

// Config is the collector's configuration file. Relative paths are relative to the file.
type Config struct {
	// Environment is "production" or "development"; there is no default. Production refuses development keys and programs.
	Environment wire.Environment `yaml:"environment"`
	// StateDir holds queue, ledger and, unless they are elsewhere, the records; each process has its own. Required.
	StateDir string `yaml:"state_dir"`
	// Ledger is the ledger's directory, which a process with the role settle writes and one with the role web reads; default ledger below
	// StateDir.
	Ledger string `yaml:"ledger"`
	// Records is where the collector's records are; default a file of SQLite's below StateDir.
	Records records.Config `yaml:"records"`
	// Program names the program's documents and keys.
	Program program.Config `yaml:"program"`
	// Vehicles is the authority for vehicles' certificates.
	Vehicles Vehicles `yaml:"vehicles"`
	// Intake bounds what is kept of what vehicles send.
	Intake Intake `yaml:"intake"`
	// MQTT is the broker's listener.
	MQTT MQTT `yaml:"mqtt"`
	// Bridge is an external MQTT broker beside it; none by default.
	Bridge bridge.Place `yaml:"bridge"`
	// HTTPS is where agents enrol and fetch the files of the claim setup.
	HTTPS HTTPS `yaml:"https"`
	// API is the accounts' API for the maker's app; none by default.
	API API `yaml:"api"`
	// Cluster is the place of a process with the role broker among others; alone by default.
	Cluster cluster.Place `yaml:"cluster"`
	// Queue says where a process with the role ingest or web, and without a broker of its own, finds brokers.
	Queue Queue `yaml:"queue"`
	// Validators are those that the program names, as far as they are reached; for a process with the role settle.
	Validators []Validator `yaml:"validators"`
	// Internal is what this process shows to the collector's others and to validators; needed with Cluster, Queue and Validators.
	Internal peer.Config `yaml:"internal"`
	// Web is the address of the dashboard and metrics; of metrics alone without the role web. It is on loopback until there is sign-in; default 127.0.0.1:8080.
	Web string `yaml:"web"`

	// Roles are the process's, for which the file was checked; none for commands that run no collector.
	Roles role.Set `yaml:"-"`
}

// Validator says where one of the program's validators serves its feed.
type Validator struct {
	// Name is as in the program, URL is https://HOST:PORT.
	Name string `yaml:"name"`
	URL  string `yaml:"url"`
}

// Queue names the brokers of a collector in several processes.
type Queue struct {
	// Servers are their cluster.clients, IP:port.
	Servers []string `yaml:"servers"`
}

// Vehicles is the authority that issues vehicles' client certificates.
type Vehicles struct {
	// CACertificate and CAKey are PEM files: its certificate, the one that issues first where there are several, and its secret key with
	// mode 0600. Required.
	CACertificate string `yaml:"ca_certificate"`
	CAKey         string `yaml:"ca_key"`
	// TokenDays is how long a token for enrolment is good, 1 to 365; default 30.
	TokenDays int `yaml:"token_days"`
}

// Intake bounds what is kept of what vehicles send.
type Intake struct {
	// RefusalsPerVehicleDay is how many refused and repeated submissions of a vehicle and program day are kept, 1 to 10,000; default 100.
	// Further ones are answered and not kept.
	RefusalsPerVehicleDay int `yaml:"refusals_per_vehicle_day"`
}

// MQTT is the broker's listener, with TLS 1.3.
type MQTT struct {
	// Listen is the address for vehicles; default 127.0.0.1:8883.
	Listen string `yaml:"listen"`
	// Certificate and Key are as those of HTTPS; default these.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// HTTPS is a server with TLS 1.3.
type HTTPS struct {
	// Listen is its address; default 127.0.0.1:8443.
	Listen string `yaml:"listen"`
	// Certificate and Key are PEM files: the server's chain, and its secret key with mode 0600. Required.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Defaults returns the configuration over which a file is read.
func Defaults() Config {
	return Config{Web: "127.0.0.1:8080", MQTT: MQTT{Listen: "127.0.0.1:8883"}, Vehicles: Vehicles{TokenDays: 30}, Intake: Intake{RefusalsPerVehicleDay: 100}, HTTPS: HTTPS{Listen: "127.0.0.1:8443"}, API: API{LeewayS: 10, StatementDays: 400, StatementMB: 20480}}
}

// Load reads and checks the configuration file of a collector in one process.
func Load(path string) (*Config, error) { return LoadFor(path, role.All) }

// LoadFor reads a configuration file and checks it for a process with the given roles, none for a command that runs no collector.
func LoadFor(path string, roles role.Set) (*Config, error) {
	c := Defaults()
	c.Roles = roles
	if err := config.Load(path, &c); err != nil {
		return nil, err
	}
	p := &c.Program
	config.Resolve(path, &c.StateDir, &c.Ledger, &c.Records.Postgres.URLFile, &p.Root, &p.File, &p.Charter, &p.ClaimKeys, &p.ECUCA, &p.ReceiptKey, &p.LogKey,
		&c.API.JWKS, &c.API.Exchange, &c.Internal.CA, &c.Internal.Certificate, &c.Internal.Key,
		&c.Bridge.CA, &c.Bridge.Certificate, &c.Bridge.Key, &c.HTTPS.Certificate, &c.HTTPS.Key, &c.MQTT.Certificate, &c.MQTT.Key, &c.Vehicles.CACertificate, &c.Vehicles.CAKey)
	if c.MQTT.Certificate == "" {
		c.MQTT.Certificate, c.MQTT.Key = c.HTTPS.Certificate, c.HTTPS.Key
	}
	if c.Ledger == "" {
		c.Ledger = c.Path(ledgerDir)
	}
	for _, list := range [][]string{p.Policies, p.Offers, p.Witnesses} {
		for i := range list {
			config.Resolve(path, &list[i])
		}
	}
	return &c, nil
}

// Validate implements config.Config.
func (c *Config) Validate(f *config.Faults) {
	if c.Environment != wire.Development && c.Environment != wire.Production {
		f.Add("$.environment", "%q is neither development nor production", c.Environment)
	}
	must := func(key, path string) {
		if path == "" {
			f.Add("$."+key, "must be set")
		}
	}
	for _, n := range c.needs() {
		must(n.Key, n.Path)
	}
	must("state_dir", c.StateDir)
	if len(c.Program.Policies) == 0 {
		f.Add("$.program.policies", "must name at least one file")
	}
	if d := c.Vehicles.TokenDays; d < 1 || d > 365 {
		f.Add("$.vehicles.token_days", "%d is not from 1 to 365", d)
	}
	if n := c.Intake.RefusalsPerVehicleDay; n < 1 || n > 10_000 {
		f.Add("$.intake.refusals_per_vehicle_day", "%d is not from 1 to 10000", n)
	}
	if _, err := netip.ParseAddrPort(c.MQTT.Listen); err != nil {
		f.Add("$.mqtt.listen", "%q is not IP:port such as 0.0.0.0:8883", c.MQTT.Listen)
	}
	if (c.MQTT.Certificate == "") != (c.MQTT.Key == "") {
		f.Add("$.mqtt", "certificate and key go together; without both, those of https serve")
	}
	if _, err := netip.ParseAddrPort(c.HTTPS.Listen); err != nil {
		f.Add("$.https.listen", "%q is not IP:port such as 127.0.0.1:8443", c.HTTPS.Listen)
	}
	c.Bridge.Validate(f)
	c.API.validate(f)
	c.validateRoles(f)
	if !loopback(c.Web) {
		f.Add("$.web", "%q is not a loopback IP:port such as 127.0.0.1:8080: there is no sign-in yet; put a proxy with one in front", c.Web)
	}
}

// loopback reports whether IP:port is one of this machine alone. A name is not: what it stands for is decided elsewhere.
func loopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().IsLoopback()
}

// Path returns a file's path below the state directory.
func (c *Config) Path(name string) string { return filepath.Join(c.StateDir, name) }

// AdminSocket is where commands reach the running collector: admin.Dial.
func (c *Config) AdminSocket() string { return c.Path(admin.SocketFile) }

// RecordsFile is where SQLite's records are.
func (c *Config) RecordsFile() string { return c.Path(recordsFile) }

// UsageDir is where the process with the role web keeps what it has pooled of usage reports; it may be removed, and is made anew.
func (c *Config) UsageDir() string { return c.Path(usageDir) }

// Store returns how the records are opened for a role. Where a restore was cut short nobody may open them.
func (c *Config) Store(role store.Role) (store.Config, error) {
	if err := backup.Unfinished(c.StateDir); err != nil {
		return store.Config{}, err
	}
	return c.Records.Store(role, c.RecordsFile())
}
