package ca

import (
	"crypto/x509"
	"path/filepath"
	"testing"

	"rawstone/pkg/keyfile"
)

func TestIssueBridge(t *testing.T) {
	dir := newCA(t)
	out, outKey := filepath.Join(dir, "bridge.pem"), filepath.Join(dir, "bridge.key")
	if err := IssueBridge(dir, BridgeName, out, outKey, now()); err != nil {
		t.Fatal(err)
	}
	all, err := readCertificates(out)
	if err != nil || len(all) != 1 {
		t.Fatalf("%d certificates: %v", len(all), err)
	}
	key, err := keyfile.Load(outKey)
	if err != nil || !key.PublicKey.Equal(all[0].PublicKey) || all[0].Subject.String() != "CN=collector" || all[0].IsCA {
		t.Errorf("certificate %+v (%v)", all[0], err)
	}
	for _, c := range []struct {
		authority string
		usage     x509.ExtKeyUsage
		good      bool
	}{
		{vehicleCA, x509.ExtKeyUsageClientAuth, true}, {vehicleCA, x509.ExtKeyUsageServerAuth, false},
		{serverCA, x509.ExtKeyUsageClientAuth, false}, {ecuCA, x509.ExtKeyUsageClientAuth, false},
	} {
		_, err := all[0].Verify(x509.VerifyOptions{Roots: pool(t, dir, c.authority), CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{c.usage}})
		if (err == nil) != c.good {
			t.Errorf("under %s for %v: %v", c.authority, c.usage, err)
		}
	}
	if IssueBridge(dir, BridgeName, out, filepath.Join(dir, "other.key"), now()) == nil {
		t.Error("a certificate was overwritten")
	}
	if IssueBridge(dir, BridgeName, filepath.Join(dir, "other.pem"), outKey, now()) == nil {
		t.Error("a key was overwritten")
	}
	for _, name := range []string{"", "CAR1", "1", "a b", "+", "a/b", "collector\n", "a123456789012345678901234567890123"} {
		if IssueBridge(dir, name, filepath.Join(dir, "x.pem"), filepath.Join(dir, "x.key"), now()) == nil {
			t.Errorf("a certificate was issued for %q", name)
		}
	}
}
