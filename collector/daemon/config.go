package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"rawstone/pkg/config"
	"rawstone/pkg/wire"
)

// Config is the collector's configuration file. Relative paths are relative to the file.
type Config struct {
	// Environment is "production" or "development"; there is no default. Production refuses development keys and programs.
	Environment wire.Environment `yaml:"environment"`
	// StateDir holds database, queue and ledger. Required.
	StateDir string `yaml:"state_dir"`
	// Program names the program's documents and keys.
	Program Program `yaml:"program"`
	// Vehicles is the authority for vehicles' certificates.
	Vehicles Vehicles `yaml:"vehicles"`
	// MQTT is the broker's listener.
	MQTT MQTT `yaml:"mqtt"`
	// HTTPS is where agents enrol and fetch the files of the claim setup.
	HTTPS HTTPS `yaml:"https"`
	// Web is the address of the dashboard and metrics, on loopback until there is sign-in; default 127.0.0.1:8080.
	Web string `yaml:"web"`
}

// Program names the signed documents and the secret keys.
type Program struct {
	// Root is the file with the program root's public key: 66 hexadecimal digits. Required.
	Root string `yaml:"root"`
	// File, Charter and Policies are the signed documents. Required.
	File     string   `yaml:"file"`
	Charter  string   `yaml:"charter"`
	Policies []string `yaml:"policies"`
	// ClaimKeys is the directory of the circuit and its verifying key. Required.
	ClaimKeys string `yaml:"claim_keys"`
	// ECUCA is the file with the certificates, in PEM, of the authorities that may certify attestation ECUs' keys. Required.
	ECUCA string `yaml:"ecu_ca"`
	// ReceiptKey, LogKey and ValidatorKey are secret key files, mode 0600: for receipts, the ledger's checkpoints, and the operator's
	// own validator. Required.
	ReceiptKey   string `yaml:"receipt_key"`
	LogKey       string `yaml:"log_key"`
	ValidatorKey string `yaml:"validator_key"`
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
	return Config{Web: "127.0.0.1:8080", MQTT: MQTT{Listen: "127.0.0.1:8883"}, Vehicles: Vehicles{TokenDays: 30}, HTTPS: HTTPS{Listen: "127.0.0.1:8443"}}
}

// Load reads and checks a configuration file.
func Load(path string) (*Config, error) {
	c := Defaults()
	if err := config.Load(path, &c); err != nil {
		return nil, err
	}
	p := &c.Program
	config.Resolve(path, &c.StateDir, &p.Root, &p.File, &p.Charter, &p.ClaimKeys, &p.ECUCA, &p.ReceiptKey, &p.LogKey, &p.ValidatorKey,
		&c.HTTPS.Certificate, &c.HTTPS.Key, &c.MQTT.Certificate, &c.MQTT.Key, &c.Vehicles.CACertificate, &c.Vehicles.CAKey)
	if c.MQTT.Certificate == "" {
		c.MQTT.Certificate, c.MQTT.Key = c.HTTPS.Certificate, c.HTTPS.Key
	}
	for i := range p.Policies {
		config.Resolve(path, &p.Policies[i])
	}
	return &c, nil
}

// Validate implements config.Config.
func (c *Config) Validate(f *config.Faults) {
	if c.Environment != wire.Development && c.Environment != wire.Production {
		f.Add("$.environment", "%q is neither development nor production", c.Environment)
	}
	all := append(c.Program.documents(), c.Program.secrets()...)
	for _, n := range append(all, named{"state_dir", c.StateDir}, named{"https.certificate", c.HTTPS.Certificate}, named{"https.key", c.HTTPS.Key},
		named{"vehicles.ca_certificate", c.Vehicles.CACertificate}, named{"vehicles.ca_key", c.Vehicles.CAKey}) {
		if n.path == "" {
			f.Add("$."+n.key, "must be set")
		}
	}
	if len(c.Program.Policies) == 0 {
		f.Add("$.program.policies", "must name at least one file")
	}
	if d := c.Vehicles.TokenDays; d < 1 || d > 365 {
		f.Add("$.vehicles.token_days", "%d is not from 1 to 365", d)
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
	if !loopback(c.Web) {
		f.Add("$.web", "%q is not a loopback IP:port such as 127.0.0.1:8080: there is no sign-in yet; put a proxy with one in front", c.Web)
	}
}

// loopback reports whether IP:port is one of this machine alone. A name is not: what it stands for is decided elsewhere.
func loopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().IsLoopback()
}

// named is a path and the configuration key that holds it.
type named struct{ key, path string }

// documents are what says what the program is.
func (p *Program) documents() []named {
	out := []named{
		{"program.root", p.Root}, {"program.file", p.File}, {"program.charter", p.Charter}, {"program.claim_keys", p.ClaimKeys},
		{"program.ecu_ca", p.ECUCA},
	}
	for i, path := range p.Policies {
		out = append(out, named{fmt.Sprintf("program.policies[%d]", i), path})
	}
	return out
}

// secrets are the secret keys.
func (p *Program) secrets() []named {
	return []named{
		{"program.receipt_key", p.ReceiptKey}, {"program.log_key", p.LogKey}, {"program.validator_key", p.ValidatorKey},
	}
}

// exist names all paths that lead nowhere at once.
func exist(paths []named) error {
	var errs []error
	for _, n := range paths {
		if _, err := os.Stat(n.path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot use %s: %s does not exist; correct the path in the configuration, "+
				"or make a development program with `collector init`", n.key, n.path))
		}
	}
	return errors.Join(errs...)
}
