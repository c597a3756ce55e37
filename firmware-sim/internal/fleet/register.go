package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"rawstone/pkg/enroll"
)

// Files of a fleet's directory that belong to its registration.
const (
	listFile   = "vehicles.csv"
	tokensFile = "vehicles.tokens"
)

// register has the collector register the vehicles from first on, and returns the tokens of all by their number.
func (r *run) register(ctx context.Context) ([]string, error) {
	tokens, err := r.tokens()
	if err != nil {
		return nil, err
	}
	first := 0
	for first < r.roster.N && tokens[first] != "" {
		first++
	}
	if first == r.roster.N {
		return tokens, nil
	}
	if err := r.list(ctx, first); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(r.opt.Bin, "collector"), "vehicle", "add", "--config", r.opt.Place.Collector,
		"--list", r.path(listFile), "--tokens", r.path(tokensFile))
	var said bytes.Buffer
	cmd.Stderr = &said
	r.say("registering %d vehicles", r.roster.N-first)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot register vehicles: %w: %s", err, strings.TrimSpace(said.String()))
	}
	r.say("%s", strings.TrimSpace(string(out)))
	if tokens, err = r.tokens(); err != nil {
		return nil, err
	}
	for i, t := range tokens {
		if t == "" {
			return nil, fmt.Errorf("the collector knows vehicle %s, and its token is in no file: give another --dir for a new fleet", r.roster.Name(i))
		}
	}
	return tokens, nil
}

// list writes the vehicles from first on to a file for the collector.
func (r *run) list(ctx context.Context, first int) (err error) {
	f, err := os.Create(r.path(listFile))
	if err != nil {
		return fmt.Errorf("cannot write list of vehicles: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := csv.NewWriter(bufio.NewWriterSize(f, 1<<20))
	if err := w.Write([]string{"id", "ecu_key", "ecu_cert"}); err != nil {
		return fmt.Errorf("cannot write list of vehicles: %w", err)
	}
	type row struct{ identity, certificate []byte }
	now, bar := r.opt.Now(), r.bar("making vehicles", r.roster.N-first)
	defer bar.End()
	const piece = 1024
	for at := first; at < r.roster.N; at += piece {
		rows := make([]row, min(piece, r.roster.N-at))
		err := each(ctx, len(rows), func(i int) (err error) {
			rows[i].identity, rows[i].certificate, err = r.roster.Identity(at+i, now)
			return err
		})
		if err != nil {
			return err
		}
		for i, one := range rows {
			if err := w.Write([]string{r.roster.Name(at + i), string(one.identity), string(one.certificate)}); err != nil {
				return fmt.Errorf("cannot write list of vehicles: %w", err)
			}
		}
		bar.Add(len(rows))
	}
	w.Flush()
	return w.Error()
}

// tokens reads the tokens that the collector wrote: the last one of a vehicle is good.
func (r *run) tokens() ([]string, error) {
	tokens := make([]string, r.roster.N)
	f, err := os.Open(r.path(tokensFile))
	if errors.Is(err, fs.ErrNotExist) {
		return tokens, nil
	} else if err != nil {
		return nil, fmt.Errorf("cannot read tokens: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, token, _ := strings.Cut(lines.Text(), " ")
		i, ok := r.roster.Number(name)
		if token, err := enroll.ParseToken(token); ok && i < r.roster.N && err == nil {
			tokens[i] = token
		}
	}
	return tokens, nil
}
