package control

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/privacy"
)

// desk notes what it is asked.
type desk struct {
	asked []string
	fail  error
}

func (d *desk) view(asked string) (consent.View, error) {
	d.asked = append(d.asked, asked)
	return consent.View{Families: []consent.Option{{Name: asked}}, Cadence: consent.Daily}, d.fail
}

func (d *desk) Consent(context.Context) (consent.View, error) { return d.view("consent") }

func (d *desk) Turn(_ context.Context, name string, on bool) (consent.View, error) {
	if on {
		name += " on"
	}
	return d.view(name)
}

func (d *desk) SetCadence(_ context.Context, name string) (consent.View, error) { return d.view(name) }

func (d *desk) Privacy(context.Context) (privacy.Statement, error) {
	return privacy.Statement{Ledger: privacy.StateSound, Spent: 1.5, Releases: []privacy.Release{{Day: 7}}}, d.fail
}

// serve serves d in dir until the test ends or stop is called.
func serve(t *testing.T, dir string, d Desk) (stop func()) {
	t.Helper()
	s, err := Listen(dir, d, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRemoteDesk: what is asked over the socket is what the desk is asked, whatever the length of the directory's name.
func TestRemoteDesk(t *testing.T) {
	for name, dir := range map[string]string{"short": t.TempDir(), "long": filepath.Join(t.TempDir(), strings.Repeat("x", 200))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: nobody listens: %v", name, err)
		}
		d := new(desk)
		stop := serve(t, dir, d)
		info, err := os.Stat(filepath.Join(dir, Name))
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		c, ctx := dial(t, dir), t.Context()
		ask := func(want string) func(v consent.View, err error) {
			return func(v consent.View, err error) {
				if err != nil || len(v.Families) != 1 || v.Families[0].Name != want || v.Cadence != consent.Daily {
					t.Errorf("%s, %s: %+v, %v", name, want, v, err)
				}
			}
		}
		ask("consent")(c.Consent(ctx))
		ask("hours on")(c.Turn(ctx, "hours", true))
		ask("feature/x")(c.Turn(ctx, "feature/x", false))
		ask("monthly")(c.SetCadence(ctx, "monthly"))
		s, err := c.Privacy(ctx)
		if err != nil || s.Spent != 1.5 || len(s.Releases) != 1 || s.Releases[0].Day != 7 {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
		if d := cmp.Diff([]string{"consent", "hours on", "feature/x", "monthly"}, d.asked); d != "" {
			t.Error(d)
		}
		d.fail = errors.New("cannot turn on x: the charter does not allow it")
		if _, err := c.Turn(ctx, "x", true); err == nil || err.Error() != d.fail.Error() {
			t.Errorf("%s: the desk's sentence came as %v", name, err)
		}
		stop()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%s: left %v, %v", name, entries, err)
		}
		if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: after the end: %v", name, err)
		}
	}
}

// TestKilledAgent: the socket of an agent that was killed counts as none and is replaced.
func TestKilledAgent(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, Name), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.Mkdir(filepath.Join(dir, tempName), 0o700); err != nil { // it was killed while it made one
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	serve(t, dir, new(desk))
	if _, err := dial(t, dir).Consent(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBounds: what is no command is refused and reaches nobody.
func TestBounds(t *testing.T) {
	dir, d := t.TempDir(), new(desk)
	serve(t, dir, d)
	c := dial(t, dir)
	for name, err := range map[string]error{
		"long":        c.ask(t.Context(), "POST", consentPath, turnRequest{Name: strings.Repeat("x", maxRequest)}, nil),
		"unknown key": c.ask(t.Context(), "POST", consentPath, map[string]any{"name": "hours", "off": true}, nil),
		"no JSON":     c.ask(t.Context(), "POST", cadencePath, "daily", nil),
		"method":      c.ask(t.Context(), "DELETE", consentPath, nil, nil),
		"path":        c.ask(t.Context(), "GET", "/v1/reset", nil, nil),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if len(d.asked) != 0 {
		t.Errorf("asked %v", d.asked)
	}
	if _, err := Listen(filepath.Join(dir, "none"), d, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("listens in a directory that is not there")
	}
	if _, err := Listen(dir, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("listens for nobody")
	}
}
