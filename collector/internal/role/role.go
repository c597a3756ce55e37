// Package role names the parts of a collector that may run as processes of their own, and sets of them. It says nothing of what they do.
package role

import (
	"fmt"
	"slices"
	"strings"
)

// A Set is a set of roles; the zero value is empty.
type Set uint8

// The roles.
const (
	// Broker is the MQTT broker with its queues, the bridge to another broker and the bulletin of policies.
	Broker Set = 1 << iota
	// Ingest decides what is in the queues and answers, and serves the commands that ask a running collector.
	Ingest
	// Settle writes the ledger.
	Settle
	// Web is the dashboard and what vehicles reach over HTTPS.
	Web

	// Validator checks and cosigns the ledger. It is never part of a collector: `collector validator` is a process of its own.
	Validator

	// All is the whole collector in one process.
	All = Broker | Ingest | Settle | Web
)

// Names returns the names of all roles, in their order.
func Names() []string { return []string{"broker", "ingest", "settle", "web", "validator"} }

// Parse reads names of roles. None, an unknown one and one that is there twice are refused.
func Parse(names []string) (s Set, err error) {
	for _, n := range names {
		i := slices.Index(Names(), n)
		if i < 0 {
			return 0, fmt.Errorf("cannot use role %q: the roles are %s", n, strings.Join(Names(), ", "))
		}
		if s.Has(1 << i) {
			return 0, fmt.Errorf("cannot use role %s twice", n)
		}
		s |= 1 << i
	}
	if s == 0 {
		return 0, fmt.Errorf("cannot use an empty list of roles: the roles are %s", strings.Join(Names(), ", "))
	}
	return s, nil
}

// Has reports whether the set holds all roles of another.
func (s Set) Has(other Set) bool { return s&other == other }

// Any reports whether the set holds one of another's roles.
func (s Set) Any(other Set) bool { return s&other != 0 }

// List returns the names of the roles in the set.
func (s Set) List() (names []string) {
	for i, n := range Names() {
		if s.Has(1 << i) {
			names = append(names, n)
		}
	}
	return names
}

// String returns the names as the command line takes them.
func (s Set) String() string { return strings.Join(s.List(), ",") }
