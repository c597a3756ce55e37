package blob

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// TestRefusedAnswers holds that nothing of an answer that is not the file remains.
func TestRefusedAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer        http.HandlerFunc
		outcome, want string
	}{
		"wrong bytes": {func(w http.ResponseWriter, _ *http.Request) { w.Write(text[1:]) }, outcomeWrong, "is another file"},
		"one bit": {func(w http.ResponseWriter, _ *http.Request) {
			b := bytes.Clone(text)
			b[len(b)-1] ^= 1
			w.Write(b)
		}, outcomeWrong, "is another file"},
		"shorter, and says so": {func(w http.ResponseWriter, _ *http.Request) { w.Write(text[:len(text)-1]) }, outcomeWrong, "is another file"},
		"nothing":              {func(http.ResponseWriter, *http.Request) {}, outcomeWrong, "0 bytes, is another file"},
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "160000")
			w.Write(text[:100_000])
			panic(http.ErrAbortHandler)
		}, outcomeTruncated, "broke off after"},
		"cut without a length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(text[:100_000])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, outcomeTruncated, "broke off after"},
		"too large, and says so": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1048577")
			w.Write(make([]byte, limit+1))
		}, outcomeLarge, "has 1048577 bytes, at most 1048576 allowed"},
		"too large in secret": {func(w http.ResponseWriter, _ *http.Request) {
			for range 64 {
				w.Write(make([]byte, limit/16))
				w.(http.Flusher).Flush()
			}
		}, outcomeLarge, "more than the 1048576 bytes allowed"},
		"login page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Write([]byte("<html>Welcome to Hotel Wi-Fi</html>"))
		}, outcomeWrong, "login page?"},
		"not there":  {http.NotFound, outcomeRefused, "the server answers 404"},
		"part of it": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPartialContent); w.Write(text) }, outcomeRefused, "answers 206"},
		"moved on the same host": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/x" {
				w.Write(text)
				return
			}
			http.Redirect(w, r, "/x", http.StatusFound)
		}, outcomeRefused, "points elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.answer)
			b, err := s.Get(t.Context(), hash, limit)
			if err == nil || len(b) != 0 || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "cannot fetch file "+hash.String()) {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if counted(s, c.outcome) != 1 || counted(s, outcomeStored) != 0 {
				t.Errorf("not counted as %s", c.outcome)
			}
			if names := files(t, s); len(names) != 0 {
				t.Errorf("left %v", names)
			}
			if n := testutil.ToFloat64(s.metrics.bytes); n > limit+1 {
				t.Errorf("read %.0f bytes", n)
			}
		})
	}
}

// TestRedirectLeavesTheHostAlone has another server that holds the right file.
func TestRedirectLeavesTheHostAlone(t *testing.T) {
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the other host was asked")
		w.Write(text)
	}))
	t.Cleanup(other.Close)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+r.URL.Path, http.StatusMovedPermanently)
	})
	if _, err := s.Get(t.Context(), hash, limit); err == nil {
		t.Error("followed")
	}
}

// TestWrongDownloadNeverReplacesAGoodFile downloads over a file that is right, as after a read that failed by chance.
func TestWrongDownloadNeverReplacesAGoodFile(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"wrong":     func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("another")) },
		"empty":     func(http.ResponseWriter, *http.Request) {},
		"large":     func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, limit+1)) },
		"truncated": func(w http.ResponseWriter, _ *http.Request) { w.Write(text[:100_000]); panic(http.ErrAbortHandler) },
	} {
		s := serve(t, answer)
		put(t, s, hash.String(), text)
		if err := s.fetch(t.Context(), hash, limit); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if b, err := s.Load(hash, limit); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%s: the good file is gone: %v", name, err)
		}
		if names := files(t, s); len(names) != 1 {
			t.Errorf("%s: %v", name, names)
		}
	}
}

// TestSlowServer holds that a download ends in time, whether nothing comes or a byte now and then.
func TestSlowServer(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a byte a second": func(w http.ResponseWriter, r *http.Request) {
			for i := 0; r.Context().Err() == nil; i++ {
				w.Write(text[i : i+1])
				w.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := piped(t, answer)
				start := time.Now()
				_, err := s.Get(t.Context(), hash, limit)
				if err == nil || !strings.Contains(err.Error(), "too slow: not done in 5m0s") || time.Since(start) != DefaultTimeout {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				if counted(s, outcomeSlow) != 1 || len(files(t, s)) != 0 {
					t.Errorf("left %v", files(t, s))
				}
			})
		})
	}
}

// TestFlashThatTakesNothing holds that a file which cannot be kept is not handed out either.
func TestFlashThatTakesNothing(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
	if err := os.Chmod(s.dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(s.dir, 0o700) })
	if f, err := os.Create(filepath.Join(s.dir, "x")); err == nil { // who runs this may write anywhere: take the directory away
		f.Close()
		os.RemoveAll(s.dir)
	}
	if b, err := s.Get(t.Context(), hash, limit); err == nil || b != nil || counted(s, outcomeUnkept) != 1 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestPlaceTaken holds that a rename which fails is told, and that nothing is left of it.
func TestPlaceTaken(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
	if err := os.MkdirAll(filepath.Join(s.dir, hash.String(), "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), hash, limit); err == nil || counted(s, outcomeUnkept) != 1 || len(files(t, s)) != 1 {
		t.Errorf("%v, left %v", err, files(t, s))
	}
}

func TestUntrustedServer(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
	for name, roots := range map[string]*tls.Config{"the system's roots": nil, "no roots": {RootCAs: x509.NewCertPool()}} {
		other := open(t, Config{URL: strings.TrimSuffix(s.base, "/v1/blobs/"), TLS: roots})
		if _, err := other.Get(t.Context(), hash, limit); err == nil || !strings.Contains(err.Error(), "certificate") || counted(other, outcomeUnreachable) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	old.StartTLS()
	t.Cleanup(old.Close)
	trust := old.Client().Transport.(*http.Transport).TLSClientConfig
	if _, err := open(t, Config{URL: old.URL, TLS: trust}).Get(t.Context(), hash, limit); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", err)
	}
}

// TestNameIsGivenLast cannot see the power go; it holds that the copy is whole before it has its name.
func TestNameIsGivenLast(t *testing.T) {
	s := open(t, Config{URL: "https://127.0.0.1:1"})
	body := io.MultiReader(bytes.NewReader(text[:1000]), readerFunc(func([]byte) (int, error) {
		for _, name := range files(t, s) {
			if !strings.HasSuffix(name, tempSuffix) {
				t.Errorf("%s is there before its end is", name)
			}
		}
		return 0, io.EOF
	}), bytes.NewReader(text[1000:]))
	if outcome, err := s.store(body, hash, limit, false); err != nil {
		t.Errorf("%s: %v", outcome, err)
	}
}
