// Package admin lets commands on the same machine reach a running collector: HTTP over a Unix socket in the state directory.
//
// Who may open the socket may do what it offers: its mode is 0600, from its first moment on, so that it is the collector's own user and the
// superuser. It says nothing that needs a password and listens on no network. It offers the dead letters, to list and to replay, and
// nothing else.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"rawstone/collector/internal/deadletter"
)

const (
	// SocketFile is the socket's name in the state directory.
	SocketFile = "admin.sock"

	lettersPath = "/v1/dead-letters"
	replayPath  = "/v1/dead-letters/replay"

	maxPath     = 107 // of a Unix socket, in bytes: unix(7)
	connections = 16
	patience    = 30 * time.Second // for one request
	shutdown    = 5 * time.Second
)

// Letters are the dead letters: deadletter.Box.
type Letters interface {
	// List returns letters after a number, at most deadletter.MaxPage.
	List(ctx context.Context, after uint64) ([]deadletter.Letter, error)
	// Replay puts one back into its queue.
	Replay(ctx context.Context, seq uint64) error
}

// Config says what to serve where; every field is required.
type Config struct {
	// Path is the socket's, in a directory that exists.
	Path    string
	Letters Letters
	Logger  *slog.Logger
}

// A Desk is the socket. Nobody is answered until Run.
type Desk struct {
	path   string
	listen net.Listener
	server *http.Server
}

// Open makes the socket. It replaces one that a crash has left and refuses one that another collector serves.
func Open(cfg Config) (*Desk, error) {
	if cfg.Path == "" || cfg.Letters == nil || cfg.Logger == nil {
		return nil, errors.New("cannot serve commands: no socket, dead letters or logger given")
	}
	l, err := listen(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot serve commands: %w", err)
	}
	h := handler{cfg.Letters}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+lettersPath, h.list)
	mux.HandleFunc("POST "+replayPath, h.replay)
	return &Desk{path: cfg.Path, listen: netutil.LimitListener(l, connections), server: &http.Server{
		Handler: http.TimeoutHandler(mux, patience, "the collector is busy: try again"), ReadTimeout: patience, WriteTimeout: 2 * patience,
		MaxHeaderBytes: 4 << 10, ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}}, nil
}

// listen makes the socket in a directory that nobody else may enter, and moves it to its place when it has its mode.
func listen(path string) (_ net.Listener, err error) {
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("another collector serves %s: stop it, or give this one a state_dir of its own", path), c.Close())
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".admin")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	private := filepath.Join(dir, "s")
	if max(len(private), len(path)) > maxPath {
		return nil, fmt.Errorf("the path %s is too long for a socket, at most %d bytes: choose a shorter state_dir", path, maxPath)
	}
	l, err := net.Listen("unix", private)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Run answers until ctx ends, and then what is under way for a moment longer.
func (d *Desk) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(d.listen) }()
	select {
	case err := <-served:
		return fmt.Errorf("cannot serve commands: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
	defer cancel()
	err := d.server.Shutdown(stop)
	if err != nil {
		err = d.server.Close()
	}
	<-served
	return err
}

// Close removes the socket.
func (d *Desk) Close() error {
	err := d.listen.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if e := os.Remove(d.path); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

type handler struct{ letters Letters }

func (h handler) list(w http.ResponseWriter, r *http.Request) {
	after, err := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64)
	if err != nil {
		http.Error(w, "after is not a number", http.StatusBadRequest)
		return
	}
	page, err := h.letters.List(r.Context(), after)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page) // who asked may have gone
}

func (h handler) replay(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.ParseUint(r.URL.Query().Get("seq"), 10, 64)
	if err != nil {
		http.Error(w, "seq is not a number", http.StatusBadRequest)
		return
	}
	switch err := h.letters.Replay(r.Context(), seq); {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, deadletter.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, deadletter.ErrPart), errors.Is(err, deadletter.ErrSubject):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// unreachable says why no collector answers, and what to do.
func unreachable(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("no collector runs on this state_dir: start it with `collector serve`, and give this command the same configuration")
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may only be opened by the user that the collector runs as: run this command as that user", path)
	}
	return err
}
