package blob

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// setup writes files that look like a setup's and returns their lock. Nothing here reads what is in them.
func setup(t *testing.T) (dir string, lock claim.Lock, files map[wire.Hash][]byte) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "claim")
	f := claim.Files{Circuit: []byte("circuit"), ProvingKey: bytes.Repeat([]byte("proving "), 100_000), VerifyingKey: []byte("verifying")}
	lock, err := f.Write(dir, wire.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	return dir, lock, map[wire.Hash][]byte{lock.ID(): text, lock.Circuit: f.Circuit, lock.ProvingKey: f.ProvingKey, lock.VerifyingKey: f.VerifyingKey}
}

// serve serves a setup through net/http, as it is used.
func serve(t *testing.T) (s *httptest.Server, lock claim.Lock, files map[wire.Hash][]byte, metrics *prometheus.Registry) {
	t.Helper()
	dir, lock, files := setup(t)
	metrics = prometheus.NewRegistry()
	h, err := New(Config{Dir: dir, Lock: lock, Registerer: metrics})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil { // nothing is read from now on
		t.Fatal(err)
	}
	s = httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s, lock, files, metrics
}

func do(t *testing.T, s *httptest.Server, method, path string, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(req) // which follows nothing
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s %s: without nosniff", method, path)
	}
	return answer, body
}

// refused checks that an answer is a problem of RFC 9457 that nobody may keep.
func refused(t *testing.T, name string, answer *http.Response, body []byte, status int) {
	t.Helper()
	if answer.StatusCode != status {
		t.Errorf("%s: %s, want %d", name, answer.Status, status)
		return
	}
	h := answer.Header
	if h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "" {
		t.Errorf("%s: headers %v", name, h)
	}
	if answer.Request.Method == http.MethodHead {
		return
	}
	var problem struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Status != status || problem.Title == "" || problem.Detail == "" {
		t.Errorf("%s: %s (%v)", name, body, err)
	}
}

func TestServes(t *testing.T) {
	s, _, files, metrics := serve(t)
	sent := 0
	for hash, want := range files {
		answer, body := do(t, s, http.MethodGet, Path+hash.String())
		if answer.StatusCode != http.StatusOK || !bytes.Equal(body, want) {
			t.Errorf("%s: %s, %d bytes, want %d", hash, answer.Status, len(body), len(want))
		}
		sent += len(body)
		h := answer.Header
		if h.Get("ETag") != `"`+hash.String()+`"` || h.Get("Cache-Control") != cacheControl || h.Get("Content-Type") != "application/octet-stream" || h.Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s: headers %v", hash, h)
		}
		answer, body = do(t, s, http.MethodHead, Path+hash.String())
		if answer.StatusCode != http.StatusOK || len(body) != 0 || answer.ContentLength != int64(len(want)) || answer.Header.Get("ETag") != h.Get("ETag") {
			t.Errorf("HEAD %s: %s, %d bytes of %d", hash, answer.Status, len(body), answer.ContentLength)
		}
	}
	s.Close() // by now all requests are counted
	want := "\n# HELP rawstone_blob_requests_total Requests for files of the claim setup, by status.\n# TYPE rawstone_blob_requests_total counter\n" +
		"rawstone_blob_requests_total{status=\"200\"} 8\n"
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "rawstone_blob_requests_total"); err != nil {
		t.Error(err)
	}
	families, err := metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "rawstone_blob_sent_bytes_total" && f.Metric[0].Counter.GetValue() != float64(sent) {
			t.Errorf("%v bytes counted, %d sent", f.Metric[0].Counter.GetValue(), sent)
		}
	}
}

func TestRangesAndConditions(t *testing.T) {
	s, lock, files, _ := serve(t)
	path, file := Path+lock.ProvingKey.String(), files[lock.ProvingKey]
	etag := `"` + lock.ProvingKey.String() + `"`
	for _, c := range []struct {
		header []string
		status int
		body   []byte
	}{
		{[]string{"Range", "bytes=0-9"}, http.StatusPartialContent, file[:10]},
		{[]string{"Range", "bytes=799990-"}, http.StatusPartialContent, file[799_990:]},
		{[]string{"Range", "bytes=-3"}, http.StatusPartialContent, file[len(file)-3:]},
		{[]string{"Range", "bytes=10-99999999"}, http.StatusPartialContent, file[10:]},
		{[]string{"Range", "bytes=5-9", "If-Range", etag}, http.StatusPartialContent, file[5:10]},
		{[]string{"Range", "bytes=5-9", "If-Range", `"another"`}, http.StatusOK, file},
		{[]string{"Range", "lines=5-9"}, http.StatusRequestedRangeNotSatisfiable, nil},
		{[]string{"Range", "bytes=800000-"}, http.StatusRequestedRangeNotSatisfiable, nil},
		{[]string{"If-None-Match", etag}, http.StatusNotModified, nil},
		{[]string{"If-None-Match", `"another", W/` + etag}, http.StatusNotModified, nil},
		{[]string{"If-None-Match", `"another"`}, http.StatusOK, file},
		{[]string{"If-Match", etag}, http.StatusOK, file},
		{[]string{"If-Match", `"another"`}, http.StatusPreconditionFailed, nil},
		{[]string{"Range", "bytes=" + strings.Repeat("0-,", 1000) + "0-"}, http.StatusOK, file}, // more than the file is given whole
	} {
		answer, body := do(t, s, http.MethodGet, path, c.header...)
		if answer.StatusCode == http.StatusRequestedRangeNotSatisfiable && c.status == answer.StatusCode {
			refused(t, strings.Join(c.header, " "), answer, body, c.status)
			continue
		}
		if answer.StatusCode != c.status || !bytes.Equal(body, c.body) {
			t.Errorf("%q: %s, %d bytes; want %d, %d bytes", c.header, answer.Status, len(body), c.status, len(c.body))
		}
	}
}

func TestRefuses(t *testing.T) {
	s, lock, _, _ := serve(t)
	name := lock.Circuit.String()
	for _, path := range []string{
		"/", Path, Path + name[1:], Path + name + "0", Path + name + "/", Path + name + "?x=1", Path + strings.ToUpper(name), Path + strings.Repeat("0", 64),
		Path + "../blobs/" + name, Path + "..%2f..%2f..%2fetc%2fpasswd", "/v1/blobs/../../../../etc/passwd", "//v1/blobs/" + name, "/v1//blobs/" + name,
		"/V1/blobs/" + name, Path + fmt.Sprintf("%%%02x", name[0]) + name[1:], Path + name[:63] + "%00", Path + "circuit.cs", Path + "lock.json",
	} {
		answer, body := do(t, s, http.MethodGet, path)
		refused(t, path, answer, body, http.StatusNotFound)
		if strings.Contains(string(body), "passwd") {
			t.Errorf("%s: what was asked for is in the answer: %s", path, body)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "GETS"} {
		answer, body := do(t, s, method, Path+name)
		refused(t, method, answer, body, http.StatusMethodNotAllowed)
		if answer.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: allows %q", method, answer.Header.Get("Allow"))
		}
	}
	answer, body := do(t, s, http.MethodHead, Path+"x")
	refused(t, "HEAD", answer, body, http.StatusNotFound)
}

func TestNewRefuses(t *testing.T) {
	for name, want := range map[string]string{
		"lock.json": "not the one of the lock", "circuit.cs": "not the one of the lock", "proving.key": "not the one of the lock", "verifying.key": "not the one of the lock",
	} {
		dir, lock, _ := setup(t)
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		for _, c := range []struct {
			spoil func() error
			want  string
		}{
			{func() error { return os.WriteFile(path, b, 0o600) }, want},
			{func() error { return os.WriteFile(path, b[:len(b)-1], 0o600) }, want},
			{func() error { return os.Truncate(path, claim.MaxFileLen+1) }, "is it the right file?"},
			{func() error { return os.Remove(path) }, "no such file"},
		} {
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			if _, err := New(Config{Dir: dir, Lock: lock}); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v, want %q in it", name, err, c.want)
			}
		}
	}
}
