package drive

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pipe makes a pipe that nobody writes to.
func pipe(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	return path
}

func TestRefuses(t *testing.T) {
	good := capture(t, journey)
	for url, want := range map[string]string{
		"replay://" + good + "?speed=-1":         `speed "-1"`,
		"replay://" + good + "?speed=NaN":        `speed "NaN"`,
		"replay://" + good + "?speed=1e-300":     "nor within 0.01 to 1000", // whose pauses no clock can count
		"replay://" + good + "?speed=Inf":        `speed "Inf"`,
		"replay:///dev/zero":                     "no regular file",
		"replay://" + filepath.Dir(good):         "no regular file",
		"replay://" + pipe(t):                    "no regular file",
		"replay://" + good + "?speed=1001":       "within 0.01 to 1000",
		"replay://" + good + "?speed=x":          `speed "x"`,
		"replay://" + good + "?speed=1&speed=2":  "stands twice",
		"replay://" + good + "?loop=often":       "true or false",
		"replay://" + good + "?pace=1":           `no option "pace"`,
		"replay://" + good + "?%zz":              "options cannot be read",
		"replay://" + good[1:]:                   "names no file",
		"replay:" + good[1:]:                     "names no file",
		"replay:///":                             "names no file",
		"replay://" + good + "x":                 "no such file",
		"replay://" + capture(t, ""):             "holds no frames",
		"replay://" + capture(t, "hi\n"):         "record with `candump -L`",
		"replay://" + capture(t, "\x1f\x8b\x08"): "cannot unpack",
	} {
		d, err := Open(url, slog.New(slog.DiscardHandler), time.Now)
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := Check("replay:///x%20y?speed=0.5&loop=1"); err != nil {
		t.Error(err)
	}
}
