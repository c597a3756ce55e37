// Package identity is who the car is towards its collector: the device key, the client certificate, and whom the car believes in turn.
//
// It opens package device's key and package certificate's keeper over one set of roots and one clock, for the running agent (Open) and
// for enrolment (Enroll). It refuses to run without a device key: only an enrolment makes one. A certificate may be missing: the key gets
// another.
package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/certificate"
	"rawstone/agent/internal/device"
	"rawstone/agent/internal/https"
	"rawstone/pkg/enroll"
)

// A Gate holds what is overdue (*hold.Gate).
type Gate interface {
	// Until returns the time until what has a name and was due at an instant may be done, not above 0 where it may now.
	Until(name string, due time.Time) time.Duration
}

// Config says who the car is and where its collector. Fields without a default are required.
type Config struct {
	// DeviceKey is the place of the device key (device.Check).
	DeviceKey string
	// Dir is the certificate's directory on flash, for this package alone.
	Dir string
	// Reset is the path of the file by which a car that was reset waits for Enroll, as in certificate.Config.
	Reset string
	// Vehicle is the vehicle's id.
	Vehicle string
	// URL is the collector's, https://HOST:PORT; CA the PEM file of the roots that it and its broker are checked under, empty for the
	// system's.
	URL, CA string
	// Now is the host's clock.
	Now func() time.Time
	// Since returns an instant that the present is known not to be before; nil means that none is known. Certificates are judged by the
	// later of the two: a car whose clock went back to its beginning at a dead battery still refuses a server's certificate that ended
	// before that instant. Since must be beyond doubt, because a car that is told of the future refuses everybody. Where the clock lags and
	// a server's certificate is newer than Since, the connection fails until the clock is set, and Status says why: to go by a
	// certificate's own dates would let whoever shows it choose the time.
	Since func() time.Time
	// Hold keeps whatever certificate is due at a start from making the car connect when it is switched on; nil means that nothing does.
	Hold Gate
	// Changed, Tell and BackoffMin are as in certificate.Config.
	Changed    func()
	Tell       func(text string)
	BackoffMin time.Duration
	Logger     *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// An Identity is the car's. The keeper's methods are its own.
type Identity struct {
	*certificate.Keeper
	// Device is the device key.
	Device crypto.Signer
	// Trust holds the collector's roots, and no certificate of the car: what is asked for under it is asked for without a name.
	Trust *tls.Config
}

// Open opens what enrolment made. It does not connect.
func Open(cfg Config) (*Identity, error) {
	key, err := device.Open(cfg.DeviceKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; run agent enroll", err)
	} else if err != nil {
		return nil, err
	}
	return open(cfg, key)
}

func open(cfg Config, key crypto.Signer) (*Identity, error) {
	if cfg.Now == nil {
		return nil, errors.New("cannot open the car's identity: no clock given")
	}
	trust, err := https.Trust(cfg.CA, cfg.present)
	if err != nil {
		return nil, err
	}
	var renewal func(time.Duration) time.Duration
	if cfg.Hold != nil {
		renewal = func(wait time.Duration) time.Duration { return cfg.Hold.Until("renewal", cfg.Now().Add(wait)) }
	}
	keeper, err := certificate.Open(certificate.Config{
		Hold: renewal, Dir: cfg.Dir, Reset: cfg.Reset, Vehicle: cfg.Vehicle, Device: key, URL: cfg.URL, Trust: trust, Now: cfg.present, Changed: cfg.Changed, Tell: cfg.Tell,
		BackoffMin: cfg.BackoffMin, Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return &Identity{Keeper: keeper, Device: key, Trust: trust}, nil
}

func (c Config) present() time.Time {
	now := c.Now()
	if c.Since != nil {
		if since := c.Since(); now.Before(since) {
			return since
		}
	}
	return now
}

// Enroll makes the device key, unless it is there, and gets the first certificate with the text of a token of the vehicle's registration.
// It can be repeated, with another token once the first is used up. An error that wraps *enroll.Problem is the collector's refusal.
func Enroll(ctx context.Context, cfg Config, tokenText string) error {
	token, err := enroll.ParseToken(tokenText)
	if err != nil {
		return fmt.Errorf("cannot enrol: %w", err)
	}
	if _, err := https.Trust(cfg.CA, cfg.Now); err != nil {
		return err // before a key is made
	}
	key, err := device.OpenOrCreate(cfg.DeviceKey)
	if err != nil {
		return err
	}
	i, err := open(cfg, key)
	if err != nil {
		return err
	}
	return i.Enroll(ctx, token)
}
