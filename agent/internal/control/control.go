// Package control is the way from the driver's commands to the agent that runs: a Unix socket in the state directory, over which they read
// and change what the driver has decided and read the account of the privacy budget.
//
// Invariants: only the user whom the agent runs as reaches the socket (mode 0600, from its first moment); what comes over it is bounded; and
// what a command does to a running agent is what it does without one, by the same Desk.
//
// The package refuses every other request and decides nothing itself.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/privacy"
)

const (
	// Name is the socket's in the state directory.
	Name = "control.sock"
	// tempName is a directory in which the socket is made before it is reached by its name.
	tempName = "control.new"
	// maxPath is the longest path of a socket in bytes (unix(7): 108 with the zero at its end).
	maxPath = 107
	// maxRequest and maxAnswer bound a request and an answer in bytes: a year of daily reports is some 150 KiB.
	maxRequest = 1 << 10
	maxAnswer  = 4 << 20
	timeout    = 30 * time.Second
	// shutdownWait bounds the wait for answers still being written when the agent stops.
	shutdownWait = 2 * time.Second
)

// A Desk takes the driver's decisions. The running agent's and the one that opens the stores of an agent that does not run are package
// driver's; a Client is another's, behind the socket.
type Desk interface {
	// Consent returns what is on and what could be.
	Consent(ctx context.Context) (consent.View, error)
	// Turn turns a family or a kind on or off, SetCadence decides how often the car speaks; both return what holds from now on.
	Turn(ctx context.Context, name string, on bool) (consent.View, error)
	SetCadence(ctx context.Context, name string) (consent.View, error)
	// Privacy returns the account of the privacy budget.
	Privacy(ctx context.Context) (privacy.Statement, error)
}

// ErrNotRunning says that no agent answers at the state directory.
var ErrNotRunning = errors.New("no agent runs")

// A Server answers for a Desk.
type Server struct {
	desk     Desk
	log      *slog.Logger
	listener net.Listener
	path     string
}

// Listen makes the socket in dir, the state directory of this agent alone; what an agent left there that was killed is replaced.
func Listen(dir string, desk Desk, logger *slog.Logger) (*Server, error) {
	if desk == nil || logger == nil {
		return nil, errors.New("cannot listen for commands: no desk or logger given")
	}
	s := &Server{desk: desk, log: logger, path: filepath.Join(dir, Name)}
	if err := s.listen(dir); err != nil {
		return nil, fmt.Errorf("cannot listen for commands: %w", err)
	}
	return s, nil
}

func (s *Server) listen(dir string) error {
	temp := filepath.Join(dir, tempName)
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(temp) // empty by then, or this very socket
	made := filepath.Join(temp, Name)
	err := reach(made, func(path string) (err error) {
		s.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return err
	}
	s.listener.(*net.UnixListener).SetUnlinkOnClose(false) // it would go by the name that it was made under
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, s.path)
	}
	if err != nil {
		return errors.Join(err, s.listener.Close())
	}
	return nil
}

// reach calls f with a name of the socket that is short enough to be an address.
func reach(path string, f func(path string) error) error {
	if len(path) <= maxPath {
		return f(path)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(f(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path))), d.Close())
}

// Close removes the socket.
func (s *Server) Close() error {
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) { // by Serve
		err = nil
	}
	if gone := os.Remove(s.path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// Serve answers until ctx is done, which is no error.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler: s.handler(), ReadTimeout: timeout, WriteTimeout: timeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("cannot take commands: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownWait)
	defer cancel()
	err := server.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-failed // Serve has returned
	if err != nil {
		return fmt.Errorf("cannot stop taking commands: %w", err)
	}
	return nil
}

// turnRequest and cadenceRequest are the bodies of the two requests that change something.
type (
	turnRequest struct {
		Name string `json:"name"`
		On   bool   `json:"on"`
	}
	cadenceRequest struct {
		Cadence string `json:"cadence"`
	}
)

const (
	consentPath = "/v1/consent"
	cadencePath = "/v1/cadence"
	privacyPath = "/v1/privacy"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+consentPath, func(w http.ResponseWriter, r *http.Request) {
		v, err := s.desk.Consent(r.Context())
		s.answer(w, v, err)
	})
	mux.HandleFunc("POST "+consentPath, func(w http.ResponseWriter, r *http.Request) {
		var req turnRequest
		if s.read(w, r, &req) {
			v, err := s.desk.Turn(r.Context(), req.Name, req.On)
			s.answer(w, v, err)
		}
	})
	mux.HandleFunc("POST "+cadencePath, func(w http.ResponseWriter, r *http.Request) {
		var req cadenceRequest
		if s.read(w, r, &req) {
			v, err := s.desk.SetCadence(r.Context(), req.Cadence)
			s.answer(w, v, err)
		}
	})
	mux.HandleFunc("GET "+privacyPath, func(w http.ResponseWriter, r *http.Request) {
		v, err := s.desk.Privacy(r.Context())
		s.answer(w, v, err)
	})
	return mux
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		http.Error(w, "cannot read command: "+err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func (s *Server) answer(w http.ResponseWriter, v any, err error) {
	var b []byte
	if err == nil {
		b, err = json.Marshal(v)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(b); err != nil {
		s.log.Debug("answer to a command is not delivered", "error", err)
	}
}

// A Client is the Desk of the agent that runs at a state directory.
type Client struct{ http *http.Client }

// Dial returns the client of the agent that runs at dir. The error wraps ErrNotRunning where none does.
func Dial(ctx context.Context, dir string) (*Client, error) {
	dial := func(ctx context.Context) (conn net.Conn, err error) {
		err = reach(filepath.Join(dir, Name), func(path string) error {
			conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
			return err
		})
		return conn, err
	}
	conn, err := dial(ctx)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // none yet, or one that was killed
		return nil, fmt.Errorf("cannot reach the agent: %w: %w", ErrNotRunning, err)
	case err != nil:
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("cannot reach the agent: %w", err)
	}
	return &Client{&http.Client{Timeout: timeout, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}}, nil
}

// Consent implements Desk.
func (c *Client) Consent(ctx context.Context) (v consent.View, err error) {
	err = c.ask(ctx, http.MethodGet, consentPath, nil, &v)
	return v, err
}

// Turn implements Desk.
func (c *Client) Turn(ctx context.Context, name string, on bool) (v consent.View, err error) {
	err = c.ask(ctx, http.MethodPost, consentPath, turnRequest{name, on}, &v)
	return v, err
}

// SetCadence implements Desk.
func (c *Client) SetCadence(ctx context.Context, cadence string) (v consent.View, err error) {
	err = c.ask(ctx, http.MethodPost, cadencePath, cadenceRequest{cadence}, &v)
	return v, err
}

// Privacy implements Desk.
func (c *Client) Privacy(ctx context.Context) (v privacy.Statement, err error) {
	err = c.ask(ctx, http.MethodGet, privacyPath, nil, &v)
	return v, err
}

func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(b))) // the desk's own sentence
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("cannot read the agent's answer: %w", err)
	}
	return nil
}
