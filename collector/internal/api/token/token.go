// Package token checks the bearer tokens of the accounts' API: access tokens in the JWT profile for OAuth 2 (RFC 9068), signed by the program's
// issuer with ES256, EdDSA or RS256.
//
// Whatever the token says of its algorithm, a key verifies its own algorithm only; unsigned tokens and symmetric ones do not exist for
// this package. The issuer's public keys are a JWK Set (RFC 7517) in a file, which is read again when it has changed; a file that
// cannot be used changes nothing. The package fetches nothing, and knows no account: a subject is text.
package token

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxLen bounds a token in bytes.
	MaxLen = 8 << 10
	// MaxLeeway bounds how far the issuer's clock may differ.
	MaxLeeway = 2 * time.Minute
	// MaxNameLen bounds a subject and a client, which are printable ASCII.
	MaxNameLen = 64
	maxScopes  = 32
)

// The scopes of the API.
const (
	// Read allows to see one's own account.
	Read = "stones.read"
	// Spend allows to act for one's own account: to register its key, activate it, claim, open and redeem.
	Spend = "stones.spend"
	// Grant allows to give crystals to any account. It is for the maker's backend alone.
	Grant = "stones.grant"
)

// Config says whose tokens are accepted.
type Config struct {
	// Path is the file with the issuer's public keys; Issuer and Audience are what tokens must say. Required.
	Path, Issuer, Audience string
	// Leeway is how far the issuer's clock may differ, at most MaxLeeway.
	Leeway time.Duration
	// Now is the clock. Required.
	Now func() time.Time
	// Logger is told when the file changes. Required.
	Logger *slog.Logger
}

// A Token is what an accepted token says.
type Token struct {
	// Subject is whose account it is, or the backend's name; Client is the program that it was issued to.
	Subject, Client string
	scopes          []string
}

// Has reports whether the token has a scope.
func (t Token) Has(scope string) bool { return slices.Contains(t.scopes, scope) }

// A Verifier may be used from several goroutines.
type Verifier struct {
	cfg    Config
	parser *jwt.Parser

	mu   sync.Mutex
	keys map[string]key
	info os.FileInfo // of the file as it was last read, whether it could be used or not
}

// New reads the keys.
func New(cfg Config) (*Verifier, error) {
	if cfg.Path == "" || cfg.Issuer == "" || cfg.Audience == "" || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("cannot check tokens: file of keys, issuer, audience, clock and logger are required")
	}
	if cfg.Leeway < 0 || cfg.Leeway > MaxLeeway {
		return nil, fmt.Errorf("cannot check tokens: a leeway of %v, want 0 to %v", cfg.Leeway, MaxLeeway)
	}
	v := &Verifier{cfg: cfg, parser: jwt.NewParser(
		jwt.WithValidMethods(algorithms()), jwt.WithIssuer(cfg.Issuer), jwt.WithAudience(cfg.Audience), jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(), jwt.WithLeeway(cfg.Leeway), jwt.WithTimeFunc(cfg.Now), jwt.WithStrictDecoding(),
	)}
	var err error
	v.keys, v.info, err = load(cfg.Path)
	return v, err
}

func algorithms() []string { return []string{"ES256", "EdDSA", "RS256"} }

// claims are those of RFC 9068 §2.2 that count here.
type claims struct {
	jwt.RegisteredClaims
	Client string `json:"client_id"`
	Scope  string `json:"scope"`
}

// ErrExpired says that a token was good and is too old: the client gets another from its issuer.
var ErrExpired = errors.New("the token has expired")

// Verify returns what an encoded token says, or why it is not accepted, in words that may be shown to who sent it.
func (v *Verifier) Verify(encoded string) (Token, error) {
	if len(encoded) > MaxLen {
		return Token{}, fmt.Errorf("the token is longer than %d bytes", MaxLen)
	}
	var c claims
	_, err := v.parser.ParseWithClaims(encoded, &c, v.key)
	switch {
	case err == nil:
	case errors.Is(err, errHeader):
		return Token{}, errHeader
	case errors.Is(err, errKey):
		return Token{}, errKey
	case errors.Is(err, jwt.ErrTokenMalformed):
		return Token{}, errors.New("the token is no JWT")
	case errors.Is(err, jwt.ErrTokenUnverifiable), errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return Token{}, errors.New("the token's signature is not valid")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return Token{}, errors.New("the token is from another issuer")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return Token{}, errors.New("the token is for another audience")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return Token{}, errors.New("the token is not valid yet")
	case errors.Is(err, jwt.ErrTokenExpired):
		return Token{}, ErrExpired
	default:
		return Token{}, errors.New("the token lacks a claim, or has one that cannot be used")
	}
	t := Token{Subject: c.Subject, Client: c.Client, scopes: strings.Fields(c.Scope)}
	if !named(t.Subject) || !named(t.Client) {
		return Token{}, fmt.Errorf("the token's sub or client_id is not 1 to %d characters of printable ASCII", MaxNameLen)
	}
	if len(t.scopes) > maxScopes {
		return Token{}, fmt.Errorf("the token has more than %d scopes", maxScopes)
	}
	return t, nil
}

// named reports whether a text can name somebody: databases and logs take it as it is.
func named(s string) bool {
	return s != "" && len(s) <= MaxNameLen && !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

var (
	errHeader = errors.New("the token is no access token: its header must have typ at+jwt and nothing critical")
	errKey    = errors.New("the token is signed by a key that is not the issuer's")
)

// key returns the key for a token whose header is as it must be.
func (v *Verifier) key(t *jwt.Token) (any, error) {
	typ, _ := t.Header["typ"].(string)
	typ = strings.ToLower(typ)
	if _, critical := t.Header["crit"]; critical || strings.TrimPrefix(typ, "application/") != "at+jwt" {
		return nil, errHeader
	}
	name, _ := t.Header["kid"].(string)
	k, known := v.current()[name]
	if !known || k.algorithm != t.Method.Alg() {
		return nil, errKey
	}
	return k.public, nil
}

// current returns the keys in force, after a look at the file.
func (v *Verifier) current() map[string]key {
	info, err := os.Stat(v.cfg.Path)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil || same(info, v.info) {
		return v.keys // a file that is gone is one that is being replaced
	}
	keys, _, err := load(v.cfg.Path)
	v.info = info
	if err != nil {
		v.cfg.Logger.Warn("token keys changed and cannot be used; the old ones stay", "error", err)
		return v.keys
	}
	v.keys = keys
	v.cfg.Logger.Info("token keys changed", "keys", len(keys))
	return v.keys
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
