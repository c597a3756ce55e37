// Package enrolment gives vehicles their client certificates, over HTTPS: at enrolment in exchange for the token that registration
// printed, and at renewal because the device key asks for it (package enroll has the messages).
//
// A token is good once and until it expires; whoever lost the answer may ask again with the device key that it enrolled, because that key
// gets certificates without a token. A renewal needs nothing but the registered device key, for 24 months after the last
// certificate's end, unless the vehicle is revoked. Everything is decided on the records, and decided again in the transaction that
// writes: of two enrolments with one token one wins.
//
// Strangers may ask. Each source of refused enrolments may go on for a while and then has to wait; renewals never do, because a device
// key cannot be guessed, a refused renewal costs no more than the TLS handshake before it, and a fleet behind one address would wait for a
// stranger there, or for one car of its own that was revoked. Requests are bounded in size and in how
// many are worked on at once; nothing is written for one that is refused. Which vehicles there are, nobody learns.
package enrolment

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/store"
	"rawstone/pkg/enroll"
)

const (
	renewMonths = 24               // after the last certificate's end
	renewEvery  = 10 * time.Second // for one vehicle: each certificate is a write
	atOnce      = 8                // requests that are worked on
	sayEvery    = time.Minute
)

// Config says what to decide on; every field but Registerer is required.
type Config struct {
	// DB holds the records, opened for the role Ingest.
	DB *store.DB
	// Authority issues the certificates.
	Authority *ca.Vehicles
	Now       func() time.Time
	// Logger receives that the records cannot be used.
	Logger *slog.Logger
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Desk answers requests. It implements http.Handler for enroll.EnrolPath and enroll.RenewPath.
type Desk struct {
	cfg      Config
	sources  *sources
	slots    chan struct{}
	requests *prometheus.CounterVec

	mu   sync.Mutex
	said time.Time
}

// New returns a desk.
func New(cfg Config) (*Desk, error) {
	if cfg.DB == nil || cfg.Authority == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("cannot enrol vehicles: no records, authority, clock or logger given")
	}
	d := &Desk{
		cfg: cfg, sources: newSources(), slots: make(chan struct{}, atOnce),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_enrolment_requests_total", Help: "Requests for client certificates, by path and outcome.",
		}, []string{"path", "outcome"}),
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(d.requests); err != nil {
			return nil, fmt.Errorf("cannot enrol vehicles: %w", err)
		}
	}
	return d, nil
}

// A refusal is a reason as an error.
type refusal enroll.Reason

func (r refusal) Error() string { return string(r) }

// grant decides on a request and returns the certificate in DER; its error is a refusal, or that of the records.
func (d *Desk) grant(ctx context.Context, r *enroll.Request, enrols bool) (der []byte, err error) {
	now := d.cfg.Now()
	// Readers wait for nobody: those that are refused hold no writer up.
	if err := d.cfg.DB.View(ctx, func(tx *store.Tx) error { _, err := judge(ctx, tx, r, now, enrols); return err }); err != nil {
		return nil, err
	}
	der, until, err := d.cfg.Authority.Issue(r.Vehicle, r.Key(), now)
	if err != nil {
		return nil, err
	}
	err = d.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		first, err := judge(ctx, tx, r, now, enrols)
		if err != nil {
			return err
		}
		if first {
			return tx.Enrol(ctx, r.Vehicle, enroll.HashToken(r.Token), r.Key(), until)
		}
		return tx.Renew(ctx, r.Vehicle, r.Key(), until)
	})
	return der, err
}

// judge says whether a request is granted, and whether as an enrolment. One with a used token and the device key that it enrolled is a renewal:
// its answer was lost.
func judge(ctx context.Context, tx *store.Tx, r *enroll.Request, now time.Time, enrols bool) (first bool, err error) {
	if !enrols {
		return false, mayRenew(ctx, tx, r, now)
	}
	err = mayEnrol(ctx, tx, r, now)
	if err != refusal(enroll.ReasonToken) {
		return true, err
	}
	switch again := mayRenew(ctx, tx, r, now); again {
	case nil, refusal(enroll.ReasonBusy):
		return false, again
	}
	return true, err
}

// find returns a vehicle's enrolment, an empty one for a vehicle that is not registered.
func find(ctx context.Context, tx *store.Tx, vehicle string) (store.Enrolment, error) {
	e, err := tx.Enrolment(ctx, vehicle)
	if errors.Is(err, store.ErrNotFound) {
		return store.Enrolment{}, nil
	}
	return e, err
}

// mayEnrol says whether the token is good and the device key free.
func mayEnrol(ctx context.Context, tx *store.Tx, r *enroll.Request, now time.Time) error {
	e, err := find(ctx, tx, r.Vehicle)
	if err != nil {
		return err
	}
	// No token has an empty hash, and so an empty enrolment matches none.
	if !enroll.Matches(r.Token, e.Token) || e.Revoked || !now.Before(e.Expires) {
		return refusal(enroll.ReasonToken)
	}
	if other, err := tx.VehicleOfDevice(ctx, r.Key()); err == nil && other.ID != r.Vehicle {
		return refusal(enroll.ReasonTaken)
	} else if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := tx.ECU(ctx, r.Key().ID()); err == nil {
		return refusal(enroll.ReasonTaken)
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// mayRenew says whether the device key is the registered one and may still ask.
func mayRenew(ctx context.Context, tx *store.Tx, r *enroll.Request, now time.Time) error {
	e, err := find(ctx, tx, r.Vehicle)
	switch {
	case err != nil:
		return err
	case e.Device != r.Key(): // an empty one is no key's
		return refusal(enroll.ReasonKey)
	case e.Revoked:
		return refusal(enroll.ReasonRevoked)
	case now.After(e.Until.AddDate(0, renewMonths, 0)):
		return refusal(enroll.ReasonLate)
	}
	// A clock that was set back must not keep vehicles waiting for what it said before.
	if since := now.Sub(e.Until.Add(-ca.VehicleLife)); since.Abs() < renewEvery {
		return refusal(enroll.ReasonBusy)
	}
	return nil
}

// issued returns the answer with a certificate.
func issued(der []byte) ([]byte, error) {
	return (&enroll.Answer{Version: enroll.Version, Chain: [][]byte{der}}).Encode()
}
