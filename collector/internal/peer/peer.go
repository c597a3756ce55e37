// Package peer is how a collector's own processes know each other: mutual TLS 1.3 under an authority of their own. A certificate's subject
// holds the process's name and its roles; who takes a connection gives it the rights of these roles and no others.
//
// It believes no certificate of another authority, and none that names no role. What a role may do is for others to say. There is no list
// of revoked certificates: a key that is lost makes a new authority necessary.
package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/certificate"
	"rawstone/collector/internal/role"
	"rawstone/pkg/config"
)

// Config is a configuration's section `internal`; there is none when it is zero.
type Config struct {
	// CA is the file with the certificates, in PEM, of the authorities of the processes' certificates.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files: this process's certificate, and its secret key with mode 0600.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Validate adds the faults of the section. needed says whether something else in the configuration needs it.
func (c Config) Validate(f *config.Faults, needed bool) {
	if !needed {
		if c != (Config{}) {
			f.Add("$.internal", "is for a process with cluster, queue or validators: set one of them or leave it out")
		}
		return
	}
	for key, path := range map[string]string{"ca": c.CA, "certificate": c.Certificate, "key": c.Key} {
		if path == "" {
			f.Add("$.internal."+key, "must be set where cluster, queue or validators is: `collector ca node` makes a process's certificate")
		}
	}
}

// An Identity is what this process shows to others, and whom it believes. It may be used from several goroutines.
type Identity struct {
	// Name is in the certificate's subject.
	Name  string
	roots *x509.CertPool
	pair  *certificate.Pair
}

// Open reads the files. It refuses a certificate that does not name all of the process's roles.
func Open(c Config, roles role.Set, logger *slog.Logger) (*Identity, error) {
	roots, err := ca.Pool(c.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot use internal.ca: %w", err)
	}
	pair, err := certificate.Open(certificate.Config{Certificate: c.Certificate, Key: c.Key, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("cannot use internal.certificate and internal.key: %w", err)
	}
	own, err := pair.Get(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot use internal.certificate: %w", err)
	}
	leaf := own.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(own.Certificate[0]); err != nil {
			return nil, fmt.Errorf("cannot use internal.certificate: %w", err)
		}
	}
	may, err := role.Parse(leaf.Subject.OrganizationalUnit)
	if err != nil || !may.Has(roles) {
		return nil, fmt.Errorf("cannot use internal.certificate: it is for the roles %q, and this process has %s: issue one with `collector ca node`",
			leaf.Subject.OrganizationalUnit, roles)
	}
	return &Identity{leaf.Subject.CommonName, roots, pair}, nil
}

// Server returns how this process takes connections from processes with any of the roles.
func (i *Identity) Server(from role.Set) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: i.pair.Get, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: i.roots,
		SessionTicketsDisabled: true, VerifyConnection: one(from),
	}
}

// Client returns how this process connects to one with any of the roles.
func (i *Identity) Client(to role.Set) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: i.roots, VerifyConnection: one(to),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return i.pair.Get(nil) },
	}
}

// Both returns how this process takes connections from and connects to processes with a role, where one configuration serves both.
func (i *Identity) Both(with role.Set) *tls.Config {
	c := i.Server(with)
	c.RootCAs, c.GetClientCertificate = i.roots, i.Client(with).GetClientCertificate
	return c
}

// one refuses who has none of the roles.
func one(of role.Set) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		_, roles, err := Of(&state)
		if err == nil && !roles.Any(of) {
			err = fmt.Errorf("the other process's roles are %s, and none of %s", roles, of)
		}
		return err
	}
}

// Of returns the name and the roles of the process at the other end of a connection that TLS has verified.
func Of(state *tls.ConnectionState) (name string, roles role.Set, err error) {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return "", 0, errors.New("it shows no certificate")
	}
	who := state.PeerCertificates[0].Subject
	if roles, err = role.Parse(who.OrganizationalUnit); err == nil && who.CommonName == "" {
		err = errors.New("its certificate has no name")
	}
	return who.CommonName, roles, err
}
