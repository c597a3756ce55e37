package roster

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// collectorConfig is what the fleet needs of the collector's configuration. The rest is the collector's to check.
type collectorConfig struct {
	Environment wire.Environment `yaml:"environment"`
	Program     struct {
		Root      string   `yaml:"root"`
		File      string   `yaml:"file"`
		Charter   string   `yaml:"charter"`
		Policies  []string `yaml:"policies"`
		ClaimKeys string   `yaml:"claim_keys"`
		ECUCA     string   `yaml:"ecu_ca"`
	} `yaml:"program"`
	MQTT struct {
		Listen string `yaml:"listen"`
	} `yaml:"mqtt"`
	HTTPS struct {
		Listen string `yaml:"listen"`
	} `yaml:"https"`
}

// A Place says where the collector and its authorities are.
type Place struct {
	// Collector is the collector's configuration file.
	Collector string
	// MQTT are the brokers as ssl://HOST:PORT, HTTPS is the collector as https://HOST:PORT; by default where its configuration listens.
	MQTT  []string
	HTTPS string
	// CA is the file with the authority of the collector's servers, ECUCAKey that with the key of the one for ECUs; by default those beside
	// program.ecu_ca.
	CA, ECUCAKey string
}

// A Program is what the vehicles drive for, and how its collector is reached.
type Program struct {
	*terms.Documents
	// Roots are the authorities of the collector's servers.
	Roots *x509.CertPool
	// MQTT are its brokers, HOST:PORT; HTTPS is where vehicles enrol, https://HOST:PORT.
	MQTT  []string
	HTTPS string

	keys     string // directory of circuit and keys
	lock     claim.Lock
	ecuCA    *x509.Certificate
	ecuCAKey *ecdsa.PrivateKey
}

// load reads the collector's configuration and what it names. What is given goes before it.
func load(opt Place) (*Program, error) {
	text, err := os.ReadFile(opt.Collector)
	if err != nil {
		return nil, fmt.Errorf("cannot read the collector's configuration: %w", err)
	}
	c := collectorConfig{Environment: wire.Development}
	c.MQTT.Listen, c.HTTPS.Listen = "127.0.0.1:8883", "127.0.0.1:8443" // the collector's defaults
	if err := yaml.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("cannot read the collector's configuration %s: %w", opt.Collector, err)
	}
	f := &c.Program
	config.Resolve(opt.Collector, &f.Root, &f.File, &f.Charter, &f.ClaimKeys, &f.ECUCA)
	for i := range f.Policies {
		config.Resolve(opt.Collector, &f.Policies[i])
	}
	p := &Program{keys: f.ClaimKeys}
	if p.Documents, err = terms.Load(terms.Files{Root: f.Root, Program: f.File, Charter: f.Charter, Policies: f.Policies}, c.Environment); err != nil {
		return nil, err
	}
	if p.lock, err = claim.ReadLock(p.keys); err != nil {
		return nil, err
	}
	if p.ecuCA, err = readCertificate(f.ECUCA); err != nil {
		return nil, err
	}
	key := opt.ECUCAKey
	if key == "" {
		key = strings.TrimSuffix(f.ECUCA, filepath.Ext(f.ECUCA)) + ".key"
	}
	if p.ecuCAKey, err = keyfile.Load(key); err != nil {
		return nil, fmt.Errorf("%w; the fleet certifies its ECUs itself: give the key of %s as --ecu-ca-key", err, f.ECUCA)
	}
	if pub, ok := p.ecuCA.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(p.ecuCAKey.Public()) {
		return nil, fmt.Errorf("cannot certify ECUs: %s is not the key of %s", key, f.ECUCA)
	}
	if p.Roots, err = readRoots(opt.CA, f.ECUCA); err != nil {
		return nil, err
	}
	return p, p.reach(opt, c.MQTT.Listen, c.HTTPS.Listen)
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read authority for ECUs: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("cannot read authority for ECUs %s: it is no certificate in PEM", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read authority for ECUs %s: %w", path, err)
	}
	return c, nil
}

// readRoots reads the authority of the collector's servers, by default the one that `collector ca init` puts beside that for ECUs.
func readRoots(path, ecuCA string) (*x509.CertPool, error) {
	if path == "" {
		path = filepath.Join(filepath.Dir(ecuCA), "server-ca.pem")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read authority for servers: %w; give it as --ca", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot read authority for servers %s: there is no certificate in it", path)
	}
	return pool, nil
}

// reach says where the collector is: where the flags say, or else where it listens.
func (p *Program) reach(opt Place, mqtt, https string) error {
	if len(opt.MQTT) == 0 {
		opt.MQTT = []string{"ssl://" + local(mqtt)}
	}
	for _, text := range opt.MQTT {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "ssl" || u.Port() == "" || text != "ssl://"+u.Host {
			return fmt.Errorf("cannot reach broker: %q is not ssl://HOST:PORT", text)
		}
		p.MQTT = append(p.MQTT, u.Host)
	}
	p.HTTPS = opt.HTTPS
	if p.HTTPS == "" {
		p.HTTPS = "https://" + local(https)
	}
	if u, err := url.Parse(p.HTTPS); err != nil || u.Scheme != "https" || u.Port() == "" || p.HTTPS != "https://"+u.Host {
		return fmt.Errorf("cannot reach collector: %q is not https://HOST:PORT", p.HTTPS)
	}
	return nil
}

// local is an address to connect to for one that is listened on.
func local(listen string) string {
	a, err := netip.ParseAddrPort(listen)
	if err != nil || !a.Addr().IsUnspecified() {
		return listen
	}
	_, port, _ := net.SplitHostPort(listen)
	return net.JoinHostPort("127.0.0.1", port)
}

// calendar returns the day of the vehicles' births and the policy of their claims, which end on each of the days after it: the last of
// them today. The ECUs' clocks are taken to have begun long ago; a head is wherever its binding says.
func (p *Program) calendar(days int, now time.Time) (birth uint32, policy *terms.Policy, err error) {
	today := p.Timing.Day(now)
	if uint32(days) > today {
		return 0, nil, fmt.Errorf("cannot drive %d days: it is day %d of the program; give fewer --days", days, today)
	}
	birth = today - uint32(days)
	policy, err = p.policyOf(birth, days)
	return birth, policy, err
}

// policyOf returns the policy for mileage that is in force on all days after the birth.
func (p *Program) policyOf(birth uint32, days int) (policy *terms.Policy, err error) {
	for d := 1; d <= days; d++ {
		in := terms.InForce(p.Policies, terms.KindMileage, birth+uint32(d))
		if in == nil {
			return nil, fmt.Errorf("no policy for mileage is in force on day %d; give fewer --days", birth+uint32(d))
		}
		if policy != nil && in != policy {
			return nil, fmt.Errorf("policy %d follows policy %d on day %d; give fewer --days", in.Serial, policy.Serial, birth+uint32(d))
		}
		policy = in
	}
	if policy.Circuit != p.lock.Circuit || policy.ProvingKey != p.lock.ProvingKey || policy.VerifyingKey != p.lock.VerifyingKey {
		return nil, errors.New("the policy names another circuit or other keys than those in program.claim_keys")
	}
	return policy, nil
}
