// Package reset takes from a car what it knows of its driver, for a new owner: a factory reset of the agent.
//
// Invariants: only what is named is wiped, so that the privacy budget's ledger, its anchor and the device key stay: what was spent of a
// vehicle's privacy stays spent, whoever owns it. The agent's store is held throughout and goes last; a reset that was cut short is carried
// on by the next start of the agent or the next reset, before anything is read. A mark is on flash before anything is wiped, and stays: by
// it the agent knows that the device key, which would get another certificate by itself, waits for the new owner to enrol the car.
//
// The package refuses to wipe below a running agent. Flash wears evenly by keeping what was deleted for a while where only its maker's tools
// reach it; against those only an encrypted file system helps.
package reset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"rawstone/pkg/durable"
)

// marker is the file that says that a reset is under way.
const marker = "reset.pending"

// Config says what is wiped. All fields but Keys and Purge are required.
type Config struct {
	// Dir is the agent's state directory.
	Dir string
	// Store is the name of the agent's store in it, which another process that uses it holds with flock(2).
	Store string
	// Mark is the name of the file in it that a reset leaves, and that package certificate goes by.
	Mark string
	// Keys are names of files in it that are overwritten before anything is wiped: what lies encrypted under them cannot be read then. Others must
	// name them too.
	Keys []string
	// Purge takes what is the driver's out of what stays; nil where there is nothing. Its error is told when the rest is wiped.
	Purge func() error
	// Others are patterns (path/filepath.Match) of the names of everything else in it that is wiped.
	Others []string
}

// Wipe wipes. Errors: a store that a running agent holds, or a failure to remove, after which it can be repeated.
func Wipe(cfg Config) error {
	if cfg.Dir == "" || cfg.Store == "" || cfg.Mark == "" {
		return errors.New("cannot reset: no state directory, store or mark given")
	}
	if err := wipe(cfg); err != nil {
		return fmt.Errorf("cannot reset: %w", err)
	}
	return nil
}

// Resume wipes what a reset that was cut short has left, and does nothing where there was none.
func Resume(cfg Config) (resumed bool, err error) {
	_, err = os.Lstat(filepath.Join(cfg.Dir, marker))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = Wipe(cfg)
	}
	return err == nil, err
}

func wipe(cfg Config) (err error) {
	store := filepath.Join(cfg.Dir, cfg.Store)
	if err := os.MkdirAll(store, 0o700); err != nil {
		return err
	}
	held, err := os.Open(store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("the agent runs and holds %s (%w); stop it first", store, err)
	}
	for _, name := range []string{marker, cfg.Mark} {
		if err := os.WriteFile(filepath.Join(cfg.Dir, name), nil, 0o600); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(cfg.Dir); err != nil {
		return err
	}
	for _, name := range cfg.Keys {
		if err := overwrite(filepath.Join(cfg.Dir, name)); err != nil {
			return err
		}
	}
	for _, pattern := range cfg.Others {
		paths, err := filepath.Glob(filepath.Join(escape(cfg.Dir), pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	// The rest of the car's memory does not wait for it: what was wiped has made room, and the reset can be repeated.
	if cfg.Purge != nil {
		if purged := cfg.Purge(); purged != nil {
			defer func() { err = errors.Join(err, purged) }()
		}
	}
	if err := os.RemoveAll(store); err != nil {
		return err
	}
	if err := durable.SyncDir(cfg.Dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(cfg.Dir, marker)); err != nil {
		return err
	}
	return durable.SyncDir(cfg.Dir)
}

// overwrite puts zeros over a file, synced, where there is one.
func overwrite(path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(make([]byte, info.Size()), 0); err != nil {
		return err
	}
	return f.Sync()
}

// escape returns a directory as a pattern of itself alone.
func escape(dir string) (pattern string) {
	for _, r := range dir {
		switch r {
		case '*', '?', '[', '\\':
			pattern += `\`
		}
		pattern += string(r)
	}
	return pattern
}
