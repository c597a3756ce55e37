package ca

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/wire"
)

func openVehicles(t *testing.T, dir string) *Vehicles {
	t.Helper()
	v, err := OpenVehicles(filepath.Join(dir, "vehicle-ca.pem"), filepath.Join(dir, "vehicle-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVehicles(t *testing.T) {
	dir := newCA(t)
	v, key := openVehicles(t, dir), newECU(t).Key
	der, until, err := v.Issue("CAR1", key, now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	certified, err := wire.NewPublicKey(c.PublicKey)
	if err != nil || certified != key || c.Subject.String() != "CN=CAR1" || c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature ||
		!slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) || !c.NotAfter.Equal(until) ||
		until.Sub(now()) > VehicleLife || until.Sub(now()) < VehicleLife-time.Second || !c.NotBefore.Before(now()) || len(c.DNSNames) > 0 {
		t.Errorf("certificate %+v until %s (%v)", c, until, err)
	}
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for name, o := range map[string]x509.VerifyOptions{
		"":                {Roots: v.Pool(), CurrentTime: now(), KeyUsages: client},
		"at its end":      {Roots: v.Pool(), CurrentTime: until, KeyUsages: client},
		"expired":         {Roots: v.Pool(), CurrentTime: until.Add(time.Second), KeyUsages: client},
		"as a server's":   {Roots: v.Pool(), CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		"to server-ca":    {Roots: pool(t, dir, serverCA), CurrentTime: now(), KeyUsages: client},
		"to ecu-ca":       {Roots: pool(t, dir, ecuCA), CurrentTime: now(), KeyUsages: client},
		"to a namesake's": {Roots: pool(t, newCA(t), vehicleCA), CurrentTime: now(), KeyUsages: client},
	} {
		if _, err := c.Verify(o); (err == nil) != (name == "" || name == "at its end") {
			t.Errorf("certificate %s: %v", name, err)
		}
	}
	again, _, err := v.Issue("CAR1", key, now())
	if err != nil || slices.Equal(again, der) {
		t.Errorf("two certificates are one (%v)", err)
	}
	if _, _, err := v.Issue("publisher", key, now()); err == nil {
		t.Error("a certificate was issued for no vehicle's name")
	}
	if _, _, err := v.Issue("CAR1", wire.PublicKey{}, now()); err == nil {
		t.Error("a certificate was issued for no key")
	}
}

func TestVehiclesEndWithTheirAuthority(t *testing.T) {
	dir := newCA(t)
	v, key := openVehicles(t, dir), newECU(t).Key
	end := now().Add(time.Hour)
	v.authority.certificate.NotAfter = end
	if _, until, err := v.Issue("CAR1", key, now()); err != nil || !until.Equal(end) {
		t.Errorf("until %s (%v), want %s", until, err, end)
	}
	if _, _, err := v.Issue("CAR1", key, end); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("of an expired authority: %v", err)
	}
}

func TestOpenVehiclesRefuses(t *testing.T) {
	dir := newCA(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	if _, err := OpenVehicles(at("vehicle-ca.pem"), at("server-ca.key")); err == nil || !strings.Contains(err.Error(), "of another key") {
		t.Errorf("with another key: %v", err)
	}
	if _, err := OpenVehicles(at("none"), at("vehicle-ca.key")); err == nil || !strings.Contains(err.Error(), "`collector ca init`") {
		t.Errorf("without a certificate: %v", err)
	}
	if err := os.Chmod(at("vehicle-ca.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVehicles(at("vehicle-ca.pem"), at("vehicle-ca.key")); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("with a key for others: %v", err)
	}
}
