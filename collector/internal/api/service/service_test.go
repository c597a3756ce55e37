package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// jwks writes the authorization server's keys.
func jwks(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	path := filepath.Join(t.TempDir(), "jwks.json")
	text := fmt.Sprintf(`{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": %q, "y": %q}]}`, b64(point[1:33]), b64(point[33:]))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpen: the API has the records as what owners may do and as what statements are made of, and as nobody else.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "records.db")
	db, err := store.Open(t.Context(), store.Config{Path: path, Role: store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	var asked []store.Role
	cfg := Config{
		Listen: "127.0.0.1:0", Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") },
		JWKS: jwks(t), Issuer: "https://issuer.example", Audience: "rawstone",
		Records: func(r store.Role) (store.Config, error) {
			asked = append(asked, r)
			return store.Config{Path: path, Role: r}, nil
		},
		Statements: statement.Config{LogDir: filepath.Join(dir, "ledger"), Root: wire.PublicKey{2}, Days: filepath.Join(dir, "statements"), Logger: slog.New(slog.DiscardHandler)},
		Rules:      estate.Rules{ID: wire.Hash{7}, Program: &terms.Program{Timing: terms.Timing{DayS: 86400, DropS: 600}}},
		Now:        time.Now, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []store.Role{store.Account, store.Statements}) {
		t.Errorf("the records are opened as %v", asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := errors.Join(s.Run(ctx), s.Close()); err != nil {
		t.Error(err)
	}
	cfg.Statements.Root = wire.PublicKey{}
	if _, err := Open(t.Context(), cfg); err == nil {
		t.Error("statements without a root")
	}
}
