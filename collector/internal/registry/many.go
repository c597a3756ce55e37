package registry

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rawstone/collector/internal/identity"
	"rawstone/pkg/attest"
	"rawstone/pkg/durable"
)

const (
	// perTransaction is how many vehicles of a list are registered together.
	perTransaction = 256
	// maxListLen bounds a list in bytes; a vehicle takes some 1,100 where the texts stand in it.
	maxListLen = 2 << 30
	// maxTokensLen bounds a file of tokens in bytes; a line takes at most 66.
	maxTokensLen = 1 << 30
)

// columns are a list's first line; the last one or two may be left out.
func columns() []string { return []string{"id", "ecu_key", "ecu_cert", "account", "model"} }

// required is how many of them a list has at least.
const required = 3

// AddList registers the vehicles of a list and appends a line `VEHICLE TOKEN` for each to the file tokens, which nobody else may read and
// which is made when missing. added are registered now, passed were before.
//
// The list is CSV (RFC 4180) whose first line is `id,ecu_key,ecu_cert` and may go on with `,account` and then `,model`; ecu_key and ecu_cert
// are names of files, relative to the list, or their PEM text itself. Vehicles are registered 256 at a time: what was before a line that is refused stays
// registered, and the list may be used again. A token is on disk before its vehicle is registered. Where a vehicle has several, the last
// is good.
func (d *Desk) AddList(ctx context.Context, list, tokens string) (added, passed int, err error) {
	f, err := os.Open(list)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read list of vehicles: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return 0, 0, fmt.Errorf("cannot read list of vehicles: %w", err)
	} else if info.Size() > maxListLen {
		return 0, 0, fmt.Errorf("cannot read list of vehicles %s: it has more than %d bytes: split it", list, maxListLen)
	}
	keep, err := openTokens(tokens)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, keep.Close()) }()
	read, err := newList(f, list)
	if err != nil {
		return 0, 0, err
	}
	for {
		batch, err := read.next(perTransaction)
		if err != nil || len(batch) == 0 {
			return added, passed, err
		}
		n, err := d.r.AddMany(ctx, batch, keep.append)
		if err != nil {
			return added, passed, fmt.Errorf("%w (%s, lines %d to %d)", err, list, read.first, read.last)
		}
		added, passed = added+n, passed+len(batch)-n
	}
}

// A list reads vehicles.
type list struct {
	csv         *csv.Reader
	name        string
	first, last int // lines of the vehicles that next returned
}

func newList(r io.Reader, name string) (*list, error) {
	l := &list{csv: csv.NewReader(r), name: name}
	head, err := l.csv.Read()
	if all := columns(); err != nil || len(head) < required || !slices.Equal(head, all[:min(len(head), len(all))]) {
		return nil, errors.Join(fmt.Errorf("cannot read list of vehicles %s: its first line is not %s, with or without %s", name,
			strings.Join(all[:required], ","), strings.Join(all[required:], " and then ")), err)
	}
	return l, nil
}

// next returns up to n vehicles, none at the end.
func (l *list) next(n int) (vs []identity.Vehicle, err error) {
	for len(vs) < n {
		row, err := l.csv.Read()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("cannot read list of vehicles %s: %w", l.name, err)
		}
		l.last, _ = l.csv.FieldPos(0)
		if len(vs) == 0 {
			l.first = l.last
		}
		v, err := l.vehicle(row)
		if err != nil {
			return nil, fmt.Errorf("%w (%s, line %d)", err, l.name, l.last)
		}
		vs = append(vs, v)
	}
	return vs, nil
}

func (l *list) vehicle(row []string) (v identity.Vehicle, err error) {
	v.ID = row[0]
	if len(row) > 3 {
		v.Account = row[3]
	}
	if len(row) > 4 {
		v.Model = row[4]
	}
	var ecu identity.ECU
	key, certificate := strings.HasPrefix(row[1], begin), strings.HasPrefix(row[2], begin)
	if key != certificate {
		return v, fmt.Errorf("cannot add vehicle %s: give both its ECU's identity and certificate as files, or both as text", v.ID)
	}
	if key {
		id, err := attest.ParseIdentity([]byte(row[1]))
		if err != nil {
			return v, fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
		}
		ecu = identity.ECU{Identity: *id, Certificate: []byte(row[2])}
	} else if ecu, err = readECU(ECU{l.resolve(row[1]), l.resolve(row[2])}); err != nil {
		return v, fmt.Errorf("cannot add vehicle %s: %w", v.ID, err)
	}
	v.Identity, v.Certificate = ecu.Identity, ecu.Certificate
	return v, nil
}

// begin is how a text in PEM (RFC 7468) begins, and no file's name.
const begin = "-----BEGIN "

func (l *list) resolve(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(l.name), file)
}

// tokens is a file of tokens that grows.
type tokens struct{ f *os.File }

// openTokens opens or makes the file. A last line that was cut off belongs to no vehicle and is taken away.
func openTokens(path string) (_ *tokens, err error) {
	_, statErr := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep tokens: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot keep tokens in %s: %w", path, errors.Join(err, f.Close()))
		}
	}()
	if errors.Is(statErr, fs.ErrNotExist) {
		return &tokens{f}, durable.SyncDir(filepath.Dir(path))
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > maxTokensLen:
		return nil, errors.New("it is no file of tokens: choose another")
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("mode %04o lets others read it; run chmod 600", info.Mode().Perm())
	}
	tail := make([]byte, min(info.Size(), 1<<10))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return nil, err
	}
	whole := bytes.LastIndexByte(tail, '\n') + 1
	if whole == 0 && info.Size() > int64(len(tail)) {
		return nil, errors.New("it is no file of tokens: choose another")
	}
	return &tokens{f}, f.Truncate(info.Size() - int64(len(tail)-whole))
}

// append puts tokens on disk.
func (t *tokens) append(all []identity.Token) error {
	var text strings.Builder
	for _, one := range all {
		fmt.Fprintf(&text, "%s %s\n", one.Vehicle, one.Token)
	}
	if _, err := t.f.WriteString(text.String()); err != nil {
		return fmt.Errorf("cannot keep tokens: %w", err)
	}
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("cannot keep tokens: %w", err)
	}
	return nil
}

func (t *tokens) Close() error { return t.f.Close() }
