package enroll

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/wire"
)

// NewRequest asks for a certificate of a vehicle's device key, a P-256 key in a file or a TPM. The token is that of registration, and
// empty for a renewal.
func NewRequest(vehicle string, device crypto.Signer, token string) (*Request, error) {
	if err := wire.CheckVehicle(vehicle); err != nil {
		return nil, fmt.Errorf("cannot ask for a certificate: %w", err)
	}
	if _, err := wire.NewPublicKey(device.Public()); err != nil {
		return nil, fmt.Errorf("cannot ask for a certificate: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: vehicle}, SignatureAlgorithm: x509.ECDSAWithSHA256,
	}, device)
	if err != nil {
		return nil, fmt.Errorf("cannot ask for a certificate: %w", err)
	}
	r := &Request{Version: Version, Vehicle: vehicle, CSR: der, Token: token}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot ask for a certificate: %w", err)
	}
	return r, nil
}

// checkCSR returns the key that signed a certification request for a vehicle, which must be the one that NewRequest makes.
func checkCSR(der []byte, vehicle string) (key wire.PublicKey, err error) {
	if len(der) == 0 || len(der) > maxCSRLen {
		return key, fmt.Errorf("certification request of %d bytes, want 1 to %d", len(der), maxCSRLen)
	}
	c, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return key, fmt.Errorf("certification request: %w", err)
	}
	if key, err = wire.NewPublicKey(c.PublicKey); err != nil {
		return key, fmt.Errorf("certification request: %w", err)
	}
	if c.Subject.CommonName != vehicle {
		return key, errors.New("certification request: its subject is not the vehicle")
	}
	if len(c.Extensions) > 0 {
		return key, errors.New("certification request: it asks for extensions, and the collector alone says what a certificate is for")
	}
	// Rebuilding it from the parts that count refuses everything beside them. Its signature covers the rest.
	if tbs, err := plain(vehicle, c.RawSubjectPublicKeyInfo); err != nil {
		return key, fmt.Errorf("certification request: %w", err)
	} else if !bytes.Equal(tbs, c.RawTBSCertificateRequest) {
		return key, errors.New("certification request: it holds more than the vehicle's name and key")
	}
	if c.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return key, fmt.Errorf("certification request: signed with %s, want ECDSA-SHA256", c.SignatureAlgorithm)
	}
	if err := c.CheckSignature(); err != nil {
		return key, fmt.Errorf("certification request: %w", err)
	}
	return key, nil
}

// plain is the CertificationRequestInfo (RFC 2986 §4.1) with nothing but a vehicle's name and key.
func plain(vehicle string, spki []byte) ([]byte, error) {
	subject, err := asn1.Marshal(pkix.Name{CommonName: vehicle}.ToRDNSequence())
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Version      int
		Subject, Key asn1.RawValue
		NoAttributes asn1.RawValue
	}{
		0, asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: spki},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true},
	})
}

// Leaf returns the vehicle's certificate after checking that it is one with which a vehicle with this device key can connect: its
// subject, its key, its use. Whether it is valid now is for who uses it; who signed it, for the collector, from whom the answer came.
func (a *Answer) Leaf(vehicle string, device wire.PublicKey) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(a.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate: %w", err)
	}
	key, err := wire.NewPublicKey(c.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate: %w", err)
	}
	switch {
	case key != device:
		return nil, errors.New("cannot use certificate: it is of another key")
	case c.Subject.CommonName != vehicle:
		return nil, errors.New("cannot use certificate: it is of another vehicle")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return nil, errors.New("cannot use certificate: it is not for TLS clients")
	case !c.NotBefore.Before(c.NotAfter):
		return nil, errors.New("cannot use certificate: it ends before it begins")
	}
	return c, nil
}
