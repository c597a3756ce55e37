package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"regexp"
	"time"
)

// BridgeName is the usual name of the collector's bridge at an external MQTT broker. No vehicle's name has small letters.
const BridgeName = "collector"

// IssueBridge makes the key of a client of the external MQTT broker that the collector is bridged to, in the file outKey, and its
// certificate for 397 days in the file out, with the authority for vehicles in a directory: brokers take clients of one authority. The
// collector's own broker refuses it, because it names no vehicle. Both files must not exist.
func IssueBridge(dir, name, out, outKey string, now time.Time) error {
	a, err := open(dir, vehicleCA)
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`).MatchString(name) {
		return fmt.Errorf("cannot issue certificate: %q is not 1 to 32 characters of a-z, 0-9 and -, beginning with a letter", name)
	}
	return issue(a, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(serverLife),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, out, outKey)
}
