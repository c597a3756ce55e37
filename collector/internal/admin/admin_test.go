package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/deadletter"
)

// letters is as many as are asked for, by number from 1.
type letters struct {
	n        uint64
	replayed []uint64
	err      error
}

func (l *letters) List(_ context.Context, after uint64) (page []deadletter.Letter, _ error) {
	for seq := after + 1; seq <= l.n && len(page) < deadletter.MaxPage; seq++ {
		page = append(page, deadletter.Letter{Seq: seq, Reason: deadletter.Undecided, Subject: "s", Body: []byte("secret")})
	}
	return page, l.err
}

func (l *letters) Replay(_ context.Context, seq uint64) error {
	l.replayed = append(l.replayed, seq)
	if l.err != nil {
		return fmt.Errorf("cannot replay dead letter %d: %w", seq, l.err)
	}
	return nil
}

func config(path string, l Letters) Config {
	return Config{Path: path, Letters: l, Logger: slog.New(slog.DiscardHandler)}
}

// serve answers until the test ends or stop is called.
func serve(t *testing.T, path string, l Letters) (stop func()) {
	t.Helper()
	d, err := Open(config(path, l))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = func() {
		cancel()
		if err := errors.Join(<-done, d.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}
	return stop
}

func TestClientReachesTheCollector(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketFile)
	l := &letters{n: 2*deadletter.MaxPage + 3}
	stop := serve(t, path, l)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	c := Dial(path)
	all, err := c.Letters(t.Context())
	if err != nil || uint64(len(all)) != l.n || all[len(all)-1].Seq != l.n || all[0].Body != nil {
		t.Errorf("%d letters, %v", len(all), err)
	}
	if err := c.Replay(t.Context(), 7); err != nil {
		t.Error(err)
	}
	for cause, skip := range map[error]bool{
		deadletter.ErrNotFound: true, deadletter.ErrPart: true, deadletter.ErrSubject: true, errors.New("queue is full"): false,
	} {
		l.err = cause
		var refusal *Refusal
		if err := c.Replay(t.Context(), 8); !errors.As(err, &refusal) || refusal.Skip != skip || err.Error() != "cannot replay dead letter 8: "+cause.Error() {
			t.Errorf("%v: %v", cause, err)
		}
	}
	if _, err := c.Letters(t.Context()); err == nil || !strings.Contains(err.Error(), "queue is full") && !strings.Contains(err.Error(), l.err.Error()) {
		t.Errorf("a list that fails: %v", err)
	}
	if d := cmp.Diff([]uint64{7, 8, 8, 8, 8}, l.replayed); d != "" {
		t.Error(d)
	}
	var refusal *Refusal
	for _, path := range []string{lettersPath, lettersPath + "?after=x", "/", replayPath + "?seq=1"} {
		if err := c.ask(t.Context(), "GET", path, nil); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := c.ask(t.Context(), "POST", replayPath+"?seq=-1", nil); !errors.As(err, &refusal) {
		t.Error(err)
	}
	stop()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 0 {
		t.Errorf("%v stay behind, %v", entries, err)
	}
}

func TestNoCollector(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketFile)
	for _, crashed := range []bool{false, true} {
		if crashed { // its socket stays, and nobody listens
			s, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			s.(*net.UnixListener).SetUnlinkOnClose(false)
			s.Close()
		}
		_, err := Dial(path).Letters(t.Context())
		if again := Dial(path).Replay(t.Context(), 3); err == nil || again == nil ||
			!strings.HasSuffix(err.Error(), "the same configuration") || !strings.HasPrefix(again.Error(), "cannot replay dead letter 3: no collector runs") {
			t.Errorf("%v, %v", err, again)
		}
	}
	// The next collector takes the place.
	defer serve(t, path, &letters{n: 1})()
	if all, err := Dial(path).Letters(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := Open(config(path, &letters{})); err == nil || !strings.Contains(err.Error(), "another collector serves "+path) {
		t.Errorf("a second collector: %v", err)
	}
}

func TestRefusesWhatCannotBe(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", maxPath))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]Config{
		"choose a shorter state_dir": config(filepath.Join(long, SocketFile), &letters{}),
		"no such file":               config(filepath.Join(t.TempDir(), "none", SocketFile), &letters{}),
		"given":                      {},
	} {
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if entries, err := os.ReadDir(long); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
