package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"rawstone/pkg/wire"
)

const (
	blockType = "CERTIFICATE"
	// MaxCertificateLen bounds an ECU's certificate in PEM, in bytes.
	MaxCertificateLen = 8 << 10

	maxPoolLen = 64 << 10
)

// Pool reads the certificates of the authorities that may sign ECUs' certificates: a file of PEM blocks, at most 64 KiB. A file without
// any and a certificate that is not an authority's are refused.
func Pool(path string) (*x509.CertPool, error) {
	const remedy = "give the authority's certificate, such as ecu-ca.pem"
	all, err := readCertificates(path)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, remedy)
	}
	pool := x509.NewCertPool()
	for i, c := range all {
		if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
			return nil, fmt.Errorf("cannot use certificates %s: number %d, %q, is not an authority's; %s", path, i+1, c.Subject.CommonName, remedy)
		}
		pool.AddCert(c)
	}
	return pool, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPoolLen+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read certificates: %w", err)
	}
	all, err := parseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificates %s: %w", path, err)
	}
	return all, nil
}

// parseCertificates reads PEM blocks with nothing but white space after them.
func parseCertificates(text []byte) (all []*x509.Certificate, err error) {
	if len(text) > maxPoolLen {
		return nil, fmt.Errorf("more than %d bytes", maxPoolLen)
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != blockType {
			return nil, fmt.Errorf("block %d is of type %q, not %s", len(all)+1, block.Type, blockType)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all, text = append(all, c), rest
	}
	if len(bytes.TrimSpace(text)) > 0 || len(all) == 0 {
		return nil, errors.New("it is not whole PEM blocks of certificates")
	}
	return all, nil
}

// CheckECU checks that a certificate in PEM is of an ECU's key and was signed by an authority in the pool: it is valid now, its key is
// this one, on P-256, and may sign data but no certificates (RFC 5280 §4.2.1.3 and §4.2.1.9). It accepts exactly one block and nothing
// beside it, at most MaxCertificateLen bytes.
func CheckECU(pool *x509.CertPool, certPEM []byte, key wire.PublicKey, now time.Time) error {
	c, err := parseECU(certPEM)
	if err != nil {
		return fmt.Errorf("cannot use ECU certificate: %w", err)
	}
	// The error of a key of another kind or curve says so.
	if certified, err := wire.NewPublicKey(c.PublicKey); err != nil {
		return fmt.Errorf("cannot use ECU certificate: %w", err)
	} else if certified != key {
		return fmt.Errorf("cannot use ECU certificate: it is of key %s, not of the ECU's, %s", certified.ID(), key.ID())
	}
	if c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		return errors.New("cannot use ECU certificate: it is an authority's")
	}
	if c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("cannot use ECU certificate: its key usage does not name digital signatures")
	}
	if pool == nil { // which would stand for the system's
		return errors.New("cannot use ECU certificate: no authority is configured")
	}
	_, err = c.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("cannot use ECU certificate: %w; give the one that the ECU's manufacturer issued, and its authority as program.ecu_ca", err)
	}
	return nil
}

func parseECU(text []byte) (*x509.Certificate, error) {
	if len(text) == 0 {
		return nil, errors.New("there is none")
	}
	if len(text) > MaxCertificateLen {
		return nil, fmt.Errorf("%d bytes, at most %d allowed", len(text), MaxCertificateLen)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != blockType || !bytes.Equal(armour(block.Bytes), text) {
		return nil, fmt.Errorf("it is not one %s block alone: `openssl x509 -in FILE` prints it so", blockType)
	}
	return x509.ParseCertificate(block.Bytes)
}
