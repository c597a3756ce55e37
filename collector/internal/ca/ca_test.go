package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

func now() time.Time { return time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC) }

func newECU(t testing.TB) *attest.Identity {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	s, err := attest.Sign(k, wire.Hash{1}, 3, 4, wire.Commitment{1})
	if err != nil {
		t.Fatal(err)
	}
	return &attest.Identity{Key: pub, Program: wire.Hash{1}, Snapshot: s}
}

// newCA makes the authorities in a new directory.
func newCA(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Init(dir, now()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func pool(t testing.TB, dir, name string) *x509.CertPool {
	t.Helper()
	p, err := Pool(filepath.Join(dir, name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestInitOverwritesNothing(t *testing.T) {
	dir := newCA(t)
	for _, name := range []string{"ecu-ca.key", "server-ca.key", "vehicle-ca.key", "internal-ca.key"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for _, name := range []string{"ecu-ca.pem", "ecu-ca.key", "server-ca.pem", "server-ca.key", "vehicle-ca.pem", "vehicle-ca.key", "internal-ca.pem", "internal-ca.key"} {
		other := t.TempDir()
		if err := os.WriteFile(filepath.Join(other, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Init(other, now()); err == nil || !strings.Contains(err.Error(), name+" exists") {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(other); err != nil || len(left) != 1 {
			t.Errorf("%s: a refusal left %v, %v", name, left, err)
		}
	}
}

func TestECU(t *testing.T) {
	dir, ecu := newCA(t), newECU(t)
	text, err := IssueECU(dir, ecu, now())
	if err != nil {
		t.Fatal(err)
	}
	roots := pool(t, dir, ecuCA)
	for name, at := range map[string]time.Time{"at once": now(), "in a hundred years": now().AddDate(100, 0, 0)} {
		if err := CheckECU(roots, text, ecu.Key, at); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := parseECU(text)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject.CommonName != ecu.Key.ID().String() || c.IsCA || !c.BasicConstraintsValid || c.KeyUsage != x509.KeyUsageDigitalSignature ||
		c.NotAfter.Format("20060102150405Z") != "99991231235959Z" || len(c.DNSNames) > 0 {
		t.Errorf("certificate %+v", c)
	}
	forged := *ecu
	forged.Snapshot.Seq++
	if _, err := IssueECU(dir, &forged, now()); err == nil {
		t.Error("an identity without its key's signature got a certificate")
	}
	if _, err := IssueECU(t.TempDir(), ecu, now()); err == nil || !strings.Contains(err.Error(), "`collector ca init`") {
		t.Errorf("without authorities: %v", err)
	}
	other := newCA(t)
	if err := os.Remove(filepath.Join(other, "ecu-ca.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "ecu-ca.key"), filepath.Join(other, "ecu-ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := IssueECU(other, ecu, now()); err == nil || !strings.Contains(err.Error(), "of another key than") {
		t.Errorf("with another authority's key: %v", err)
	}
}

func TestCheckECURefuses(t *testing.T) {
	dir, ecu := newCA(t), newECU(t)
	roots := pool(t, dir, ecuCA)
	good, err := IssueECU(dir, ecu, now())
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ecu.Key.Key()
	if err != nil {
		t.Fatal(err)
	}
	// issue signs a certificate of the ECU's key after a change, with an authority.
	issue := func(name string, pub crypto.PublicKey, edit func(*x509.Certificate)) []byte {
		t.Helper()
		a, err := open(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "x"}, NotBefore: now(), NotAfter: now().AddDate(1, 0, 0),
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
		edit(leaf)
		text, err := sign(leaf, a.certificate, pub, a.key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	plain := func(*x509.Certificate) {}
	if err := CheckECU(roots, issue(ecuCA, pub, plain), ecu.Key, now()); err != nil {
		t.Fatal(err)
	}
	stranger, err := IssueECU(newCA(t), ecu, now())
	if err != nil {
		t.Fatal(err)
	}
	another, err := IssueECU(dir, newECU(t), now())
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "ecu-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"of another authority":      {stranger, "unknown authority"},
		"of the server authority":   {issue(serverCA, pub, plain), "unknown authority"},
		"expired":                   {issue(ecuCA, pub, func(c *x509.Certificate) { c.NotAfter = now().Add(-time.Second); c.NotBefore = now().AddDate(-1, 0, 0) }), "expired"},
		"not valid yet":             {issue(ecuCA, pub, func(c *x509.Certificate) { c.NotBefore = now().Add(time.Minute) }), "not yet valid"},
		"of another ECU":            {another, "not of the ECU's"},
		"on another curve":          {issue(ecuCA, p384.Public(), plain), "cannot use public key"},
		"of another algorithm":      {issue(ecuCA, ed, plain), "cannot use public key"},
		"authority":                 {issue(ecuCA, pub, func(c *x509.Certificate) { c.IsCA = true }), "it is an authority's"},
		"that may sign others":      {issue(ecuCA, pub, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), "it is an authority's"},
		"for key agreement":         {issue(ecuCA, pub, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), "does not name digital signatures"},
		"without key usage":         {issue(ecuCA, pub, func(c *x509.Certificate) { c.KeyUsage = 0 }), "does not name digital signatures"},
		"root itself":               {root, "not of the ECU's"},
		"key":                       {key, "one CERTIFICATE block alone"},
		"empty":                     {nil, "there is none"},
		"garbage":                   {[]byte("garbage"), "one CERTIFICATE block alone"},
		"garbage in a block":        {armour([]byte("garbage")), "malformed"},
		"two":                       {append(bytes.Clone(good), good...), "one CERTIFICATE block alone"},
		"something before":          {append([]byte("x\n"), good...), "one CERTIFICATE block alone"},
		"something after":           {append(bytes.Clone(good), 'x'), "one CERTIFICATE block alone"},
		"oversized":                 {append(bytes.Clone(good), bytes.Repeat([]byte{'\n'}, MaxCertificateLen)...), "at most 8192 allowed"},
		"with its signature spoilt": {armour(spoil(t, good)), "ECDSA verification failure"},
	} {
		if err := CheckECU(roots, c.text, ecu.Key, now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("certificate %s: got %v, want %q in it", name, err, c.want)
		}
	}
	if err := CheckECU(nil, good, ecu.Key, now()); err == nil || !strings.Contains(err.Error(), "no authority is configured") {
		t.Errorf("without a pool: %v", err)
	}
}

func spoil(t *testing.T, text []byte) []byte {
	t.Helper()
	c, err := parseECU(text)
	if err != nil {
		t.Fatal(err)
	}
	der := bytes.Clone(c.Raw)
	der[len(der)-1] ^= 1
	return der
}

func TestPoolRefuses(t *testing.T) {
	dir := newCA(t)
	root, err := os.ReadFile(filepath.Join(dir, "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := IssueECU(dir, newECU(t), now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "ecu-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pool.pem")
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"two roots and a comment": {append(append([]byte("# two\n"), root...), root...), ""},
		"empty":                   {nil, "not whole PEM blocks"},
		"truncated":               {append(bytes.Clone(root), root[:40]...), "not whole PEM blocks"},
		"leaf":                    {append(bytes.Clone(root), leaf...), "number 2"},
		"key":                     {key, `block 1 is of type "PRIVATE KEY"`},
		"garbage":                 {armour([]byte("x")), "certificate 1"},
		"oversized":               {bytes.Repeat(root, maxPoolLen/len(root)+1), "more than"},
	} {
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Pool(path)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
	if _, err := Pool(filepath.Join(dir, "none")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestServer(t *testing.T) {
	dir := newCA(t)
	out, outKey := filepath.Join(t.TempDir(), "server.pem"), filepath.Join(t.TempDir(), "server.key")
	if err := IssueServer(dir, []string{"127.0.0.1", "collector.example"}, out, outKey, now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(out, outKey)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "collector.example": true, "other.example": false} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: pool(t, dir, serverCA), CurrentTime: now()})
		if (err == nil) != want {
			t.Errorf("host %s: %v", host, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool(t, dir, ecuCA), CurrentTime: now()}); err == nil {
		t.Error("a server's certificate holds under the authority for ECUs")
	}
	// An ECU's certificate serves no host, not even where its authority is trusted for servers.
	text, err := IssueECU(dir, newECU(t), now())
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseECU(text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool(t, dir, serverCA), CurrentTime: now()}); err == nil {
		t.Error("an ECU's certificate holds under the authority for servers")
	}
	if err := c.VerifyHostname("127.0.0.1"); err == nil {
		t.Error("an ECU's certificate serves a host")
	}
	if err := IssueServer(dir, []string{"a"}, out, filepath.Join(t.TempDir(), "key"), now()); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("certificate overwritten: %v", err)
	}
	if err := IssueServer(dir, []string{"a"}, filepath.Join(t.TempDir(), "c"), outKey, now()); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("key overwritten: %v", err)
	}
	for _, hosts := range [][]string{nil, make([]string, 33), {""}, {"a b"}, {"-a"}, {"https://a"}, {strings.Repeat("a.", 130)}} {
		o, k := filepath.Join(t.TempDir(), "c"), filepath.Join(t.TempDir(), "k")
		if err := IssueServer(dir, hosts, o, k, now()); err == nil {
			t.Errorf("hosts %q were accepted", hosts)
		}
		if _, err := os.Stat(k); err == nil {
			t.Errorf("hosts %q: a refusal left a key", hosts)
		}
	}
}

// FuzzCertificates holds that no text makes the readers fail otherwise than with an error, and that an ECU's certificate has one spelling.
func FuzzCertificates(f *testing.F) {
	dir, ecu := newCA(f), newECU(f)
	roots := pool(f, dir, ecuCA)
	text, err := IssueECU(dir, ecu, now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(append(bytes.Clone(text), text...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseECU(b); err == nil && !bytes.Equal(armour(c.Raw), b) {
			t.Errorf("%q is accepted and spelt otherwise", b)
		}
		if all, err := parseCertificates(b); err == nil && len(all) == 0 {
			t.Errorf("%q is accepted and holds nothing", b)
		}
		if err := CheckECU(roots, b, ecu.Key, now()); err == nil && !bytes.Equal(b, text) {
			t.Errorf("%q is accepted", b)
		}
	})
}
