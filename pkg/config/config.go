// Package config reads the strict YAML of every Rawstone program: defaults are what the target holds before, and every fault, be it an
// unknown or repeated key, a value of the wrong type or one that the program cannot use, is reported at once with file, line and column.
//
// It refuses to guess: no environment variables, no includes, no type coercion, and none of YAML's anchors, aliases, merge keys and tags,
// which also keeps a small file from standing for a large one. Secrets are paths of files.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/token"
)

const (
	maxLen    = 1 << 20 // of a configuration file in bytes
	maxFaults = 100     // that are spelt out
)

// A Config checks itself once its text has been decoded into it.
type Config interface {
	// Validate adds a fault for every key whose value cannot be used. It is called also when some values could not be decoded: they
	// hold their defaults, and what it says about them goes unheard.
	Validate(*Faults)
}

// Faults collects what is wrong with a configuration.
type Faults struct {
	what   string // that is read, in words
	name   string
	places map[string]*token.Token // where the text spells out the value of a YAML path
	bad    []string                // paths whose values could not be decoded
	faults []fault
}

type fault struct {
	line, column int
	text         string
}

// Add notes a fault of the value at a YAML path such as `$.mqtt.listen` or `$.buses[1].url`. A path that the text does not spell
// out (a default) is reported without a position; `$` is the file as a whole. A fault of a value that could not be decoded, of part of
// it, or of what it is part of, is dropped: the value's own fault is reported already, and the others may follow from it.
func (f *Faults) Add(path, format string, args ...any) {
	if slices.ContainsFunc(f.bad, func(bad string) bool { return within(path, bad) || within(bad, path) }) {
		return
	}
	f.add(f.places[path], path, fmt.Sprintf(format, args...))
}

// within reports whether a path is another one or part of it.
func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (f *Faults) add(at *token.Token, path, reason string) {
	ft := fault{text: f.name}
	if at != nil {
		ft.line, ft.column = at.Position.Line, at.Position.Column
		ft.text = fmt.Sprintf("%s:%d:%d", f.name, ft.line, ft.column)
	}
	if key := strings.TrimPrefix(strings.TrimPrefix(path, "$"), "."); key != "" {
		ft.text += ": " + key
	}
	ft.text += ": " + reason
	f.faults = append(f.faults, ft)
}

// err joins the faults in the order of the text, those without a position first.
func (f *Faults) err() error {
	if len(f.faults) == 0 {
		return nil
	}
	slices.SortFunc(f.faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column), cmp.Compare(a.text, b.text))
	})
	var text strings.Builder
	text.WriteString("cannot use " + f.what + ":")
	for _, ft := range f.faults[:min(len(f.faults), maxFaults)] {
		text.WriteString("\n" + ft.text)
	}
	if more := len(f.faults) - maxFaults; more > 0 {
		fmt.Fprintf(&text, "\nand %d more", more)
	}
	return errors.New(text.String())
}

// configuration is what is read unless somebody says otherwise.
const configuration = "configuration"

// Load reads the file at path over the defaults that c holds.
func Load(path string, c Config) error { return LoadAs(configuration, path, c) }

// LoadAs is Load for a file that nobody would call a configuration: what is its name in errors, such as "policy source".
func LoadAs(what, path string, c Config) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLen+1))
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	return decode(what, path, text, c)
}

// Decode reads text over the defaults that c holds; name stands for it in faults. When there is an error, c holds what could be decoded:
// who reads several files that way can join their errors.
func Decode(name string, text []byte, c Config) error { return decode(configuration, name, text, c) }

func decode(what, name string, text []byte, c Config) error {
	if len(text) > maxLen {
		return fmt.Errorf("cannot read %s %s: more than %d bytes", what, name, maxLen)
	}
	f := &Faults{what: what, name: name, places: make(map[string]*token.Token)}
	// A text whose form is wrong has no values to speak of, and one with so many faults is something else than a configuration.
	if root := f.parse(text); len(f.faults) == 0 {
		if f.decode(c, root); len(f.faults) <= maxFaults {
			c.Validate(f)
		}
	}
	return f.err()
}

// Resolve turns each relative path into one relative to the directory of the configuration file, so that a program may be started
// from anywhere. Empty paths stay empty.
func Resolve(file string, paths ...*string) {
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(filepath.Dir(file), *p)
		}
	}
}
