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
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/api"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
)

const (
	// Connections of all apps' backends, or of all apps; of one source, which may be a backend's; and how long one may rest.
	connections, perSource = 4096, 256
	idle                   = 10 * time.Second

	// patience is how long an answer may take to be read: a year's statement is some 30 MB.
	patience = 5 * time.Minute
	// busy is how long a request waits for the records, and for another process that writes them.
	busy = 20 * time.Second
)

// Config says what to serve; fields are required unless their comment says otherwise.
type Config struct {
	// Listen is the address, and Certificate returns its certificate.
	Listen      string
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// JWKS is the authorization server's keys, Issuer and Audience what tokens say, Leeway how far its clock may differ.
	JWKS, Issuer, Audience string
	Leeway                 time.Duration
	// Records says how the records are opened for a role.
	Records func(store.Role) (store.Config, error)
	// Statements says what statements are made from; its records are opened here. Rules are the program's.
	Statements statement.Config
	Rules      estate.Rules
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
	records.Logger, records.Registerer, records.BusyTimeout = c.Logger, c.Registerer, busy
	if s.records, err = store.Open(ctx, records); err != nil {
		return nil, err
	}
	if records, err = c.Records(store.Statements); err != nil {
		return nil, err
	}
	records.Logger, records.Registerer = c.Logger, c.Registerer
	if s.desk, err = statement.Open(ctx, records, c.Statements); err != nil {
		return nil, err
	}
	h, err := api.New(api.Config{
		Rules: c.Rules, Now: c.Now, Store: s.records, Tokens: tokens, Statement: s.desk.Write, Spool: c.Statements.Days, Exchange: c.Exchange, Patience: busy, Logger: c.Logger, Registerer: c.Registerer,
	})
	if err != nil {
		return nil, err
	}
	s.Listener, err = listener.Open(listener.Config{
		Address: c.Listen, Key: "api.listen", Certificate: c.Certificate, Handler: h, Patience: patience, Logger: c.Logger,
		Connections: connections, PerSource: perSource, Idle: idle, Strangers: true,
	})
	return s, err
}

// Run serves, and prepares statements, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Listener.Run(ctx) })
	group.Go(func() error { return s.desk.Run(ctx) })
	return group.Wait()
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
