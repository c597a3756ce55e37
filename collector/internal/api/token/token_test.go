package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	issuer   = "https://id.maker.example"
	audience = "https://stones.maker.example"
)

type object = map[string]any

// An authority signs tokens as an issuer does.
type authority struct {
	t    testing.TB
	path string
	at   time.Time
	keys map[string]crypto.Signer
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, path: filepath.Join(t.TempDir(), "jwks.json"), at: time.Unix(1_800_000_000, 0), keys: make(map[string]crypto.Signer)}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a.keys["ec"], a.keys["ed"], a.keys["rsa"] = ec, ed, rs
	a.publish("ec", "ed", "rsa")
	return a
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func public(t testing.TB, kid string, k crypto.Signer) object {
	t.Helper()
	switch k := k.Public().(type) {
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return object{"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": b64(b[1:33]), "y": b64(b[33:])}
	case ed25519.PublicKey:
		return object{"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": b64(k)}
	case *rsa.PublicKey:
		return object{"kty": "RSA", "kid": kid, "key_ops": []string{"verify"}, "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
	}
	t.Fatalf("%T", k)
	return nil
}

// publish replaces the file as an operator does: by a rename.
func (a *authority) publish(kids ...string) {
	a.t.Helper()
	var list []object
	for _, kid := range kids {
		list = append(list, public(a.t, kid, a.keys[kid]))
	}
	b, err := json.Marshal(object{"keys": list})
	if err != nil {
		a.t.Fatal(err)
	}
	a.replace(b)
}

func (a *authority) replace(b []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path+".new", b, 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(a.path+".new", a.path); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) now() time.Time { return a.at }

func (a *authority) verifier(leeway time.Duration) *Verifier {
	a.t.Helper()
	v, err := New(Config{Path: a.path, Issuer: issuer, Audience: audience, Leeway: leeway, Now: a.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		a.t.Fatal(err)
	}
	return v
}

// claims are those of a token that is good for five minutes.
func (a *authority) claims() jwt.MapClaims {
	return jwt.MapClaims{"iss": issuer, "aud": audience, "sub": "account-1", "client_id": "app", "scope": Read + " " + Spend,
		"iat": a.at.Unix(), "exp": a.at.Add(5 * time.Minute).Unix(), "jti": "1"}
}

func (a *authority) sign(method jwt.SigningMethod, key any, header object, c jwt.MapClaims) string {
	a.t.Helper()
	t := jwt.NewWithClaims(method, c)
	t.Header["typ"] = "at+jwt"
	maps.Copy(t.Header, header)
	for k, v := range header {
		if v == nil {
			delete(t.Header, k)
		}
	}
	s, err := t.SignedString(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func TestAccepted(t *testing.T) {
	a := newAuthority(t)
	v := a.verifier(0)
	for kid, method := range map[string]jwt.SigningMethod{"ec": jwt.SigningMethodES256, "ed": jwt.SigningMethodEdDSA, "rsa": jwt.SigningMethodRS256} {
		got, err := v.Verify(a.sign(method, a.keys[kid], object{"kid": kid}, a.claims()))
		if err != nil || got.Subject != "account-1" || got.Client != "app" || !got.Has(Read) || !got.Has(Spend) || got.Has(Grant) || got.Has("stones") {
			t.Errorf("%s: %+v, %v", kid, got, err)
		}
	}
	c := a.claims()
	c["aud"] = []string{"https://other.example", audience}
	if _, err := v.Verify(a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec", "typ": "application/AT+JWT"}, c)); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	a := newAuthority(t)
	v := a.verifier(0)
	with := func(name string, value any) jwt.MapClaims {
		c := a.claims()
		if value == nil {
			delete(c, name)
		} else {
			c[name] = value
		}
		return c
	}
	ec := func(c jwt.MapClaims) string {
		return a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec"}, c)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	good := ec(a.claims())
	parts := strings.Split(good, ".")
	for name, c := range map[string]struct{ encoded, want string }{
		"empty":               {"", "no JWT"},
		"not a token":         {"abc", "no JWT"},
		"four parts":          {good + ".x", "no JWT"},
		"too long":            {strings.Repeat("a", MaxLen+1), "longer"},
		"none":                {a.sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, object{"kid": "ec"}, a.claims()), "signature"},
		"HS256 of the file":   {a.sign(jwt.SigningMethodHS256, file, object{"kid": "ec"}, a.claims()), "signature"},
		"HS256 of nothing":    {a.sign(jwt.SigningMethodHS256, []byte{0}, object{"kid": "rsa"}, a.claims()), "signature"},
		"PS256":               {a.sign(jwt.SigningMethodPS256, a.keys["rsa"], object{"kid": "rsa"}, a.claims()), "signature"},
		"RS512":               {a.sign(jwt.SigningMethodRS512, a.keys["rsa"], object{"kid": "rsa"}, a.claims()), "signature"},
		"another's signature": {a.sign(jwt.SigningMethodES256, stranger, object{"kid": "ec"}, a.claims()), "signature"},
		"another's kid":       {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ed"}, a.claims()), "not the issuer's"},
		"unknown kid":         {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "new"}, a.claims()), "not the issuer's"},
		"no kid":              {a.sign(jwt.SigningMethodES256, a.keys["ec"], nil, a.claims()), "not the issuer's"},
		"kid is a number":     {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": 1}, a.claims()), "not the issuer's"},
		"typ JWT":             {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec", "typ": "JWT"}, a.claims()), "no access token"},
		"no typ":              {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec", "typ": nil}, a.claims()), "no access token"},
		"crit":                {a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec", "crit": []string{"exp"}}, a.claims()), "no access token"},
		"other claims":        {parts[0] + "." + b64([]byte(`{"sub":"x"}`)) + "." + parts[2], "signature"},
		"other issuer":        {ec(with("iss", issuer+"/")), "another issuer"},
		"no issuer":           {ec(with("iss", nil)), "another issuer|lacks a claim"},
		"other audience":      {ec(with("aud", "https://stones.maker.example.evil")), "another audience"},
		"no audience":         {ec(with("aud", nil)), "another audience|lacks a claim"},
		"expired":             {ec(with("exp", a.at.Unix())), "expired"},
		"never expires":       {ec(with("exp", nil)), "lacks a claim"},
		"expires as text":     {ec(with("exp", "tomorrow")), "lacks a claim|no JWT"},
		"not yet":             {ec(with("nbf", a.at.Unix()+1)), "not valid yet"},
		"issued later":        {ec(with("iat", a.at.Unix()+1)), "not valid yet"},
		"no subject":          {ec(with("sub", nil)), "sub or client_id"},
		"long subject":        {ec(with("sub", strings.Repeat("s", MaxNameLen+1))), "sub or client_id"},
		"subject with zero":   {ec(with("sub", "account\x00")), "sub or client_id"},
		"subject not ASCII":   {ec(with("sub", "accöunt")), "sub or client_id"},
		"client with DEL":     {ec(with("client_id", "app\x7f")), "sub or client_id"},
		"no client":           {ec(with("client_id", nil)), "sub or client_id"},
		"many scopes":         {ec(with("scope", strings.Repeat("a ", maxScopes+1))), "scopes"},
	} {
		got, err := v.Verify(c.encoded)
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
			continue
		}
		found := false
		for _, want := range strings.Split(c.want, "|") {
			found = found || strings.Contains(err.Error(), want)
		}
		if !found {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// TestClock: a token ends by the injected clock, also when that jumps, and the leeway moves both its ends.
func TestClock(t *testing.T) {
	a := newAuthority(t)
	begin := a.at
	c := a.claims()
	c["nbf"] = begin.Unix()
	encoded := a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec"}, c)
	for _, leeway := range []time.Duration{0, time.Minute} {
		v := a.verifier(leeway)
		for _, at := range []struct {
			jump time.Duration
			good bool
		}{
			{0, true}, {5*time.Minute + leeway - time.Second, true}, {5*time.Minute + leeway, false}, {-leeway, true},
			{-leeway - time.Second, false}, {24 * 365 * time.Hour, false}, {-24 * 365 * time.Hour, false}, {time.Minute, true},
		} {
			a.at = begin.Add(at.jump)
			if _, err := v.Verify(encoded); (err == nil) != at.good {
				t.Errorf("leeway %v, clock %v: %v", leeway, at.jump, err)
			} else if at.jump > 0 && err != nil && !errors.Is(err, ErrExpired) {
				t.Errorf("%v", err)
			}
		}
		a.at = begin
	}
}

// TestKeysChange: keys that are added count at once, keys that are taken away count no more, and a file that is broken or gone changes
// nothing.
func TestKeysChange(t *testing.T) {
	a := newAuthority(t)
	a.publish("ec")
	v := a.verifier(0)
	ec := a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec"}, a.claims())
	ed := a.sign(jwt.SigningMethodEdDSA, a.keys["ed"], object{"kid": "ed"}, a.claims())
	check := func(step string, wantEC, wantED bool) {
		t.Helper()
		for range 2 {
			_, errEC := v.Verify(ec)
			_, errED := v.Verify(ed)
			if (errEC == nil) != wantEC || (errED == nil) != wantED {
				t.Errorf("%s: %v, %v", step, errEC, errED)
			}
		}
	}
	check("first", true, false)
	a.publish("ec", "ed")
	check("added", true, true)
	a.replace([]byte(`{"keys":[`))
	check("broken", true, true)
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	check("gone", true, true)
	a.publish("ed")
	check("taken away", false, true)
}

func TestSets(t *testing.T) {
	a := newAuthority(t)
	ec, ed, rs := public(t, "ec", a.keys["ec"]), public(t, "ed", a.keys["ed"]), public(t, "rsa", a.keys["rsa"])
	with := func(o object, name string, value any) object {
		o = maps.Clone(o)
		o[name] = value
		return o
	}
	for name, c := range map[string]struct {
		keys []object
		want int
	}{
		"three":               {[]object{ec, ed, rs}, 3},
		"none":                {nil, -1},
		"another curve":       {[]object{ec, with(ec, "crv", "P-384")}, 1},
		"for encryption":      {[]object{ec, with(ed, "use", "enc")}, 1},
		"for PS256":           {[]object{ec, with(rs, "alg", "PS256")}, 1},
		"to sign":             {[]object{ec, with(rs, "key_ops", []string{"sign"})}, 1},
		"only another curve":  {[]object{with(ec, "crv", "P-384")}, -1},
		"symmetric":           {[]object{ec, {"kty": "oct", "kid": "k", "k": "AAAA"}}, -1},
		"with its secret":     {[]object{with(ec, "d", "AAAA")}, -1},
		"two of one name":     {[]object{ec, with(ed, "kid", "ec")}, -1},
		"without a name":      {[]object{with(ec, "kid", "")}, -1},
		"off the curve":       {[]object{with(ec, "x", b64(make([]byte, 32)))}, -1},
		"short coordinate":    {[]object{with(ec, "x", "AAAA")}, -1},
		"short Ed25519":       {[]object{with(ed, "x", "AAAA")}, -1},
		"short modulus":       {[]object{with(rs, "n", b64(append([]byte{0x80}, make([]byte, 127)...)))}, -1},
		"exponent 1":          {[]object{with(rs, "e", b64([]byte{1}))}, -1},
		"exponent of 5 bytes": {[]object{with(rs, "e", b64([]byte{1, 0, 0, 0, 1}))}, -1},
	} {
		b, err := json.Marshal(object{"keys": c.keys})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := parse(b)
		if (err != nil) != (c.want < 0) || err == nil && len(keys) != c.want {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
		if err == nil {
			if _, err := parse(append(b, "{}"...)); err == nil {
				t.Errorf("%s: something follows", name)
			}
		}
	}
	var many []object
	for i := range maxKeys + 1 {
		many = append(many, with(ec, "kid", strings.Repeat("k", i+1)))
	}
	b, _ := json.Marshal(object{"keys": many})
	if _, err := parse(b); err == nil {
		t.Error("too many keys")
	}
}

func TestConfig(t *testing.T) {
	a := newAuthority(t)
	good := Config{Path: a.path, Issuer: issuer, Audience: audience, Now: a.now, Logger: slog.New(slog.DiscardHandler)}
	for name, change := range map[string]func(*Config){
		"no path": func(c *Config) { c.Path = "" }, "no file": func(c *Config) { c.Path += "x" }, "no issuer": func(c *Config) { c.Issuer = "" },
		"no audience": func(c *Config) { c.Audience = "" }, "no clock": func(c *Config) { c.Now = nil }, "no logger": func(c *Config) { c.Logger = nil },
		"leeway": func(c *Config) { c.Leeway = MaxLeeway + 1 }, "negative leeway": func(c *Config) { c.Leeway = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Error(name)
		}
	}
}

// FuzzVerify: nothing that was not signed is accepted, whatever it says.
func FuzzVerify(f *testing.F) {
	a := newAuthority(f)
	v := a.verifier(0)
	good := a.sign(jwt.SigningMethodES256, a.keys["ec"], object{"kid": "ec"}, a.claims())
	header, _, _ := strings.Cut(good, ".")
	f.Add(good)
	f.Add(header + ".e30.")
	f.Add(b64([]byte(`{"alg":"none","typ":"at+jwt"}`)) + ".e30.")
	f.Add(b64([]byte(`{"alg":"HS256","typ":"at+jwt","kid":"ec"}`)) + "." + b64([]byte(`{"exp":1e300}`)) + ".AAAA")
	f.Fuzz(func(t *testing.T, encoded string) {
		if got, err := v.Verify(encoded); err == nil && encoded != good {
			t.Errorf("accepted %q as %+v", encoded, got)
		}
	})
}

// FuzzParse: a set that is accepted has keys of algorithms that are accepted.
func FuzzParse(f *testing.F) {
	a := newAuthority(f)
	b, err := os.ReadFile(a.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"","e":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parse(b)
		if err == nil && (len(keys) == 0 || len(keys) > maxKeys) {
			t.Errorf("%d keys", len(keys))
		}
		for _, k := range keys {
			if !strings.Contains("ES256 EdDSA RS256", k.algorithm) {
				t.Errorf("%+v", k)
			}
		}
	})
}
