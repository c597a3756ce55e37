package decode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rawstone/agent/internal/decode/near"
	"rawstone/agent/internal/decode/tally"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
)

// maxWarnings is how many sentences about one DBC file are printed; the others are counted.
const maxWarnings = 20

// A database is a DBC file and the bus it is for.
type database struct {
	tally.Database
	file *dbc.File
	plan *dbc.Plan
}

// databases decodes by DBC files.
type databases struct {
	all      []*database
	cols     []column
	signed   []bool // by column
	plans    [][]*dbc.Plan
	readings []dbc.Reading
}

func openDatabases(o *Options) (*databases, error) {
	d := &databases{}
	for _, arg := range o.DBC {
		db := &database{Database: tally.Database{File: arg}}
		if name, path, ok := strings.Cut(arg, "="); ok && !strings.ContainsAny(name, "/\\.") {
			db.Bus, db.File = name, path
		}
		if err := db.load(o.Diagnostics); err != nil {
			return nil, err
		}
		d.all = append(d.all, db)
	}
	names := o.Signals
	if len(names) > 0 {
		if err := d.check(names); err != nil {
			return nil, err
		}
	}
	for _, db := range d.all {
		if err := d.compile(db, names, o.Diagnostics); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// load reads and parses the file. It loads when anything in it could be understood, or nothing in it had to be skipped: a file
// without messages, of value tables and comments alone, loads.
func (db *database) load(diagnostics io.Writer) error {
	text, err := dbc.ReadFile(db.File)
	if err != nil {
		return err
	}
	var warnings []dbc.Warning
	db.file, warnings = dbc.Parse(db.File, text)
	db.Messages, db.Warnings = len(db.file.Messages), len(warnings)
	for _, m := range db.file.Messages {
		db.Signals += len(m.Signals)
	}
	for _, w := range warnings[:min(len(warnings), maxWarnings)] {
		fmt.Fprintln(diagnostics, w)
	}
	if more := len(warnings) - maxWarnings; more > 0 {
		fmt.Fprintf(diagnostics, "%s: %d more warnings are not listed\n", db.File, more)
	}
	if db.Messages == 0 && len(warnings) > 0 && len(bytes.TrimSpace(text)) > 0 {
		return fmt.Errorf("cannot use DBC file %s: it has no message that could be understood, the first of %d warnings is: %s", db.File, len(warnings), warnings[0])
	}
	if db.Messages == 0 {
		fmt.Fprintf(diagnostics, "%s: the file has no messages, nothing is decoded by it\n", db.File)
	}
	return nil
}

// check refuses names that no database has, each with a sentence.
func (d *databases) check(names []string) error {
	known := map[string]bool{}
	for _, db := range d.all {
		for _, m := range db.file.Messages {
			for _, s := range m.Signals {
				known[s.Name], known[m.Name+"."+s.Name] = true, true
			}
		}
	}
	var problems []error
	for _, name := range names {
		if known[name] {
			continue
		}
		hint := "write it as its SG_ line does, or as Message.Signal"
		if like := near.Names(name, known); len(like) > 0 {
			hint = "did you mean " + strings.Join(like, ", ") + "?"
		}
		problems = append(problems, fmt.Errorf("cannot decode signal %q: no DBC file has it: %s", name, hint))
	}
	return errors.Join(problems...)
}

// compile makes the plan of one database. Signals that were asked for by name must compile; of all signals, those that do not are
// told and left out.
func (d *databases) compile(db *database, names []string, diagnostics io.Writer) error {
	var wants []dbc.Want
	want := func(m *dbc.Message, s *dbc.Signal, name string) {
		wants = append(wants, dbc.Want{Signal: name, Tag: len(d.cols)})
		long := m.Name + "." + s.Name
		d.cols = append(d.cols, column{name: s.Name, long: long})
		d.signed = append(d.signed, s.Signed && !s.Float)
	}
	if len(names) == 0 {
		for _, m := range db.file.Messages {
			for _, s := range m.Signals {
				want(m, s, m.Name+"."+s.Name)
			}
		}
	}
	for _, name := range names {
		found := false
		for _, m := range db.file.Messages {
			for _, s := range m.Signals {
				if !found && (s.Name == name || m.Name+"."+s.Name == name) {
					found = true
					want(m, s, name)
				}
			}
		}
	}
	var err error
	if db.plan, err = dbc.Compile(db.file, wants); err == nil || len(names) > 0 {
		return err
	}
	var broken interface{ Unwrap() []error }
	if !errors.As(err, &broken) {
		return err
	}
	left, said := map[int]bool{}, 0
	for _, problem := range broken.Unwrap() {
		var e *dbc.SignalError
		if !errors.As(problem, &e) {
			return err
		}
		left[e.Want.Tag] = true
		if said++; said <= maxWarnings {
			fmt.Fprintf(diagnostics, "%s: %v\n", db.File, problem)
		}
	}
	if said > maxWarnings {
		fmt.Fprintf(diagnostics, "%s: %d more signals cannot be decoded\n", db.File, said-maxWarnings)
	}
	wants = slices.DeleteFunc(wants, func(w dbc.Want) bool { return left[w.Tag] })
	db.plan, err = dbc.Compile(db.file, wants)
	return err
}

func (d *databases) columns() []column { return d.cols }

func (d *databases) buses() []string {
	var names []string
	for _, db := range d.all {
		if db.Bus != "" && !slices.Contains(names, db.Bus) {
			names = append(names, db.Bus)
		}
	}
	return names
}

func (d *databases) summary() []tally.Database {
	var all []tally.Database
	for _, db := range d.all {
		all = append(all, db.Database)
	}
	return all
}

func (d *databases) begin(bus string) {
	var plans []*dbc.Plan
	for _, db := range d.all {
		if db.Bus == "" || db.Bus == bus {
			plans = append(plans, db.plan)
		}
	}
	d.plans = append(d.plans, plans)
}

func (d *databases) read(_ context.Context, f *can.Frame, emit func(*value)) error {
	var v value
	for _, plan := range d.plans[f.Bus] {
		d.readings = plan.Decode(f, d.readings[:0])
		for i := range d.readings {
			r := &d.readings[i]
			v = value{column: r.Tag(), time: f.Time, number: r.Physical, raw: r.Raw, signed: d.signed[r.Tag()], available: r.Available()}
			if v.signed {
				v.raw = uint64(r.Signed())
			}
			emit(&v)
		}
	}
	return nil
}
