package bridge

import (
	"context"
	"fmt"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/certificate"
	"rawstone/pkg/config"
)

// Place is a configuration's part on an external MQTT broker; there is none when it is zero.
type Place struct {
	// URL is ssl://HOST:PORT.
	URL string `yaml:"url"`
	// CA is the file with the certificates, in PEM, of the authorities of the broker's certificate.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files: the collector's client certificate, whose name is its client id, and its secret key with mode 0600.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Validate adds the faults of a configuration's part `bridge`.
func (p Place) Validate(f *config.Faults) {
	if p == (Place{}) {
		return
	}
	if CheckURL(p.URL) != nil {
		f.Add("$.bridge.url", "%q is not ssl://HOST:PORT such as ssl://mqtt.example:8883", p.URL)
	}
	for key, path := range map[string]string{"ca": p.CA, "certificate": p.Certificate, "key": p.Key} {
		if path == "" {
			f.Add("$.bridge."+key, "must be set, as bridge.url is")
		}
	}
}

// Open reads the files of a place and returns the bridge to it with the rest of cfg, or nil when there is no such place.
func Open(p Place, cfg Config) (*Bridge, error) {
	if p == (Place{}) {
		return nil, nil
	}
	roots, err := ca.Pool(p.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot use bridge.ca: %w", err)
	}
	own, err := certificate.Open(certificate.Config{Certificate: p.Certificate, Key: p.Key, Logger: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("cannot use bridge.certificate and bridge.key: %w", err)
	}
	cfg.URL, cfg.Roots, cfg.Certificate = p.URL, roots, own.Get
	return New(cfg)
}

// A Publisher keeps the notice of policies at the collector's own broker and at the external one.
type Publisher struct {
	Own interface {
		Retain(ctx context.Context, notice []byte) error
	}
	Bridge *Bridge // may be nil
}

// Retain returns when the collector's own broker has the notice; the external one gets it as soon as it can.
func (p Publisher) Retain(ctx context.Context, notice []byte) error {
	if err := p.Own.Retain(ctx, notice); err != nil || p.Bridge == nil {
		return err
	}
	return p.Bridge.Keep(notice)
}
