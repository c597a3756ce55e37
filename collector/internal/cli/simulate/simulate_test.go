package simulate

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestBar draws the line that a terminal shows, and draws it no more often than anybody can read.
func TestBar(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	b := &bar{w: &out, now: func() time.Time { return now }, start: now}
	now = now.Add(10 * time.Second)
	b.show(1, 4)
	now = now.Add(time.Millisecond)
	b.show(2, 4)
	b.show(4, 4)
	b.end()
	want := "\r[#######.......................]  25 %  day 1 of 4  30s left\x1b[K" +
		"\r[##############################] 100 %  day 4 of 4  0s left\x1b[K\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	if b := newBar(&out, time.Now); b != nil {
		t.Error("a buffer is taken for a terminal")
	}
	(*bar)(nil).end()
	if !strings.HasSuffix(out.String(), "\n") {
		t.Error("the line is not left")
	}
}
