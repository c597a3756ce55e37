package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// IssueNode makes the key of one of the collector's own processes and its certificate for 397 days, with the authority for these in a
// directory: NAME.pem and NAME.key in the directory out, which is made when missing. The certificate's subject holds the name and the
// roles that the process may have; hosts, DNS names or IP addresses, are those by which the other processes reach it, none for one that
// is not reached. Name is 1 to 32 characters of a-z, 0-9 and -, beginning with a letter. Both files must not exist.
func IssueNode(dir, name string, roles, hosts []string, out string, now time.Time) error {
	a, err := open(dir, internalCA)
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`).MatchString(name) {
		return fmt.Errorf("cannot issue certificate: %q is not 1 to 32 characters of a-z, 0-9 and -, beginning with a letter", name)
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: name, OrganizationalUnit: roles}, NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if err := reach(leaf, hosts); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o700); err != nil {
		return fmt.Errorf("cannot issue certificate: %w", err)
	}
	return issue(a, leaf, filepath.Join(out, name+".pem"), filepath.Join(out, name+".key"))
}
