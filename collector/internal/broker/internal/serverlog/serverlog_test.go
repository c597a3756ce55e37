package serverlog

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	handshakes, full := 0, 0
	l := New(Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), Handshake: func() { handshakes++ }, Full: func() { full++ }})
	l.Warnf("%s", fmt.Sprintf(`127.0.0.1:1 - mid:5 - %q - publish to "x" on rawstone.v1.SECRET1.claim, rawstone/v1/SECRET1/claim`, "SECRET1"))
	if s := out.String(); strings.Contains(s, "SECRET1") || !strings.Contains(s, "publish to") || !strings.Contains(l.Last(), "publish to") {
		t.Errorf("logged %s", s)
	}
	said := out.Len()
	l.Errorf("127.0.0.1:1 - mid:6 - TLS handshake error: EOF")
	l.Errorf("127.0.0.1:1 - mid:7 - maximum connections exceeded")
	l.Errorf("127.0.0.1:1 - mid:8 - authentication error")
	l.Noticef("chatter")
	const late = "127.0.0.1:1 - mid:9 - unable to connect: server is not running"
	l.Closing()
	l.Errorf(late)
	if handshakes != 1 || full != 1 || out.Len() != said {
		t.Errorf("%d handshakes, %d without room, logged %s", handshakes, full, out.String())
	}
}
