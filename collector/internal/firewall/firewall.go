// Package firewall knows all statements that a program ever runs in its database, and which role may run them.
//
// Statements are constants of the program's source: no other package can make one of text that it has received. One that is not registered
// for the role, or differs from the registered one of its name, is refused, counted and logged with the names of role and statement;
// never with its arguments.
//
// On SQLite this guards against faults in the program, on PostgreSQL each role is a login as well, whose rights package schema derives from
// the same statements. The package opens nothing and runs nothing.
package firewall

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// A constant is text that stands in the program's source: other packages can write one down, and make none of what they have received.
type constant string

// A Statement is one of the statements that a program ever runs, in the SQL that both engines have in common as far as they have one.
type Statement struct {
	// Name says what it does, as in "cannot add account".
	Name constant
	// SQL has its parameters as $1, $2, …
	SQL constant
	// Postgres stands for SQL on PostgreSQL where it is not empty, with the same parameters and results: there a role that may not be
	// trusted with a table's columns calls a function of the owner's.
	Postgres constant
	// Many stands for SQL on PostgreSQL where it is not empty: it does at once what SQL does for many lists of arguments, of which it
	// takes arrays, one for each parameter.
	Many constant
	// Roles are those that may run it.
	Roles Role
}

// OnPostgres returns the statement's text for PostgreSQL.
func (s Statement) OnPostgres() string { return string(cmp.Or(s.Postgres, s.Many, s.SQL)) }

// ErrRefused is returned for a statement that the role may not run.
var ErrRefused = errors.New("statement refused")

// Config says who is let through to what; Role and Statements are required.
type Config struct {
	Role       Role
	Statements []Statement
	// Logger takes refusals; nil discards them. Registerer takes rawstone_database_refused_total; nil keeps it unseen.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Firewall admits one role's statements. It may be used from several goroutines.
type Firewall struct {
	role       Role
	statements map[constant]Statement
	refused    prometheus.Counter
	logger     *slog.Logger
}

// New checks the statements, whose names must differ, and registers them.
func New(cfg Config) (*Firewall, error) {
	if cfg.Role == 0 || cfg.Role&^every != 0 {
		return nil, errors.New("no role given")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Firewall{role: cfg.Role, statements: make(map[constant]Statement, len(cfg.Statements)), logger: cfg.Logger}
	for _, s := range cfg.Statements {
		if s.Name == "" || s.SQL == "" || s.Roles == 0 || s.Roles&^every != 0 || s.Postgres != "" && s.Many != "" {
			return nil, fmt.Errorf("cannot register statement %q: it lacks a name, its SQL or a role, or has two texts for PostgreSQL", s.Name)
		}
		if _, twice := f.statements[s.Name]; twice {
			return nil, fmt.Errorf("cannot register statement %q: there are two of that name", s.Name)
		}
		f.statements[s.Name] = s
	}
	var err error
	f.refused, err = refusals(cfg.Role, cfg.Registerer)
	return f, err
}

// refusals returns the role's counter, which all firewalls of the role share.
func refusals(r Role, to prometheus.Registerer) (prometheus.Counter, error) {
	c := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rawstone_database_refused_total", Help: "Statements that the database's firewall refused.",
		ConstLabels: prometheus.Labels{"role": r.String()},
	})
	if to == nil {
		return c, nil
	}
	var there prometheus.AlreadyRegisteredError
	if err := to.Register(c); errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(prometheus.Counter); ok {
			return old, nil
		}
		return nil, err
	} else if err != nil {
		return nil, err
	}
	return c, nil
}

// Admit returns ErrRefused for what is not registered for the role.
func (f *Firewall) Admit(ctx context.Context, s Statement) error {
	if known, ok := f.statements[s.Name]; ok && known == s && s.Roles&f.role != 0 {
		return nil
	}
	return f.Refuse(ctx, s.Name)
}

// Refuse counts and logs that the role may not do what is named, and returns ErrRefused.
func (f *Firewall) Refuse(ctx context.Context, name constant) error {
	f.refused.Inc()
	f.logger.ErrorContext(ctx, "statement refused", "role", f.role.String(), "statement", string(name))
	return fmt.Errorf("cannot %s: %w: role %s may not", name, ErrRefused, f.role)
}
