package app

import (
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

// Scopes of the API.
const (
	ScopeRead  = "stones.read"
	ScopeSpend = "stones.spend"
	ScopeGrant = "stones.grant"
)

const (
	issuerFile    = "issuer.key"
	jwksFile      = "jwks.json"
	tokenLifetime = 5 * time.Minute
	// backend is the subject of the maker's backend.
	backend = "backend"
)

// An issuer plays the OAuth 2 authorization server.
type issuer struct {
	cfg *Config
	key *ecdsa.PrivateKey
	kid string
}

// Init makes the authorization server's key and jwks.json, where they are not there yet, and the key of each account.
func Init(cfg *Config) error {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	is, err := openIssuer(cfg, true)
	if err != nil {
		return err
	}
	point, err := is.key.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", jwksFile, err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	text, err := json.MarshalIndent(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": is.kid, "x": enc(point[1:33]), "y": enc(point[33:]),
	}}}, "", " ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", jwksFile, err)
	}
	if err := os.WriteFile(filepath.Join(cfg.StateDir, jwksFile), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("cannot write %s: %w", jwksFile, err)
	}
	for _, a := range cfg.Accounts {
		if _, err := loadKey(accountFile(cfg, a), true); err != nil {
			return err
		}
	}
	return nil
}

func accountFile(cfg *Config, account string) string {
	return filepath.Join(cfg.StateDir, "account-"+account+".key")
}

// formerFile is where the key is that an account's key replaces: whoever moves accountFile there gets a new key from Init.
func formerFile(cfg *Config, account string) string {
	return filepath.Join(cfg.StateDir, "account-"+account+".former.key")
}

// loadFormer returns the key that an account's key replaces, nil for none.
func loadFormer(cfg *Config, account string) (*ecdsa.PrivateKey, error) {
	key, err := keyfile.Load(formerFile(cfg, account))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return key, err
}

func openIssuer(cfg *Config, create bool) (*issuer, error) {
	key, err := loadKey(filepath.Join(cfg.StateDir, issuerFile), create)
	if err != nil {
		return nil, err
	}
	pub, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &issuer{cfg, key, pub.ID().String()}, nil
}

// Token returns an access token (RFC 9068) for an account, or for the maker's backend where that is empty. It refuses scopes that the API
// does not know.
func Token(cfg *Config, account string, scopes []string, now time.Time) (string, error) {
	for _, s := range scopes {
		if s != ScopeRead && s != ScopeSpend && s != ScopeGrant {
			return "", fmt.Errorf("cannot make token: %q is no scope; give %s, %s or %s", s, ScopeRead, ScopeSpend, ScopeGrant)
		}
	}
	is, err := openIssuer(cfg, false)
	if err != nil {
		return "", err
	}
	return is.token(account, scopes, now)
}

func (is *issuer) token(account string, scopes []string, now time.Time) (string, error) {
	if account == "" {
		account = backend
	}
	var id [16]byte
	rand.Read(id[:])
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"iss": is.cfg.Issuer, "aud": is.cfg.Audience, "sub": account, "client_id": "rawstone-app", "scope": strings.Join(scopes, " "),
		"iat": now.Unix(), "exp": now.Add(tokenLifetime).Unix(), "jti": hex.EncodeToString(id[:]),
	})
	t.Header["typ"], t.Header["kid"] = "at+jwt", is.kid
	text, err := t.SignedString(is.key)
	if err != nil {
		return "", fmt.Errorf("cannot sign token: %w", err)
	}
	return text, nil
}

// loadKey reads a P-256 key, which it makes where that is asked for and there is none.
func loadKey(path string, create bool) (*ecdsa.PrivateKey, error) {
	key, err := keyfile.Load(path)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return key, err
	case create:
		return keyfile.Create(path)
	}
	return nil, fmt.Errorf("%w; make it with `firmware-sim app init`", err)
}
