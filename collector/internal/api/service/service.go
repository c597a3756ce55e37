// Package service opens the accounts' API with all that stands behind it: the records in the roles that it needs, the statements, the equity
// statement, the authorization server's keys, and its address.
//
// It decides nothing: packages api, estate and statement do. What was opened is closed when something cannot be opened.
package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/api"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// patience is how long an answer may take to be read: a year's statement is some 30 MB.
const patience = 5 * time.Minute

// Config says what to serve; every field but Exchange is required.
type Config struct {
	// Listen is the address, and Certificate returns its certificate.
	Listen      string
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// JWKS is the authorization server's keys, Issuer and Audience what tokens say, Leeway how far its clock may differ.
	JWKS, Issuer, Audience string
	Leeway                 time.Duration
	// Records says how the records are opened for a role.
	Records func(store.Role) (store.Config, error)
	// LogDir is the ledger's directory, Root pins the program root, Rules are the program's.
	LogDir string
	Root   wire.PublicKey
	Rules  estate.Rules
	// Exchange returns an account's part of the equity statement; nil before there is one.
	Exchange   func(ctx context.Context, account string) (api.Exchange, error)
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Service is an API that is ready to run.
type Service struct {
	*listener.Listener
	desk    *statement.Desk
	records *store.DB
}

// Open opens everything and takes the address.
func Open(ctx context.Context, c Config) (_ *Service, err error) {
	s := new(Service)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot serve accounts: %w", err), s.Close())
		}
	}()
	tokens, err := token.New(token.Config{Path: c.JWKS, Issuer: c.Issuer, Audience: c.Audience, Leeway: c.Leeway, Now: c.Now, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	records, err := c.Records(store.Account)
	if err != nil {
		return nil, err
	}
	records.Logger, records.Registerer = c.Logger, c.Registerer
	if s.records, err = store.Open(ctx, records); err != nil {
		return nil, err
	}
	if s.desk, err = statement.Open(ctx, c.Records, c.LogDir, c.Root); err != nil {
		return nil, err
	}
	h, err := api.New(api.Config{
		Rules: c.Rules, Now: c.Now, Store: s.records, Tokens: tokens, Statement: s.desk.Write, Exchange: c.Exchange, Logger: c.Logger, Registerer: c.Registerer,
	})
	if err != nil {
		return nil, err
	}
	s.Listener, err = listener.Open(listener.Config{
		Address: c.Listen, Key: "api.listen", Certificate: c.Certificate, Handler: h, Patience: patience, Logger: c.Logger,
	})
	return s, err
}

// Close closes what Open opened.
func (s *Service) Close() (err error) {
	if s.Listener != nil {
		err = s.Listener.Close()
	}
	if s.desk != nil {
		err = errors.Join(err, s.desk.Close())
	}
	if s.records != nil {
		err = errors.Join(err, s.records.Close())
	}
	return err
}
