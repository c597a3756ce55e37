// Package config reads the strict YAML of every Rawstone program: unknown and repeated keys are refused, defaults are what the
// target holds before, and every fault is reported at once with file, line and column.
//
// It refuses to guess: no environment variables, no includes, no type coercion. Secrets are paths of files.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxLen bounds a configuration file in bytes.
const maxLen = 1 << 20

// A Config checks itself once its text has been decoded into it.
type Config interface {
	// Validate adds a fault for every key whose value cannot be used.
	Validate(*Faults)
}

// Faults collects what is wrong with a configuration.
type Faults struct {
	name   string
	file   *ast.File
	faults []fault
}

type fault struct {
	line, column int
	text         string
}

// Add notes a fault of the value at a YAML path such as `$.mqtt.listen` or `$.buses[1].url`. A path that the text does not spell
// out (a default) is reported without a position; `$` is the file as a whole.
func (f *Faults) Add(path, format string, args ...any) {
	var ft fault
	at := f.name
	if p, err := yaml.PathString(path); err == nil && f.file != nil {
		if node, err := p.FilterFile(f.file); err == nil && node != nil && node.GetToken() != nil {
			pos := node.GetToken().Position
			ft.line, ft.column = pos.Line, pos.Column
			at = fmt.Sprintf("%s:%d:%d", f.name, pos.Line, pos.Column)
		}
	}
	ft.text = fmt.Sprintf("%s: %s", at, fmt.Sprintf(format, args...))
	if key := strings.TrimPrefix(strings.TrimPrefix(path, "$"), "."); key != "" {
		ft.text = fmt.Sprintf("%s: %s: %s", at, key, fmt.Sprintf(format, args...))
	}
	f.faults = append(f.faults, ft)
}

// err joins the faults in the order of the text, those without a position first.
func (f *Faults) err() error {
	slices.SortFunc(f.faults, func(a, b fault) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column), cmp.Compare(a.text, b.text))
	})
	var errs []error
	for _, ft := range f.faults {
		errs = append(errs, errors.New(ft.text))
	}
	return errors.Join(errs...)
}

// Load reads the file at path over the defaults that c holds.
func Load(path string, c Config) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLen+1))
	if err != nil {
		return fmt.Errorf("cannot read configuration: %w", err)
	}
	return Decode(path, text, c)
}

// Decode reads text over the defaults that c holds; name stands for it in faults.
func Decode(name string, text []byte, c Config) error {
	if len(text) > maxLen {
		return fmt.Errorf("cannot read configuration %s: more than %d bytes", name, maxLen)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict(), yaml.DisallowUnknownField())
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read configuration %s:%s", name, yaml.FormatError(err, false, true))
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read configuration %s: more than one document", name)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return fmt.Errorf("cannot read configuration %s:%s", name, yaml.FormatError(err, false, true))
	}
	faults := &Faults{name: name, file: file}
	c.Validate(faults)
	if err := faults.err(); err != nil {
		return fmt.Errorf("cannot use configuration:\n%w", err)
	}
	return nil
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
