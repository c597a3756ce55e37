package ca

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"slices"
	"testing"
)

func TestNode(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "nodes")
	if err := Init(dir, now()); err != nil {
		t.Fatal(err)
	}
	roles := []string{"broker", "web"}
	if err := IssueNode(dir, "b1", roles, []string{"127.0.0.1", "b1.example"}, out, now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "b1.pem"), filepath.Join(out, "b1.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := pair.Leaf.Subject
	slices.Sort(s.OrganizationalUnit) // a set has no order
	if s.CommonName != "b1" || !slices.Equal(s.OrganizationalUnit, roles) {
		t.Errorf("subject %s", s)
	}
	for name, want := range map[string]bool{"internal-ca": true, "server-ca": false, "vehicle-ca": false, "ecu-ca": false} {
		pool, err := Pool(filepath.Join(dir, name+".pem"))
		if err != nil {
			t.Fatal(err)
		}
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "b1.example", CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{use}})
			if (err == nil) != want {
				t.Errorf("under %s for use %d: %v", name, use, err)
			}
		}
	}
	if err := IssueNode(dir, "w1", []string{"ingest"}, nil, out, now()); err != nil {
		t.Errorf("one that is not reached: %v", err)
	}
	for name, hosts := range map[string][]string{"b1": nil, "B2": nil, "": nil, "../b2": nil, "b2": {"https://b2"}} {
		if err := IssueNode(dir, name, roles, hosts, out, now()); err == nil {
			t.Errorf("%q at %q was issued", name, hosts)
		}
	}
}
