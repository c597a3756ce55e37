package capture

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"rawstone/pkg/can"
)

const log = "(007.250) can0 123#00\n(008.5) can1 456#01\n"

func packed(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := io.WriteString(z, log); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestOpen: plain or gzip, file or stream, whatever a file is called.
func TestOpen(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"plain.gz": []byte(log), "packed.log": packed(t)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{path, "-"} {
			r, err := Open(t.Context(), from, bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var f can.Frame
			n := 0
			for err = r.Next(&f); err == nil; err = r.Next(&f) {
				n++
			}
			if err != io.EOF || n != 2 || r.Spelling != (Spelling{3, 3}) {
				t.Errorf("%s from %s: %d frames, %v, %v", name, from, n, err, r.Spelling)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if from == path && r.Close() == nil {
				t.Error("the file was open still")
			}
		}
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte{0x1f, 0x8b, 9}, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"-":                        "cannot read capture: there is no standard input",
		filepath.Join(dir, "none"): "cannot open capture: open " + dir,
		dir:                        "cannot read capture " + dir,
		bad:                        "cannot unpack capture " + bad,
	} {
		if r, err := Open(t.Context(), path, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, %v", path, r, err)
		}
	}
}

// TestLive: a line is delivered when it came and not when the next did, and the end of the context ends the wait for one.
func TestLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		src, bus := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go io.WriteString(bus, "(07.25) can0 123#00\n")
		r, err := Open(ctx, "-", src)
		if err != nil {
			t.Fatal(err)
		}
		var f can.Frame
		if err := r.Next(&f); err != nil || f.Time != 7_250_000_000 || r.Spelling != (Spelling{2, 2}) {
			t.Errorf("%v, %d, %v", err, f.Time, r.Spelling)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.Next(&f) }()
		synctest.Wait() // for a bus where nobody speaks
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		bus.Close() // ends the read that was left
	})
}
