package https

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTrust reaches a server whose root is in a file, and refuses files that hold none.
func TestTrust(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	roots, key := filepath.Join(dir, "roots.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{roots: {Type: "CERTIFICATE", Bytes: server.Certificate().Raw}, key: {Type: "PRIVATE KEY"}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for at, ok := range map[time.Time]bool{server.Certificate().NotAfter.Add(-time.Hour): true, server.Certificate().NotAfter.Add(time.Hour): false} {
		trust, err := Trust(roots, func() time.Time { return at })
		if err != nil {
			t.Fatal(err)
		}
		resp, err := Client(trust).Get(server.URL)
		if (err == nil) != ok {
			t.Errorf("at %v: %v", at, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	if _, err := Client(nil).Get(server.URL); err == nil {
		t.Error("the system's roots hold the test's server")
	}
	if trust, err := Trust("", time.Now); err != nil || trust.RootCAs != nil || trust.Time == nil {
		t.Errorf("no file: %v, %v", trust, err)
	}
	if _, err := Trust(key, time.Now); err == nil || !strings.Contains(err.Error(), "key.pem: there is no certificate in it") {
		t.Errorf("%v", err)
	}
	if _, err := Trust(roots+"x", time.Now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
