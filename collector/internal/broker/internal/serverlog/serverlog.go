// Package serverlog passes the warnings and errors of a nats-server on, without the names of vehicles that they quote, and drops its
// chatter. What the server says of refused clients is counted by whoever asked for it rather than repeated here.
package serverlog

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where the words go; every field is required.
type Config struct {
	Logger *slog.Logger
	// Handshake is called when a client's TLS handshake failed, Full when a client found no room. They are called from several goroutines.
	Handshake, Full func()
}

// A Log is a server.Logger. It may be used from several goroutines.
type Log struct {
	cfg   Config
	names *regexp.Regexp

	mu      sync.Mutex
	last    string
	closing bool
	dead    bool
	fatal   chan struct{}
}

// New returns a log.
func New(cfg Config) *Log {
	return &Log{cfg: cfg, fatal: make(chan struct{}), names: regexp.MustCompile(`"[^"]*"|rawstone[./]v1[./][^ ./"]*`)}
}

func (l *Log) problem(level slog.Level, msg, format string, args []any) {
	detail := l.names.ReplaceAllString(fmt.Sprintf(format, args...), "...")
	switch {
	case strings.HasSuffix(detail, server.ErrAuthentication.Error()):
		return // the authenticator says why, and less often
	case strings.Contains(detail, "TLS handshake error"):
		l.cfg.Handshake()
		return
	case strings.HasSuffix(detail, server.ErrTooManyConnections.Error()):
		l.cfg.Full()
		return
	}
	l.mu.Lock()
	l.last = detail
	expected := l.closing && strings.HasSuffix(detail, server.ErrServerNotRunning.Error())
	l.mu.Unlock()
	if expected {
		return
	}
	l.cfg.Logger.Log(context.Background(), level, msg, "detail", detail)
}

// Closing says that the server is about to be stopped: that it is not running any more is no error from here on.
func (l *Log) Closing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = true
}

// Last returns the last warning or error that was passed on.
func (l *Log) Last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Warnf implements server.Logger.
func (l *Log) Warnf(format string, v ...any) {
	l.problem(slog.LevelWarn, "broker warning", format, v)
}

// Errorf implements server.Logger.
func (l *Log) Errorf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
}

// Fatalf is what the server calls where it cannot go on: see Fatal.
func (l *Log) Fatalf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		l.dead = true
		close(l.fatal)
	}
}

// Fatal is closed when the server cannot go on; Last says why.
func (l *Log) Fatal() <-chan struct{} { return l.fatal }

// Noticef implements server.Logger.
func (*Log) Noticef(string, ...any) {}

// Debugf implements server.Logger.
func (*Log) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (*Log) Tracef(string, ...any) {}
