package setting

import (
	"fmt"
	"net/netip"

	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/role"
	"rawstone/pkg/config"
)

// needs are the files that the process's roles need.
func (c *Config) needs() []program.File {
	files := c.Program.Documents()
	secrets := c.Program.Secrets()
	if c.Roles.Has(role.Ingest) {
		files = append(files, secrets[0])
	}
	if c.Roles.Has(role.Settle) {
		files = append(files, secrets[1:]...)
	}
	if c.Roles.Any(role.Broker | role.Web) {
		files = append(files, program.File{Key: "vehicles.ca_certificate", Path: c.Vehicles.CACertificate})
	}
	if c.Roles.Has(role.Web) || c.Roles.Has(role.Broker) && c.MQTT.Certificate == "" && c.MQTT.Key == "" {
		files = append(files, program.File{Key: "https.certificate", Path: c.HTTPS.Certificate}, program.File{Key: "https.key", Path: c.HTTPS.Key})
	}
	if c.Roles.Has(role.Web) {
		files = append(files, program.File{Key: "vehicles.ca_key", Path: c.Vehicles.CAKey})
	}
	return files
}

// Several reports whether the process has to do with others, of the collector or validators.
func (c *Config) Several() bool {
	return !c.Cluster.IsZero() || len(c.Queue.Servers) > 0 || len(c.Validators) > 0
}

// validateRoles adds the faults of sections that do not go with the process's roles.
func (c *Config) validateRoles(f *config.Faults) {
	c.Cluster.Validate(f)
	for i, s := range c.Queue.Servers {
		if a, err := netip.ParseAddrPort(s); err != nil || a.Port() == 0 {
			f.Add(fmt.Sprintf("$.queue.servers[%d]", i), "%q is not IP:port such as 10.0.0.1:4222", s)
		}
	}
	c.Internal.Validate(f, c.Several())
	c.validateValidators(f)
	if c.Roles == 0 {
		return
	}
	if c.Roles.Has(role.Validator) {
		f.Add("$", "a validator is no part of a collector: run it with `collector validator` and a configuration of its own")
	}
	if c.Roles != role.All && c.Records.Postgres.URLFile == "" {
		f.Add("$.records", "a process with the roles %s shares its records with others: have them in PostgreSQL, records.postgres", c.Roles)
	}
	has := c.Roles.Has
	if !has(role.Web) && c.API.Listen != "" {
		f.Add("$.api", "is for a process with the role web")
	}
	if !has(role.Broker) {
		if !c.Cluster.IsZero() {
			f.Add("$.cluster", "is for a process with the role broker")
		}
		if c.Bridge != (bridge.Place{}) {
			f.Add("$.bridge", "is for a process with the role broker")
		}
		if c.Roles.Any(role.Ingest|role.Web) && len(c.Queue.Servers) == 0 {
			f.Add("$.queue.servers", "must name the brokers, since this process is none")
		}
		return
	}
	if len(c.Queue.Servers) > 0 {
		f.Add("$.queue", "is for a process without the role broker: this one's own broker has the queues")
	}
	if !c.Cluster.Alone() && has(role.Settle) {
		f.Add("$.cluster", "does not go with the role settle: brokers wait for each other, and settlers until the other one ends; run the settler as a process of its own")
	}
}

// ValidatorURLs returns where the validators are, by their names.
func (c *Config) ValidatorURLs() map[string]string {
	out := make(map[string]string)
	for _, v := range c.Validators {
		out[v.Name] = v.URL
	}
	return out
}

// validateValidators adds the faults of the list of validators.
func (c *Config) validateValidators(f *config.Faults) {
	names := make(map[string]bool)
	for i, v := range c.Validators {
		at := fmt.Sprintf("$.validators[%d]", i)
		if v.Name == "" || names[v.Name] {
			f.Add(at+".name", "%q is empty or there twice; give the name that the program has for the validator", v.Name)
		}
		names[v.Name] = true
		if err := feed.CheckURL(v.URL); err != nil {
			f.Add(at+".url", "%v", err)
		}
	}
	switch has := c.Roles.Has(role.Settle); {
	case c.Roles == 0:
	case has && len(c.Validators) == 0:
		f.Add("$.validators", "must say where the program's validators are: without a quorum of them there are no drops")
	case !has && len(c.Validators) > 0:
		f.Add("$.validators", "is for a process with the role settle")
	}
}
