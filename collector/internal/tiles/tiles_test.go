package tiles

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
)

func entry(i uint64) []byte { return fmt.Appendf(nil, "entry %d", i) }

// serve writes a log of 300 and then 600 entries and serves it below /log/.
func serve(t *testing.T, c Config) (base, dir, verifier string) {
	t.Helper()
	secret, verifier, err := tlog.GenerateKey("log.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	l, err := tlog.Open(t.Context(), tlog.Config{Dir: dir, Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{300, 600} {
		var b [][]byte
		for i := l.Size(); i < size; i++ {
			b = append(b, entry(i))
		}
		if err := l.Append(t.Context(), l.Size(), b...); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c.Dir = dir
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/log/", http.StripPrefix("/log", h))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL + "/log/", dir, verifier
}

// TestClients reads and verifies the log with Tessera's own client and with package remote.
func TestClients(t *testing.T) {
	base, _, verifier := serve(t, Config{})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.NewHTTPFetcher(u, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(verifier)
	if err != nil {
		t.Fatal(err)
	}
	c, _, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, v, v.Name())
	if err != nil || c.Size != 600 {
		t.Fatalf("checkpoint %+v, %v", c, err)
	}
	b, err := client.NewProofBuilder(t.Context(), c.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []uint64{0, 299, 599} {
		bundle, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, i/256, c.Size)
		if err != nil {
			t.Fatal(err)
		}
		path, err := b.InclusionProof(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, c.Size, rfc6962.DefaultHasher.HashLeaf(bundle.Entries[i%256]), path, c.Hash); err != nil {
			t.Error(err)
		}
	}
	source, err := remote.New(remote.Config{URL: base})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := tlog.FirstOf(t.Context(), source); err != nil || string(first) != "entry 0" {
		t.Errorf("the first entry is %q, %v", first, err)
	}
	r, err := tlog.NewReader(t.Context(), source, verifier)
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for e, err := range r.Entries(t.Context()) {
		if err != nil || string(e) != string(entry(n)) {
			t.Fatalf("entry %d is %q, %v", n, e, err)
		}
		n++
	}
	if n != 600 {
		t.Errorf("%d entries, want 600", n)
	}
}

// TestPaths serves the log's public files, what the checkpoint does not cover is not there, and nothing else.
func TestPaths(t *testing.T) {
	base, dir, _ := serve(t, Config{})
	if err := os.WriteFile(filepath.Join(dir, "tile/entries/002.p/99"), []byte("not published"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tile/entries/002"), []byte("not published"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tile/1/000.p/3", "tile/2/000.p/1", "tile/entries/x000/000"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("not published"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if covered("tile/0/x072/x057/x594/x037/x927/936", 600) {
		t.Error("a tile beyond 64 bits is covered")
	}
	const forever, never = "public, max-age=31536000, immutable", "no-store"
	for _, c := range []struct {
		path   string
		status int
		cache  string
	}{
		{"checkpoint", 200, never},
		{"tile/0/000", 200, forever},
		{"tile/0/002.p/88", 200, forever},
		{"tile/1/000.p/2", 200, forever},
		{"tile/entries/001", 200, forever},
		{"tile/entries/002.p/88", 200, forever},
		{"tile/entries/002.p/99", 404, never},
		{"tile/entries/002", 404, never},
		{"tile/entries/002.p/", 404, never},
		{"tile/entries/002.p/088", 404, never},
		{"tile/entries/000.p/0", 404, never},
		{"tile/entries/0", 404, never},
		{"tile/entries/x000/000", 404, never},
		{"tile/1/000", 404, never},
		{"tile/1/000.p/3", 404, never},
		{"tile/2/000.p/1", 404, never},
		{"tile/2/000", 404, never},
		{"tile/00/000", 404, never},
		{"tile/8/000.p/1", 404, never},
		{"tile/0/x999/x999/x999/x999/x999/x999/999", 404, never},
		{"tile/0", 404, never},
		{"tile/", 404, never},
		{"", 404, never},
		{".state/treeState", 404, never},
		{".writer.lock", 404, never},
		{"tile/entries/..%2f..%2fcheckpoint", 404, never},
		{"tile/entries/000%00", 404, never},
		{"checkpoint/", 404, never},
	} {
		a, err := http.Get(base + c.path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(a.Body)
		a.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != c.status || a.Header.Get("Cache-Control") != c.cache {
			t.Errorf("%s: %s, %q", c.path, a.Status, a.Header.Get("Cache-Control"))
		}
		if c.status == 200 {
			want, err := os.ReadFile(filepath.Join(dir, c.path))
			if err != nil || string(b) != string(want) {
				t.Errorf("%s: %d bytes, %v", c.path, len(b), err)
			}
		} else if strings.Contains(string(b), "published") {
			t.Errorf("%s: shows what is not published", c.path)
		}
	}
	a, err := http.Post(base+"checkpoint", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("a post is answered %s", a.Status)
	}
	a, err = http.Head(base + "tile/0/000")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != 200 || a.ContentLength != 256*32 {
		t.Errorf("a head is answered %s, %d bytes", a.Status, a.ContentLength)
	}
}

// TestCheckpoint serves another checkpoint than the log's own, which says what tiles there are: a client of the older one is given full tiles
// in place of partial ones that are gone.
func TestCheckpoint(t *testing.T) {
	text, fail := "log.example\n300\nAAAA\n\n— x\n", error(nil)
	base, _, _ := serve(t, Config{Checkpoint: func(context.Context) ([]byte, error) { return []byte(text), fail }})
	status := func(path string) int {
		a, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		return a.StatusCode
	}
	if got := []int{status("tile/entries/000"), status("tile/entries/001.p/44"), status("tile/entries/001")}; got[0] != 200 || got[1] != 200 || got[2] != 200 {
		t.Errorf("under an older checkpoint: %v", got)
	}
	text = "log.example\n"
	if got := status("checkpoint"); got != http.StatusServiceUnavailable {
		t.Errorf("under a checkpoint without a size: %d", got)
	}
	fail = os.ErrNotExist
	if got := status("checkpoint"); got != http.StatusServiceUnavailable {
		t.Errorf("without a checkpoint: %d", got)
	}
	if got := status("tile/entries/000"); got != http.StatusOK {
		t.Errorf("a tile of the log while no checkpoint is served: %d", got)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a handler without a directory")
	}
}

func FuzzCovered(f *testing.F) {
	f.Add("tile/0/x001/234.p/8", uint64(1<<40))
	f.Add("tile/entries/000", uint64(256))
	f.Fuzz(func(t *testing.T, name string, size uint64) {
		if covered(name, size) && (strings.Contains(name, "..") || strings.HasPrefix(name, "/") || size == 0) {
			t.Errorf("%q is covered by %d entries", name, size)
		}
	})
}
