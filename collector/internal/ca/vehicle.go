package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"rawstone/pkg/wire"
)

// VehicleLife is how long a vehicle's certificate is valid. It is short because nobody asks for lists of revoked ones: a collector that
// could not be told would admit a revoked vehicle for that long at most.
const VehicleLife = 14 * 24 * time.Hour

// Vehicles is the authority that issues vehicles' client certificates. It may be used from several goroutines.
type Vehicles struct {
	authority authority
	pool      *x509.CertPool
}

// OpenVehicles reads the authority's certificate and its key, mode 0600. A file with further certificates, as when an authority follows
// another, makes all of them trusted; the first one issues.
func OpenVehicles(certificate, key string) (*Vehicles, error) {
	a, err := openFiles(certificate, key)
	if err != nil {
		return nil, err
	}
	pool, err := Pool(certificate)
	if err != nil {
		return nil, err
	}
	return &Vehicles{a, pool}, nil
}

// Pool returns the authorities whose certificates admit a vehicle.
func (v *Vehicles) Pool() *x509.CertPool { return v.pool }

// Issue returns a client certificate in DER of a vehicle's device key, and when it ends, in whole seconds: after VehicleLife, or with the
// authority. It asks nobody whether the vehicle may have it.
func (v *Vehicles) Issue(vehicle string, device wire.PublicKey, now time.Time) (der []byte, until time.Time, err error) {
	if err := wire.CheckVehicle(vehicle); err != nil {
		return nil, until, fmt.Errorf("cannot issue certificate: %w", err)
	}
	key, err := device.Key()
	if err != nil {
		return nil, until, fmt.Errorf("cannot issue certificate: %w", err)
	}
	parent := v.authority.certificate
	until = now.Add(VehicleLife).Truncate(time.Second).UTC()
	if until.After(parent.NotAfter) {
		until = parent.NotAfter
	}
	if !until.After(now) {
		return nil, until, errors.New("cannot issue certificate: the authority for vehicles has expired: configure its successor")
	}
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject: pkix.Name{CommonName: vehicle}, NotBefore: now.Add(-backdate), NotAfter: until,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, parent, key, v.authority.key)
	if err != nil {
		return nil, until, fmt.Errorf("cannot issue certificate: %w", err)
	}
	return der, until, nil
}
