// Package ca makes and checks the X.509 certificates (RFC 5280) of a development manufacturer, and checks those of a real one.
//
// There are four roots in a directory: ecu-ca signs the certificates of attestation ECUs, server-ca those of TLS servers, vehicle-ca those
// with which vehicles connect, internal-ca those by which a collector's own processes know each other. None is trusted for another's
// purpose, so that who may run a server cannot make an ECU or be a vehicle. An ECU's certificate is a device identity as IEEE 802.1AR has
// it: for life, its subject the key's identifier. A vehicle's lasts 14 days, its subject the vehicle; the collector itself issues these
// (Vehicles), in production too. The subject of a process's names the process and its roles.
//
// The package refuses to overwrite a file and to use a key that others may read. It keeps no list of revoked certificates: the registry
// of ECU keys revokes keys. The keys lie in files, which is enough for development and not for a manufacturer.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/keyfile"
)

// The names of the authorities. Their files are NAME.pem and NAME.key.
const (
	ecuCA     = "ecu-ca"
	serverCA  = "server-ca"
	vehicleCA = "vehicle-ca"

	internalCA = "internal-ca"
)

const (
	maxHosts = 32
	// Clocks that lag a little accept a new certificate at once.
	backdate = time.Hour
	// What the Baseline Requirements of the CA/Browser Forum allow (6.3.2), which TLS clients have come to expect.
	serverLife = 397 * 24 * time.Hour
)

// forever is GeneralizedTime 99991231235959Z, "no well-defined expiration" (RFC 5280 §4.1.2.5; IEEE 802.1AR §8.7 asks for it).
func forever() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// Init makes the authorities in a directory, which is made when missing and must not hold one.
func Init(dir string, now time.Time) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make authorities: %w", err)
	}
	for _, name := range []string{ecuCA, serverCA, vehicleCA, internalCA} {
		for _, ext := range []string{".pem", ".key"} {
			path := filepath.Join(dir, name+ext)
			if _, err := os.Lstat(path); err == nil {
				return fmt.Errorf("cannot make authorities: %s exists; choose another directory", path)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot make authorities: %w", err)
			}
		}
	}
	for name, title := range map[string]string{
		ecuCA: "Rawstone development ECU CA", serverCA: "Rawstone development server CA", vehicleCA: "Rawstone development vehicle CA",
		internalCA: "Rawstone development internal CA",
	} {
		key, err := keyfile.Create(filepath.Join(dir, name+".key"))
		if err != nil {
			return err
		}
		root := &x509.Certificate{
			Subject: pkix.Name{CommonName: title}, NotBefore: now.Add(-backdate), NotAfter: forever(),
			BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		}
		text, err := sign(root, root, key.Public(), key)
		if err != nil {
			return err
		}
		if err := Write(filepath.Join(dir, name+".pem"), text); err != nil {
			return err
		}
	}
	return nil
}

// An authority is a root's certificate and its key.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func open(dir, name string) (authority, error) {
	return openFiles(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
}

func openFiles(certificate, key string) (a authority, err error) {
	all, err := readCertificates(certificate)
	if err != nil {
		return a, fmt.Errorf("%w; `collector ca init` makes the authorities", err)
	}
	a.certificate = all[0]
	if a.key, err = keyfile.Load(key); err != nil {
		return a, err
	}
	if pub, ok := a.certificate.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(a.key.Public()) {
		return a, fmt.Errorf("cannot use authority %s: its certificate is of another key than %s", certificate, key)
	}
	return a, nil
}

// IssueECU signs the certificate of an ECU's key, which its identity proves to have, with the authority for ECUs in a directory.
func IssueECU(dir string, identity *attest.Identity, now time.Time) ([]byte, error) {
	a, err := open(dir, ecuCA)
	if err != nil {
		return nil, err
	}
	key, err := identity.Key.Key()
	if err != nil {
		return nil, fmt.Errorf("cannot issue certificate: %w", err)
	}
	if err := attest.Verify(key, identity.Program, identity.Snapshot); err != nil {
		return nil, fmt.Errorf("cannot issue certificate: ECU identity: %w", err)
	}
	return sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: identity.Key.ID().String()}, NotBefore: now.Add(-backdate), NotAfter: forever(),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.certificate, key, a.key)
}

// IssueServer makes a TLS server's key in the file outKey and its certificate for the given hosts, DNS names or IP addresses, in the file
// out. Both must not exist.
func IssueServer(dir string, hosts []string, out, outKey string, now time.Time) error {
	a, err := open(dir, serverCA)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return errors.New("cannot issue certificate: no host is given")
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Rawstone development server"}, NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if err := reach(leaf, hosts); err != nil {
		return err
	}
	return issue(a, leaf, out, outKey)
}

// reach puts the hosts, DNS names or IP addresses, into a certificate.
func reach(leaf *x509.Certificate, hosts []string) error {
	if len(hosts) > maxHosts {
		return fmt.Errorf("cannot issue certificate: %d hosts, at most %d allowed", len(hosts), maxHosts)
	}
	name := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else if len(h) <= 253 && name.MatchString(h) {
			leaf.DNSNames = append(leaf.DNSNames, h)
		} else {
			return fmt.Errorf("cannot issue certificate: %q is neither a DNS name nor an IP address", h)
		}
	}
	return nil
}

// issue makes a key and its certificate, each in a file that must not exist.
func issue(a authority, leaf *x509.Certificate, out, outKey string) error {
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("cannot issue certificate: %s exists; choose another name or remove it", out)
	}
	key, err := keyfile.Create(outKey)
	if err != nil {
		return err
	}
	text, err := sign(leaf, a.certificate, key.Public(), a.key)
	if err != nil {
		return err
	}
	return Write(out, text)
}

// sign returns a certificate in PEM, with a random serial number.
func sign(template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("cannot issue certificate: %w", err)
	}
	return armour(der), nil
}

func armour(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}) }

// Write writes a certificate to a file that must not exist.
func Write(path string, text []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write %s: it exists; choose another name or remove it", path)
	} else if err != nil {
		return fmt.Errorf("cannot write certificate: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("cannot write certificate: %w", err)
	}
	return f.Sync()
}
