package setting

import (
	"fmt"
	"path/filepath"

	"rawstone/collector/internal/backup"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/records"
)

// Files are all that the configuration names besides what is in the state directory: a backup holds them. A process that has some of the
// roles names, and backs up, only the keys of these.
func (c *Config) Files() (out []backup.File) {
	list := append(c.Program.Documents(), c.Program.Secrets()...)
	list = append(list, program.File{Key: "vehicles.ca_certificate", Path: c.Vehicles.CACertificate}, program.File{Key: "vehicles.ca_key", Path: c.Vehicles.CAKey},
		program.File{Key: "https.certificate", Path: c.HTTPS.Certificate}, program.File{Key: "https.key", Path: c.HTTPS.Key})
	if c.MQTT.Certificate != c.HTTPS.Certificate || c.MQTT.Key != c.HTTPS.Key {
		list = append(list, program.File{Key: "mqtt.certificate", Path: c.MQTT.Certificate}, program.File{Key: "mqtt.key", Path: c.MQTT.Key})
	}
	b, i := c.Bridge, c.Internal
	list = append(list, program.File{Key: "bridge.ca", Path: b.CA}, program.File{Key: "bridge.certificate", Path: b.Certificate}, program.File{Key: "bridge.key", Path: b.Key},
		program.File{Key: "api.jwks", Path: c.API.JWKS}, program.File{Key: "api.exchange", Path: c.API.Exchange},
		program.File{Key: "internal.ca", Path: i.CA}, program.File{Key: "internal.certificate", Path: i.Certificate}, program.File{Key: "internal.key", Path: i.Key})
	for _, f := range list {
		if f.Path != "" {
			out = append(out, backup.File(f))
		}
	}
	return out
}

// Place is where this collector has what a backup holds. Of PostgreSQL it is the address in the file ownerURL, or the configuration's without
// one; programs is the folder of pg_dump.
func (c *Config) Place(ownerURL, programs string) (p backup.Place, err error) {
	p = backup.Place{State: c.StateDir, Ledger: c.Ledger, Files: c.Files(), Programs: programs}
	if filepath.Dir(c.Ledger) != filepath.Clean(c.StateDir) {
		return p, fmt.Errorf("cannot use ledger %s: backup and restore want it in state_dir; use the configuration of the process with the role settle", c.Ledger)
	}
	r := c.Records
	if r.Postgres.URLFile == "" {
		p.Records = c.RecordsFile()
		return p, nil
	}
	if ownerURL != "" {
		r = records.Config{Postgres: records.Postgres{URLFile: ownerURL}}
	}
	at, err := r.Store(0, "")
	p.OwnerURL = at.URL
	return p, err
}
