package registry

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestOpenRefuses holds that nothing is opened without its authorities, and that an empty registry lists as empty, not as absent. What the
// errands do with good files is tested with the commands.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := ca.Init(filepath.Join(dir, "ca"), time.Now()); err != nil {
		t.Fatal(err)
	}
	pool, err := ca.Pool(filepath.Join(dir, "ca", "ecu-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	good := Config{
		Records: store.Config{Path: filepath.Join(dir, "records.db"), Role: store.Admin}, Program: wire.Hash{1}, Timing: terms.Timing{DayS: 60, DropS: 10},
		ECUCA: pool, Now: time.Now, TokenLife: time.Hour,
	}
	for name, edit := range map[string]func(*Config){
		"no authority":             func(c *Config) { c.ECUCA = nil },
		"program or clock missing": func(c *Config) { c.Program = wire.Hash{} },
		"database file":            func(c *Config) { c.Records.Path = "" },
	} {
		cfg := good
		edit(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %q in it", err, name)
		}
	}
	d, err := Open(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	vehicles, err := d.Vehicles(t.Context())
	keys, err2 := d.Keys(t.Context())
	if err := errors.Join(err, err2); err != nil || vehicles == nil || keys == nil || len(vehicles)+len(keys) != 0 {
		t.Errorf("an empty registry is %#v, %#v (%v)", vehicles, keys, err)
	}
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"bind":    func() error { return d.Bind(t.Context(), "V1", ECU{garbage, garbage}) },
		"release": func() error { _, err := d.Release(t.Context(), "V1", garbage); return err },
		"replace": func() error { _, err := d.Replace(t.Context(), "V1", "", ECU{garbage, garbage}); return err },
		"revoke":  func() error { _, err := d.Revoke(t.Context(), "", garbage); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "cannot use ECU identity "+garbage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
