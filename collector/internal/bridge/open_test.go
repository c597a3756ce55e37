package bridge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

type own struct {
	err  error
	kept string
}

func (o *own) Retain(_ context.Context, notice []byte) error {
	o.kept = string(notice)
	return o.err
}

func TestOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := Place{URL: w.url(), CA: w.path("ca/server-ca.pem"), Certificate: w.path("bridge.pem"), Key: w.path("bridge.key")}
	cfg := Config{Conn: w.conn, MaxMessage: 4 << 10, Vehicles: w, Logger: slog.New(slog.DiscardHandler)}
	b, err := Open(p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if none, err := Open(Place{}, cfg); none != nil || err != nil || none.Run(t.Context()) != nil {
		t.Errorf("no place: %v, %v", none, err)
	}
	for want, bad := range map[string]Place{
		"cannot use bridge.ca: ":                        {p.URL, w.path("none.pem"), p.Certificate, p.Key},
		"cannot use bridge.certificate and bridge.key:": {p.URL, p.CA, p.Certificate, w.path("server.key")},
		"cannot use the broker's URL":                   {"tcp://127.0.0.1:1883", p.CA, p.Certificate, p.Key},
	} {
		if _, err := Open(bad, cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	o := &own{}
	if err := (Publisher{Own: o}).Retain(t.Context(), []byte("first")); err != nil || o.kept != "first" {
		t.Errorf("without a bridge %q is kept: %v", o.kept, err)
	}
	both := Publisher{Own: o, Bridge: b}
	if err := both.Retain(t.Context(), []byte("second")); err != nil || o.kept != "second" || string(b.kept()) != "second" {
		t.Errorf("%q and %q are kept: %v", o.kept, b.kept(), err)
	}
	o.err = errors.New("full")
	if err := both.Retain(t.Context(), []byte("third")); !errors.Is(err, o.err) || string(b.kept()) != "second" {
		t.Errorf("%q is kept there though it is not here: %v", b.kept(), err)
	}
}
