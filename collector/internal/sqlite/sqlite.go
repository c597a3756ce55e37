// Package sqlite does to the file of an SQLite database what is done around transactions: it makes, opens, copies and locks it.
//
// What it makes only its owner can read.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"modernc.org/sqlite" // with the driver "sqlite"
)

const (
	lockPause      = 50 * time.Millisecond // between attempts at a lock
	backupPatience = 5 * time.Second
)

// Busy reports whether an error says that another connection writes, or that the context ended while it did.
func Busy(err error) bool {
	const busy, interrupt = 5, 9 // https://sqlite.org/rescode.html
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	code := e.Code() & 0xff // the rest says more
	return code == busy || code == interrupt
}

// Create makes a database's file and its directory when they are missing, and returns the file's absolute path.
func Create(path string) (_ string, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	// SQLite would make the file readable for everybody.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return path, nil
}

// Open opens a database whose transactions begin as lock says, "immediate" or "deferred", with one more pragma. Writers wait for others for
// the time busy.
func Open(path string, busy time.Duration, lock, pragma string) (*sql.DB, error) {
	return sql.Open("sqlite", dsn(path, busy, lock, pragma))
}

func dsn(path string, busy time.Duration, lock, pragma string) string {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()), pragma, "synchronous(FULL)", "foreign_keys(1)",
		"secure_delete(1)", // what is erased is overwritten in the file
	}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// Backup copies a database, as one reader sees it, to a file that must not exist, readable by its owner alone.
func Backup(ctx context.Context, database, path string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	db, err := Open(database, backupPatience, "deferred", "journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, path); err != nil {
		return err
	}
	return f.Sync()
}

// Lock waits until nobody else has locked a directory, or a file, which is made when it is missing. The kernel unlocks it when the process
// dies.
func Lock(ctx context.Context, path string) (release func() error, err error) {
	flag := os.O_CREATE | os.O_RDWR
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(lockPause):
		}
	}
}
