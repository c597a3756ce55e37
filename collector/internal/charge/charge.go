// Package charge tells vehicles, over HTTPS, how far the collector has seen their privacy budgets go: the charge of the latest accepted
// report. A vehicle whose own ledger is not that far has had it put back, and stops reporting.
//
// A vehicle shows its client certificate; the device key in it must be the registered one of a vehicle that is not revoked, as the records
// say at the moment of the request. It hears of its own reports under that key alone: one that enrolled anew, with another device key,
// begins with none. Requests are bounded in number: at most some are worked on at once.
//
// The package writes nothing, and when it cannot look it says so: "none" is an answer that a vehicle acts on.
package charge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// ContentType is that of an answer, a wire.ChargeRecord.
const ContentType = "application/cbor"

const (
	atOnce      = 8 // requests that are worked on
	busySeconds = 5 // until somebody who finds the collector busy comes again
	sayEvery    = time.Minute
)

// Config says what to tell from; every field but Registerer is required.
type Config struct {
	// DB holds the records, opened for the role Ingest.
	DB *store.DB
	// Now is the clock that spaces the log's messages.
	Now func() time.Time
	// Logger receives that the records cannot be used.
	Logger *slog.Logger
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Desk answers requests. It implements http.Handler for wire.ChargePath.
type Desk struct {
	cfg      Config
	slots    chan struct{}
	requests *prometheus.CounterVec

	mu   sync.Mutex
	said time.Time
}

// New returns a desk.
func New(cfg Config) (*Desk, error) {
	if cfg.DB == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("cannot tell charges: no records, clock or logger given")
	}
	d := &Desk{
		cfg: cfg, slots: make(chan struct{}, atOnce),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_charge_requests_total", Help: "Requests of vehicles for what is known of their privacy budgets, by outcome.",
		}, []string{"outcome"}),
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(d.requests); err != nil {
			return nil, fmt.Errorf("cannot tell charges: %w", err)
		}
	}
	return d, nil
}

// ServeHTTP answers one request.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	refuse := func(outcome string, status int, detail string) {
		d.requests.WithLabelValues(outcome).Inc()
		http.Error(w, detail, status)
	}
	if r.URL.EscapedPath() != wire.ChargePath || r.URL.RawQuery != "" {
		refuse("malformed", http.StatusNotFound, "nothing is here: GET "+wire.ChargePath)
		return
	}
	if r.Method != http.MethodGet {
		h.Set("Allow", http.MethodGet)
		refuse("malformed", http.StatusMethodNotAllowed, "only GET is served")
		return
	}
	record, admitted, err := d.answer(r)
	switch {
	case err != nil:
		if r.Context().Err() == nil {
			d.say(err)
		}
		h.Set("Retry-After", strconv.Itoa(busySeconds))
		refuse("busy", http.StatusServiceUnavailable, "the collector cannot look now: try again")
	case !admitted:
		refuse("certificate", http.StatusForbidden, "show the client certificate of a vehicle that is enrolled with this device key and not revoked")
	default:
		d.requests.WithLabelValues("told").Inc()
		h.Set("Content-Type", ContentType)
		w.Write(record) // whoever does not read it has gone
	}
}

// answer returns the encoded record of the vehicle that asks, and whether it may hear it.
func (d *Desk) answer(r *http.Request) (record []byte, admitted bool, err error) {
	vehicle, key, ok := listener.Vehicle(r)
	if !ok {
		return nil, false, nil
	}
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-r.Context().Done():
		return nil, false, r.Context().Err()
	}
	registered, ok, err := d.cfg.DB.Device(r.Context(), vehicle)
	if err != nil || !ok || registered != key {
		return nil, false, err
	}
	record, err = d.record(r.Context(), vehicle, key.ID())
	return record, true, err
}

func (d *Desk) record(ctx context.Context, vehicle string, device wire.KeyID) ([]byte, error) {
	record := wire.ChargeRecord{Version: wire.Version}
	err := d.cfg.DB.View(ctx, func(tx *store.Tx) error {
		last, err := tx.LastCharge(ctx, vehicle, device)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		record.Charge, record.Epoch = last.Charge, last.Epoch
		return err
	})
	if err != nil {
		return nil, err
	}
	return wire.Marshal(&record)
}

// say logs that no answer could be made, at most once a minute.
func (d *Desk) say(err error) {
	now := d.cfg.Now()
	d.mu.Lock()
	again := d.said.IsZero() || now.Sub(d.said).Abs() >= sayEvery
	if again {
		d.said = now
	}
	d.mu.Unlock()
	if again {
		d.cfg.Logger.Error("cannot tell charges: vehicles try again", "error", err)
	}
}
