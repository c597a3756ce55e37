package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

func request(t testing.TB, token string) (*Request, wire.PublicKey) {
	t.Helper()
	k, p := newKey(t)
	r, err := NewRequest("CAR1", k, token)
	if err != nil {
		t.Fatal(err)
	}
	return r, p
}

// certificate signs a certificate with a key of its own.
func certificate(t testing.TB, subject string, pub crypto.PublicKey, edit func(*x509.Certificate)) []byte {
	t.Helper()
	ca, _ := newKey(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e6, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, pub, ca)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRequest(t *testing.T) {
	for _, token := range []string{"", NewToken()} {
		r, key := request(t, token)
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Vehicle != "CAR1" || got.Token != token || got.Key() != key {
			t.Errorf("got %q with %t token, key %v", got.Vehicle, got.Token != "", got.Key())
		}
	}
}

// csr makes a certification request from a template after a change.
func csr(t testing.TB, key crypto.Signer, edit func(*x509.CertificateRequest)) []byte {
	t.Helper()
	c := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "CAR1"}}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, c, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRequestRefuses(t *testing.T) {
	key, _ := newKey(t)
	good := csr(t, key, nil)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := asn1.Marshal(struct {
		IsCA bool `asn1:"optional"`
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	spoilt := bytes.Clone(good)
	spoilt[len(spoilt)-1] ^= 1
	other, _ := newKey(t)
	grafted := graft(t, good, csr(t, other, nil))
	for name, c := range map[string]struct {
		csr  []byte
		want string
	}{
		"another vehicle":  {csr(t, key, func(c *x509.CertificateRequest) { c.Subject.CommonName = "CAR2" }), "its subject is not the vehicle"},
		"no subject":       {csr(t, key, func(c *x509.CertificateRequest) { c.Subject = pkix.Name{} }), "its subject is not the vehicle"},
		"a longer subject": {csr(t, key, func(c *x509.CertificateRequest) { c.Subject.Organization = []string{"X"} }), "holds more than"},
		"two names": {csr(t, key, func(c *x509.CertificateRequest) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, cn("CAR2"), cn("CAR1"))
		}), "holds more than"},
		"CA:true": {csr(t, key, func(c *x509.CertificateRequest) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: authority}}
		}), "asks for extensions"},
		"a host":              {csr(t, key, func(c *x509.CertificateRequest) { c.DNSNames = []string{"collector.example"} }), "asks for extensions"},
		"an attribute":        {attribute(t, key), "holds more than"},
		"RSA":                 {csr(t, rsaKey, nil), "cannot use public key"},
		"P-384":               {csr(t, p384, nil), "cannot use public key"},
		"SHA-384":             {csr(t, key, func(c *x509.CertificateRequest) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }), "want ECDSA-SHA256"},
		"spoilt signature":    {spoilt, "certification request: "},
		"another's signature": {grafted, "verification failure"},
		"trailing byte":       {append(bytes.Clone(good), 0), "trailing data"},
		"a certificate":       {certificate(t, "CAR1", key.Public(), nil), "certification request"},
		"empty":               {nil, "certification request of 0 bytes"},
		"oversized":           {make([]byte, maxCSRLen+1), "of 1025 bytes"},
	} {
		r := &Request{Version: Version, Vehicle: "CAR1", CSR: c.csr}
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
		b, err := codec.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeRequest(b); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
	token := NewToken()
	for name, c := range map[string]struct {
		r    Request
		want string
	}{
		"good":            {Request{Version, "CAR1", good, token, wire.PublicKey{}}, ""},
		"version":         {Request{2, "CAR1", good, token, wire.PublicKey{}}, "version 2, want 1"},
		"vehicle":         {Request{Version, "car1", good, token, wire.PublicKey{}}, "vehicle id"},
		"short token":     {Request{Version, "CAR1", good, token[1:], wire.PublicKey{}}, "the token is not one"},
		"long token":      {Request{Version, "CAR1", good, token + "A", wire.PublicKey{}}, "the token is not one"},
		"small token":     {Request{Version, "CAR1", good, strings.ToLower(token), wire.PublicKey{}}, "the token is not one"},
		"token of breaks": {Request{Version, "CAR1", good, token[:24] + "\n\n\n\n\n\n\n\n", wire.PublicKey{}}, "the token is not one"},
	} {
		err := c.r.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), token[1:24]) {
			t.Errorf("%s: the error tells the token", name)
		}
	}
	r := &Request{Version: Version, Vehicle: "CAR1", CSR: good}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"trailing byte": append(bytes.Clone(b), 0), "oversized": append(bytes.Clone(b), make([]byte, MaxLen)...), "cut": b[:len(b)-1]} {
		if _, err := DecodeRequest(bad); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
	if _, err := NewRequest("CAR1", rsaKey, ""); err == nil {
		t.Error("a request was made with an RSA key")
	}
	if _, err := NewRequest("car1", key, ""); err == nil {
		t.Error("a request was made for no vehicle")
	}
}

func cn(name string) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name}
}

// A signed is the outer form of a certification request.
type signed struct {
	TBS       asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

func parse(t testing.TB, der []byte) (s signed) {
	t.Helper()
	if _, err := asn1.Unmarshal(der, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// graft puts the signature of one request under another.
func graft(t testing.TB, to, from []byte) []byte {
	t.Helper()
	s := parse(t, to)
	s.Signature = parse(t, from).Signature
	der, err := asn1.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// attribute makes a rightly signed request with a challenge password (RFC 2985 §5.4.1).
func attribute(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	c, err := x509.ParseCertificateRequest(csr(t, key, nil))
	if err != nil {
		t.Fatal(err)
	}
	type set struct {
		ID     asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}
	a, err := asn1.Marshal(set{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := asn1.Marshal(struct {
		Version                  int
		Subject, Key, Attributes asn1.RawValue
	}{0, asn1.RawValue{FullBytes: c.RawSubject}, asn1.RawValue{FullBytes: c.RawSubjectPublicKeyInfo},
		asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: a}})
	if err != nil {
		t.Fatal(err)
	}
	h := crypto.SHA256.New()
	h.Write(tbs)
	sig, err := key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s := parse(t, c.Raw)
	s.TBS, s.Signature = asn1.RawValue{FullBytes: tbs}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	der, err := asn1.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x509.ParseCertificateRequest(der)
	if err != nil || again.CheckSignature() != nil {
		t.Fatalf("the request is not good: %v", err)
	}
	return der
}

func TestAnswer(t *testing.T) {
	key, pub := newKey(t)
	good := &Answer{Version: Version, Chain: [][]byte{certificate(t, "CAR1", key.Public(), nil)}}
	b, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	a, err := DecodeAnswer(b)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Leaf("CAR1", pub); err != nil || !bytes.Equal(c.Raw, good.Chain[0]) {
		t.Errorf("got %v", err)
	}
	for name, a := range map[string]*Answer{
		"version": {2, good.Chain}, "empty": {Version, nil}, "five": {Version, make([][]byte, 5)}, "empty certificate": {Version, [][]byte{{}}},
		"large certificate": {Version, [][]byte{make([]byte, maxCertificateLen+1)}},
		"large":             {Version, [][]byte{make([]byte, maxCertificateLen), make([]byte, maxCertificateLen)}},
	} {
		if _, err := a.Encode(); err == nil {
			t.Errorf("%s was encoded", name)
		}
		b, err := codec.Encode(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeAnswer(b); err == nil {
			t.Errorf("%s was decoded", name)
		}
	}
	other, _ := newKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"another key":     certificate(t, "CAR1", other.Public(), nil),
		"RSA":             certificate(t, "CAR1", rsaKey.Public(), nil),
		"another vehicle": certificate(t, "CAR2", key.Public(), nil),
		"for servers":     certificate(t, "CAR1", key.Public(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"for agreement":   certificate(t, "CAR1", key.Public(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
		"backwards":       certificate(t, "CAR1", key.Public(), func(c *x509.Certificate) { c.NotAfter = c.NotBefore }),
		"garbage":         []byte("garbage"),
	} {
		a := &Answer{Version, [][]byte{der}}
		if _, err := a.Leaf("CAR1", pub); err == nil {
			t.Errorf("certificate %s is taken", name)
		}
	}
}

func TestTokens(t *testing.T) {
	a, b := NewToken(), NewToken()
	if a == b || len(a) != 32 {
		t.Errorf("tokens of %d characters, alike: %t", len(a), a == b)
	}
	if got, err := ParseToken(" " + a + "\n"); err != nil || got != a {
		t.Errorf("a token in a file: %v", err)
	}
	for _, text := range []string{"", a[1:], a + a, a[:31] + "=", a[:31] + "1"} {
		if _, err := ParseToken(text); err == nil {
			t.Errorf("a token of %d characters is taken", len(text))
		}
	}
	if !Matches(a, HashToken(a)) || Matches(a, HashToken(b)) || Matches(a, wire.Hash{}) {
		t.Error("tokens do not match their hashes alone")
	}
}

func TestProblems(t *testing.T) {
	p, err := DecodeProblem([]byte(`{"title":"Forbidden","status":403,"detail":"the vehicle is revoked","reason":"revoked","more":1}`))
	if err != nil || p.Reason != ReasonRevoked || p.Status != 403 || !p.Reason.Final() {
		t.Errorf("got %+v, %v", p, err)
	}
	var asProblem *Problem
	if !errors.As(error(p), &asProblem) || !strings.Contains(p.Error(), p.Detail) {
		t.Errorf("as an error: %v", p)
	}
	if ReasonBusy.Final() {
		t.Error("an agent gives up because the collector is busy")
	}
	for _, text := range []string{"", "<html>", "{}", "null", `{"detail":"x","reason":"other"}`, `{"reason":"busy"}`, `{"detail":"` + strings.Repeat("x", MaxLen) + `","reason":"busy"}`} {
		if _, err := DecodeProblem([]byte(text)); err == nil {
			t.Errorf("%.20q is taken for a refusal", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, token := range []string{"", NewToken()} {
		r, _ := request(f, token)
		b, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	key, _ := newKey(f)
	a, err := (&Answer{Version, [][]byte{certificate(f, "CAR1", key.Public(), nil)}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a)
	f.Add([]byte(`{"detail":"x","reason":"busy"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeRequest(b); err == nil {
			if again, err := r.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x encodes otherwise: %v", b, err)
			}
		}
		if a, err := DecodeAnswer(b); err == nil {
			if again, err := a.Encode(); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x encodes otherwise: %v", b, err)
			}
			a.Leaf("CAR1", wire.PublicKey{})
		}
		DecodeProblem(b)
	})
}
