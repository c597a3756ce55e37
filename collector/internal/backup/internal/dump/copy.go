package dump

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"rawstone/collector/internal/outbox"
	"rawstone/pkg/ledger"
)

const maxRow = 4 * ledger.MaxBodyLen // a body in hexadecimal, and the rest of its row

// A Taker gets what is for the ledger: entries that have a number, in any order, and at most one draft.
type Taker interface {
	Add(*ledger.Entry) error
	AddDraft(outbox.Draft)
}

// Read reads the outbox and the draft in a file, without any server.
func (s *Server) Read(ctx context.Context, path string, to Taker) error {
	cmd, err := s.command(ctx, "pg_restore", "--data-only", "--table=outbox", "--table=draft", "--file=-", path)
	if err != nil {
		return err
	}
	var spoken said
	cmd.Stderr = &spoken
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = readCopies(out, to)
	_, rest := io.Copy(io.Discard, out) // so that it ends
	if ended := spoken.wrap("pg_restore", cmd.Wait()); ended != nil {
		return ended
	}
	if err = errors.Join(err, rest); err != nil {
		return fmt.Errorf("cannot read %s: %w", filepath.Base(path), err)
	}
	return nil
}

// readCopies reads the blocks COPY table (columns) FROM stdin; of the tables outbox and draft.
func readCopies(r io.Reader, to Taker) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxRow)
	seen := 0
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), "COPY ")
		if !ok {
			continue
		}
		table, rest, _ := strings.Cut(rest, " (")
		columns, _, _ := strings.Cut(rest, ")")
		table = strings.TrimPrefix(table, "public.")
		if table != "outbox" && table != "draft" {
			return fmt.Errorf("table %s was not asked for", table)
		}
		seen++
		names := strings.Split(columns, ", ")
		for {
			if !lines.Scan() {
				return errors.Join(fmt.Errorf("table %s is cut off", table), lines.Err())
			}
			if lines.Text() == `\.` {
				break
			}
			if err := row(to, table, names, strings.Split(lines.Text(), "\t")); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if seen != 2 {
		return errors.New("the tables outbox and draft are not both there")
	}
	return nil
}

// row takes a row of the outbox that has a number, or of the drafts.
func row(to Taker, table string, names, values []string) (err error) {
	if len(values) != len(names) {
		return fmt.Errorf("a row of %s has %d values, want %d", table, len(values), len(names))
	}
	column := make(map[string]string)
	for i, n := range names {
		column[n] = values[i]
	}
	if column["number"] == `\N` {
		return nil
	}
	number, err := strconv.ParseUint(column["number"], 10, 63)
	if err != nil {
		return fmt.Errorf("a row of %s has a number that is none: %w", table, err)
	}
	typ, err := strconv.ParseUint(column["type"], 10, 8)
	if err != nil {
		return fmt.Errorf("row %d of %s has a type that is none: %w", number, table, err)
	}
	text, what := column["body"], "body"
	if table == "draft" {
		text, what = column["payload"], "payload"
	}
	digits, ok := strings.CutPrefix(text, `\\x`)
	body, err := hex.DecodeString(digits)
	if !ok || err != nil {
		return fmt.Errorf("row %d of %s has a %s that is not hexadecimal", number, table, what)
	}
	if table == "draft" {
		to.AddDraft(outbox.Draft{Number: number, Type: ledger.Type(typ), Payload: body})
		return nil
	}
	return to.Add(&ledger.Entry{Number: number, Type: ledger.Type(typ), Body: body})
}
