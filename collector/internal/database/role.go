package database

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// A Role is a set of the parts that a program may play towards the database; a set of several may do what each of them may.
type Role uint8

// The roles.
const (
	// Ingest takes what vehicles send, and answers it.
	Ingest Role = 1 << iota
	// Settle numbers the ledger's entries and draws stones.
	Settle
	// Web reads what pages and bulletins show.
	Web
	// Audit reads what auditors get.
	Audit
	// Admin registers vehicles and their ECUs.
	Admin

	every = Admin<<1 - 1
)

// Each returns the single roles in r.
func (r Role) Each() (out []Role) {
	for one := Ingest; one <= Admin; one <<= 1 {
		if r&one != 0 {
			out = append(out, one)
		}
	}
	return out
}

// String returns the roles' names.
func (r Role) String() string {
	var names []string
	for _, one := range r.Each() {
		names = append(names, [...]string{"ingest", "settle", "web", "audit", "admin"}[bits.TrailingZeros8(uint8(one))])
	}
	return strings.Join(names, "_")
}

// Login returns the name with which the role logs in to PostgreSQL. Package schema makes the logins of single roles.
func (r Role) Login() string { return "rawstone_" + r.String() }

// Owner is the login that owns the tables on PostgreSQL; it migrates them and is used for nothing else.
const Owner = "rawstone_owner"

// A constant is text that stands in the program's source: other packages can write one down, and make none of what they have received.
type constant string

// A Statement is one of the statements that a program ever runs, in the SQL that both engines have in common.
type Statement struct {
	// Name says what it does, as in "cannot add account".
	Name constant
	// SQL has its parameters as $1, $2, …
	SQL constant
	// Roles are those that may run it.
	Roles Role
}

// ErrRefused is returned for a statement that the role may not run.
var ErrRefused = errors.New("statement refused")

// register checks statements and returns them by name.
func register(list []Statement) (map[constant]Statement, error) {
	out := make(map[constant]Statement, len(list))
	for _, s := range list {
		if s.Name == "" || s.SQL == "" || s.Roles == 0 || s.Roles&^every != 0 {
			return nil, fmt.Errorf("cannot register statement %q: it lacks a name, its SQL or a role", s.Name)
		}
		if _, twice := out[s.Name]; twice {
			return nil, fmt.Errorf("cannot register statement %q: there are two of that name", s.Name)
		}
		out[s.Name] = s
	}
	return out, nil
}

// admit refuses what is not registered for the role.
func (d *DB) admit(ctx context.Context, s Statement) error {
	if known, ok := d.statements[s.Name]; ok && known == s && s.Roles&d.role != 0 {
		return nil
	}
	return d.refuse(ctx, string(s.Name))
}

func (d *DB) refuse(ctx context.Context, name string) error {
	d.refused.Inc()
	d.logger.ErrorContext(ctx, "statement refused", "role", d.role.String(), "statement", name)
	return fmt.Errorf("cannot %s: %w: role %s may not", name, ErrRefused, d.role)
}
