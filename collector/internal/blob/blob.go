// Package blob serves the files of a claim setup by their SHA-256 under Path: the lock, the circuit and both keys, which a policy names by
// these hashes. What a hash names never changes, and so answers may be kept for good.
//
// The files are read once, each within a bound, and checked against the lock; nothing is read while it runs, and nothing of a request
// reaches a file's name. The package refuses everything but GET and HEAD of a hash that it holds, spelled in lower case.
package blob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// Path is where files are served, followed by the SHA-256 in lower-case hexadecimal.
const Path = "/v1/blobs/"

// cacheControl says that the answer stays true (RFC 8246), for a year, the most that caches are used to (RFC 9111 §5.2.2.1).
const cacheControl = "public, max-age=31536000, immutable"

// Config says what to serve.
type Config struct {
	// Dir is the directory of a setup. Required.
	Dir string
	// Lock names its files. Required.
	Lock claim.Lock
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Handler serves the files. It implements http.Handler for every path.
type Handler struct {
	files    map[string][]byte // by hash in hexadecimal
	requests *prometheus.CounterVec
	bytes    prometheus.Counter
}

// New reads the files of a setup and checks that they are those of its lock.
func New(cfg Config) (*Handler, error) {
	h := &Handler{
		files: make(map[string][]byte),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_blob_requests_total", Help: "Requests for files of the claim setup, by status.",
		}, []string{"status"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_blob_sent_bytes_total", Help: "Bytes of answers to requests for files of the claim setup.",
		}),
	}
	for _, f := range []struct {
		name string
		hash wire.Hash
		most int64
	}{
		{"lock.json", cfg.Lock.ID(), claim.MaxLockLen}, {"circuit.cs", cfg.Lock.Circuit, claim.MaxFileLen},
		{"proving.key", cfg.Lock.ProvingKey, claim.MaxFileLen}, {"verifying.key", cfg.Lock.VerifyingKey, claim.MaxFileLen},
	} {
		b, err := read(filepath.Join(cfg.Dir, f.name), f.most)
		if err != nil {
			return nil, err
		}
		if wire.ID(b) != f.hash {
			return nil, fmt.Errorf("cannot serve %s: its SHA-256 is not the one of the lock in use: restore the setup's original files", filepath.Join(cfg.Dir, f.name))
		}
		h.files[f.hash.String()] = b
	}
	if cfg.Registerer != nil {
		if err := errors.Join(cfg.Registerer.Register(h.requests), cfg.Registerer.Register(h.bytes)); err != nil {
			return nil, fmt.Errorf("cannot serve files of the claim setup: %w", err)
		}
	}
	return h, nil
}

func read(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot serve file of the claim setup: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("cannot serve file of the claim setup: %w", err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("cannot serve %s: more than %d bytes; is it the right file?", path, most)
	}
	return b, nil
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, status: http.StatusOK}
	h.serve(a, r)
	h.requests.WithLabelValues(strconv.Itoa(a.status)).Inc()
	h.bytes.Add(float64(a.bytes))
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		problem(w, http.StatusMethodNotAllowed, "only GET and HEAD are served")
		return
	}
	// EscapedPath has one spelling for each name: an escaped one is not a hash's.
	hash, ok := cut(r.URL.EscapedPath())
	file, found := h.files[hash]
	if !ok || !found || r.URL.RawQuery != "" {
		problem(w, http.StatusNotFound, "no file has this name: ask for "+Path+" and the 64 lower-case hexadecimal digits of the SHA-256 that a policy or its lock names")
		return
	}
	header.Set("Content-Type", "application/octet-stream")
	header.Set("ETag", `"`+hash+`"`)
	header.Set("Cache-Control", cacheControl)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
}

func cut(path string) (hash string, ok bool) {
	if len(path) != len(Path)+2*len(wire.Hash{}) || path[:len(Path)] != Path {
		return "", false
	}
	return path[len(Path):], true
}

// problem answers with problem details (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
	if err != nil {
		panic("blob: " + err.Error()) // strings and a number: unreachable
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body) // whoever does not read it has gone
}

// An answer notes what it is, and puts problem details in the place of net/http's text about a range that cannot be had.
type answer struct {
	http.ResponseWriter
	status   int
	bytes    int
	replaced bool
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	if status == http.StatusRequestedRangeNotSatisfiable {
		problem(a.ResponseWriter, status, "the file ends before the range begins: ask for a part of it or for the whole")
		a.replaced = true
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.replaced {
		return len(b), nil
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += n
	return n, err
}
