package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/enroll"
)

const (
	vehicle = "CAR1"
	life    = 14 * 24 * time.Hour
	// nowhere is where a collector is that needs no network.
	nowhere = "https://127.0.0.1:1"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A collector issues certificates, or answers otherwise where answer is set. It is reached without a network, so that time need not be real.
type collector struct {
	t   *testing.T
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	now    func() time.Time
	answer func(w http.ResponseWriter, r *enroll.Request)
	asked  []ask
}

type ask struct {
	path, token string
	at          time.Time
}

func newCollector(t *testing.T) *collector {
	return &collector{t: t, key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), now: time.Now}
}

// issue returns the chain of a certificate from one instant to another.
func (c *collector) issue(cn string, public crypto.PublicKey, from, to time.Time) *enroll.Answer {
	of := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vehicle CA"}}
	return &enroll.Answer{Version: enroll.Version, Chain: [][]byte{must(x509.CreateCertificate(rand.Reader, of, root, public, c.key))}}
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request := must(enroll.DecodeRequest(must(io.ReadAll(r.Body))))
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != enroll.ContentType || r.UserAgent() != "" || request.Vehicle != vehicle {
		c.t.Errorf("asked with %s, %v", r.Method, r.Header)
	}
	c.asked = append(c.asked, ask{r.URL.Path, request.Token, c.now()})
	if c.answer != nil {
		c.answer(w, request)
		return
	}
	c.grant(w, request, c.now().Add(-time.Hour), c.now().Add(life))
}

func (c *collector) grant(w io.Writer, r *enroll.Request, from, to time.Time) {
	key := r.Key()
	must(w.Write(must(c.issue(r.Vehicle, must(key.Key()), from, to).Encode())))
}

// refuse answers with a reason, and grants again for none.
func (c *collector) refuse(reason enroll.Reason, status int, after string) {
	c.say(func(w http.ResponseWriter, _ *enroll.Request) {
		w.Header().Set("Content-Type", enroll.ProblemType)
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
		must(w.Write(must(json.Marshal(enroll.Problem{Title: "no", Status: status, Detail: "because", Reason: reason}))))
	})
}

func (c *collector) say(answer func(http.ResponseWriter, *enroll.Request)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = answer
}

func (c *collector) asks() []ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// RoundTrip implements http.RoundTripper.
func (c *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result(), nil
}

// A car is a keeper and what it told.
type car struct {
	*Keeper
	collector *collector
	device    *ecdsa.PrivateKey
	dir       string

	mu      sync.Mutex
	told    []string
	changed int
}

// newCar opens a keeper whose way to the collector needs no network.
func newCar(t *testing.T, c *collector, change func(*Config)) *car {
	t.Helper()
	k := &car{collector: c, device: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), dir: filepath.Join(t.TempDir(), "identity")}
	k.open(t, change)
	return k
}

// open is a start of the agent.
func (k *car) open(t *testing.T, change func(*Config)) {
	t.Helper()
	cfg := Config{
		Dir: k.dir, Vehicle: vehicle, Device: k.device, URL: nowhere, Trust: new(tls.Config), Now: time.Now,
		Logger: slog.New(slog.DiscardHandler),
		Tell: func(text string) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.told = append(k.told, text)
		},
		Changed: func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.changed++
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if k.Keeper, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.URL == nowhere {
		k.client.Transport = k.collector
	}
}

// run runs the keeper until the test ends or stop is called.
func (k *car) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (k *car) requests(outcome string) float64 {
	return testutil.ToFloat64(k.metrics.requests.WithLabelValues(outcome))
}

// shown returns the certificate that TLS gets.
func (k *car) shown(t *testing.T) *tls.Certificate {
	t.Helper()
	c, err := k.TLS().GetClientCertificate(new(tls.CertificateRequestInfo))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnrolAndRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, nil)
		if _, err := k.TLS().GetClientCertificate(nil); err == nil || k.Ready() {
			t.Errorf("ready without a certificate: %v", err)
		}
		token := enroll.NewToken()
		if err := k.Enroll(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		first := k.shown(t)
		if until, problem := k.Status(); !k.Ready() || !until.Equal(first.Leaf.NotAfter) || problem != nil {
			t.Errorf("%v, %v", until, problem)
		}
		if !k.device.PublicKey.Equal(first.Leaf.PublicKey) || first.PrivateKey != crypto.PrivateKey(k.device) {
			t.Error("the certificate is of another key")
		}
		k.open(t, nil) // the agent that runs is another process than the one that enrolled
		if !bytes.Equal(k.shown(t).Certificate[0], first.Certificate[0]) {
			t.Error("the certificate did not outlive a restart")
		}
		config := k.TLS() // of an uplink that was made long ago
		began := time.Now()
		stop := k.run(t)
		defer stop()
		time.Sleep(61 * 24 * time.Hour)
		synctest.Wait()
		asks := c.asks()
		if asks[0].path != enroll.EnrolPath || asks[0].token != token {
			t.Errorf("enrolled with %+v", asks[0])
		}
		if n := len(asks) - 1; n < 5 || n > 8 {
			t.Errorf("%d renewals in 61 days", n)
		}
		gaps := make(map[time.Duration]bool)
		for last, a := began, asks[1:]; len(a) > 0; last, a = a[0].at, a[1:] {
			gaps[a[0].at.Sub(last).Round(time.Hour)] = true
			if gap := a[0].at.Sub(last); gap < life/2-time.Hour || gap > life*3/4+lookEvery || a[0].path != enroll.RenewPath || a[0].token != "" {
				t.Errorf("renewed after %v with %+v", gap, a[0])
			}
		}
		if len(gaps) < 2 {
			t.Error("renewals come as by the clock: a fleet that enrolled together would renew together")
		}
		newest := must(config.GetClientCertificate(nil))
		if bytes.Equal(newest.Certificate[0], first.Certificate[0]) || !k.Ready() || k.changed != len(asks)-1 {
			t.Error("TLS does not get the newest certificate")
		}
		if kept := must(readChain(k.dir)); !bytes.Equal(kept.Chain[0], newest.Certificate[0]) {
			t.Error("the newest certificate is not on flash")
		}
	})
}

// TestLongPark holds that a car whose certificate has ended is silent until it has another, for which it asks when Hold says: not when it
// is switched on.
func TestLongPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, nil)
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(700 * 24 * time.Hour)
		k.open(t, held(40*time.Minute))
		began := time.Now()
		defer k.run(t)()
		time.Sleep(39 * time.Minute)
		synctest.Wait()
		if k.Ready() || len(c.asks()) != 1 {
			t.Error("ready with a certificate that has ended, or another was asked for at once")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if asks := c.asks(); len(asks) != 2 || asks[1].at.Before(began.Add(40*time.Minute)) || !k.Ready() || k.changed != 1 {
			t.Errorf("%+v, %v", asks, k.Ready())
		}
	})
}

// TestDamagedChain holds that a certificate that is lost, cut off or another car's is one to be renewed and no more.
func TestDamagedChain(t *testing.T) {
	for name, spoil := range map[string]func(k *car, path string) error{
		"lost":    func(_ *car, path string) error { return os.Remove(path) },
		"empty":   func(_ *car, path string) error { return os.Truncate(path, 0) },
		"cut off": func(_ *car, path string) error { return os.Truncate(path, 100) },
		"long":    func(_ *car, path string) error { return os.WriteFile(path, make([]byte, 1<<20), 0o600) },
		"of another key": func(k *car, path string) error {
			other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
			return os.WriteFile(path, encodeChain(k.collector.issue(vehicle, &other.PublicKey, time.Now(), time.Now().Add(life))), 0o600)
		},
		"of another car": func(k *car, path string) error {
			return os.WriteFile(path, encodeChain(k.collector.issue("CAR2", &k.device.PublicKey, time.Now(), time.Now().Add(life))), 0o600)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCollector(t)
			k := newCar(t, c, nil)
			if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
				t.Fatal(err)
			}
			if err := spoil(k, filepath.Join(k.dir, chainFile)); err != nil {
				t.Fatal(err)
			}
			k.open(t, nil)
			if n := testutil.ToFloat64(k.metrics.damaged); k.Ready() || (n == 1) == (name == "lost") {
				t.Errorf("%s: ready, or damage counted %v times", name, n)
			}
			defer k.run(t)()
			synctest.Wait()
			if asks := c.asks(); len(asks) != 2 || asks[1].path != enroll.RenewPath || !k.Ready() {
				t.Errorf("%s: %+v", name, asks)
			}
		})
	}
}

// TestRevoked holds that a revoked car says so to its driver once, falls silent, and comes back by itself when it may.
func TestRevoked(t *testing.T) {
	for _, reason := range []enroll.Reason{enroll.ReasonRevoked, enroll.ReasonKey} {
		synctest.Test(t, func(t *testing.T) {
			c := newCollector(t)
			k := newCar(t, c, nil)
			if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
				t.Fatal(err)
			}
			k.open(t, nil)
			c.refuse(reason, http.StatusForbidden, "")
			defer k.run(t)()
			synctest.Wait()
			if !k.Ready() || len(c.asks()) != 1 {
				t.Fatal("it knows before it was told")
			}
			k.Doubt() // the broker cut the connection and takes no other
			synctest.Wait()
			if _, problem := k.Status(); k.Ready() || problem == nil || len(k.told) != 1 || k.changed != 1 {
				t.Fatalf("%s: ready %v, told %q, %v", reason, k.Ready(), k.told, problem)
			}
			for range 1000 {
				k.Doubt()
			}
			time.Sleep(30 * 24 * time.Hour)
			synctest.Wait()
			if n := len(c.asks()) - 2; n < 30 || n > 61 || len(k.told) != 1 || k.Ready() {
				t.Errorf("%s: asked %d times in 30 days, told %q", reason, n, k.told)
			}
			c.say(nil)
			time.Sleep(25 * time.Hour)
			synctest.Wait()
			if until, problem := k.Status(); !k.Ready() || problem != nil || !until.After(time.Now()) {
				t.Errorf("%s: it stays revoked: %v", reason, problem)
			}
		})
	}
}

// TestOtherRefusals holds that refusals that say nothing against the present certificate leave it in use.
func TestOtherRefusals(t *testing.T) {
	for _, reason := range []enroll.Reason{enroll.ReasonMalformed, enroll.ReasonLate, enroll.ReasonTaken} {
		synctest.Test(t, func(t *testing.T) {
			c := newCollector(t)
			k := newCar(t, c, nil)
			if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
				t.Fatal(err)
			}
			c.refuse(reason, http.StatusForbidden, "")
			defer k.run(t)()
			time.Sleep(life - time.Hour)
			synctest.Wait()
			if n := len(c.asks()) - 1; !k.Ready() || n < 3 || n > 16 || len(k.told) != 1 {
				t.Errorf("%s: ready %v, asked %d times, told %q", reason, k.Ready(), n, k.told)
			}
			time.Sleep(2 * time.Hour)
			if k.Ready() {
				t.Errorf("%s: ready with a certificate that has ended", reason)
			}
		})
	}
}

// TestBackoff holds that failures come further and further apart, and that the collector's own word counts.
func TestBackoff(t *testing.T) {
	for name, c := range map[string]struct {
		answer      func(*collector)
		least, most int // requests in 25 h
	}{
		"a login page": {func(c *collector) {
			c.say(func(w http.ResponseWriter, _ *enroll.Request) {
				w.Header().Set("Content-Type", "text/html")
				io.WriteString(w, "<html>log in</html>")
			})
		}, 25, 70},
		"an endless page": {func(c *collector) {
			c.say(func(w http.ResponseWriter, _ *enroll.Request) { w.Write(make([]byte, 1<<20)) })
		}, 25, 70},
		"a redirect": {func(c *collector) {
			c.say(func(w http.ResponseWriter, _ *enroll.Request) { w.WriteHeader(http.StatusFound) })
		}, 25, 70},
		"a proxy's refusal": {func(c *collector) {
			c.say(func(w http.ResponseWriter, _ *enroll.Request) {
				w.Header().Set("Content-Type", enroll.ProblemType)
				w.WriteHeader(http.StatusForbidden)
				io.WriteString(w, `{"title": "Forbidden"}`)
			})
		}, 25, 70},
		"busy":            {func(c *collector) { c.refuse(enroll.ReasonBusy, http.StatusTooManyRequests, "") }, 25, 70},
		"busy for 6 h":    {func(c *collector) { c.refuse(enroll.ReasonBusy, http.StatusTooManyRequests, "21600") }, 4, 5},
		"busy for a year": {func(c *collector) { c.refuse(enroll.ReasonBusy, http.StatusTooManyRequests, "31536000") }, 2, 2},
		"another key's": {func(c *collector) {
			c.say(func(w http.ResponseWriter, _ *enroll.Request) {
				other := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
				w.Write(must(c.issue(vehicle, &other.PublicKey, time.Now(), time.Now().Add(life)).Encode()))
			})
		}, 25, 70},
		"ended already": {func(c *collector) {
			c.say(func(w http.ResponseWriter, r *enroll.Request) { c.grant(w, r, time.Now().Add(-life), time.Now()) })
		}, 25, 70},
		"due already": {func(c *collector) {
			c.say(func(w http.ResponseWriter, r *enroll.Request) {
				c.grant(w, r, time.Now().Add(-life), time.Now().Add(time.Hour))
			})
		}, 25, 70},
	} {
		synctest.Test(t, func(t *testing.T) {
			collector := newCollector(t)
			c.answer(collector)
			k := newCar(t, collector, nil)
			stop := k.run(t)
			time.Sleep(25 * time.Hour)
			synctest.Wait()
			if n := len(collector.asks()); n < c.least || n > c.most || len(k.told) != 0 {
				t.Errorf("%s: asked %d times in 25 h, want %d to %d; told %q", name, n, c.least, c.most, k.told)
			}
			if _, problem := k.Status(); problem == nil || k.Ready() != (name == "due already") {
				t.Errorf("%s: ready %v, %v", name, k.Ready(), problem)
			}
			stop()
		})
	}
}

// TestDoubt holds that a broker that refuses certificates that the collector grants does not have the car ask without end.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, nil)
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
			t.Fatal(err)
		}
		k.open(t, nil)
		defer k.run(t)()
		for range 24 * 60 {
			k.Doubt()
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		if n := len(c.asks()) - 1; n < 23 || n > 25 {
			t.Errorf("asked %d times in a day of refusals, want one an hour", n)
		}
	})
}

func TestEnrolRefused(t *testing.T) {
	c := newCollector(t)
	k := newCar(t, c, nil)
	c.refuse(enroll.ReasonToken, http.StatusForbidden, "")
	err := k.Enroll(t.Context(), enroll.NewToken())
	if refusal := new(enroll.Problem); !errors.As(err, &refusal) || refusal.Reason != enroll.ReasonToken {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(k.dir, chainFile)); err == nil || k.Ready() {
		t.Error("a refusal left a certificate")
	}
	if k.requests(outcomeRefused) != 2 { // once more by the key alone
		t.Error("not counted")
	}
	c.say(nil)
	if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
		t.Error(err)
	}
	// What was good stays where the new one is none, and where the flash takes nothing.
	old := k.shown(t)
	c.say(func(w http.ResponseWriter, r *enroll.Request) { c.grant(w, r, time.Now().Add(-life), time.Now()) })
	if err := k.Enroll(t.Context(), enroll.NewToken()); err == nil || k.shown(t) != old || !k.Ready() {
		t.Errorf("a certificate that has ended is used: %v", err)
	}
	c.say(nil)
	if err := os.RemoveAll(k.dir); err != nil {
		t.Fatal(err)
	}
	if err := k.Enroll(t.Context(), enroll.NewToken()); err == nil || !k.Ready() {
		t.Errorf("an enrolment that flash does not take succeeds: %v", err)
	}
}

// TestLostAnswer: the token was used up by an enrolment whose answer was lost. The device key gets the certificate without it, after the
// collector's pause, and nothing is gained where it was another's.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, nil)
		busy := 2
		problem := func(w http.ResponseWriter, status int, reason enroll.Reason) {
			w.Header().Set("Content-Type", enroll.ProblemType)
			w.Header().Set("Retry-After", "10")
			w.WriteHeader(status)
			must(w.Write(must(json.Marshal(enroll.Problem{Title: "no", Status: status, Detail: "because", Reason: reason}))))
		}
		c.say(func(w http.ResponseWriter, r *enroll.Request) {
			switch {
			case r.Token != "":
				problem(w, http.StatusForbidden, enroll.ReasonToken)
			case busy > 0:
				busy--
				problem(w, http.StatusTooManyRequests, enroll.ReasonBusy)
			default:
				c.grant(w, r, c.now().Add(-time.Hour), c.now().Add(life))
			}
		})
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil || !k.Ready() {
			t.Fatalf("a lost answer burns the token: %v", err)
		}
		asks := c.asks()
		if len(asks) != 4 || asks[1].path != enroll.RenewPath || asks[3].at.Sub(asks[1].at) < 20*time.Second {
			t.Errorf("asked %+v", asks)
		}
		c.say(func(w http.ResponseWriter, r *enroll.Request) {
			reason := enroll.ReasonKey
			if r.Token != "" {
				reason = enroll.ReasonToken
			}
			problem(w, http.StatusForbidden, reason)
		})
		err := k.Enroll(t.Context(), enroll.NewToken())
		if refusal := new(enroll.Problem); !errors.As(err, &refusal) || refusal.Reason != enroll.ReasonToken {
			t.Errorf("%v, want what the token was refused for", err)
		}
	})
}

// TestFullFlash: a renewed certificate that flash does not take is used, and written once there is room.
func TestFullFlash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, nil)
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
			t.Fatal(err)
		}
		old := k.shown(t)
		blocked := filepath.Join(k.dir, chainFile+".tmp")
		if err := os.Mkdir(blocked, 0o700); err != nil { // nothing is written any more
			t.Fatal(err)
		}
		defer k.run(t)()
		time.Sleep(life)
		synctest.Wait()
		renewed := k.shown(t)
		if renewed == old || !k.Ready() {
			t.Fatal("a renewed certificate is dropped where flash takes nothing")
		}
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		synctest.Wait()
		kept := must(readChain(k.dir))
		if !bytes.Equal(kept.Chain[0], renewed.Certificate[0]) {
			t.Error("it is not written once there is room")
		}
	})
}

// TestEnrolmentOfARunningCar: the vehicle was enrolled anew while the keeper waits for an operator. It goes by the new certificate within a
// minute, whether it waits after a refusal or for the next renewal.
func TestEnrolmentOfARunningCar(t *testing.T) {
	for _, refused := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := newCollector(t)
			k := newCar(t, c, nil)
			if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
				t.Fatal(err)
			}
			defer k.run(t)()
			if refused {
				c.refuse(enroll.ReasonKey, http.StatusForbidden, "")
				time.Sleep(life)
				synctest.Wait()
				if k.Ready() {
					t.Fatal("it is ready although it is refused")
				}
			}
			other := &car{collector: c, device: k.device, dir: k.dir}
			other.open(t, nil)
			c.say(nil)
			if err := other.Enroll(t.Context(), enroll.NewToken()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if !k.Ready() || !bytes.Equal(k.shown(t).Certificate[0], other.shown(t).Certificate[0]) {
				t.Errorf("refused before: %t: the new certificate is not used after a minute", refused)
			}
			k.mu.Lock()
			defer k.mu.Unlock()
			if k.changed == 0 {
				t.Error("nobody is told")
			}
		})
	}
}

// TestServer asks a real server over TLS, under its roots, under others, and by a clock that lags.
func TestServer(t *testing.T) {
	c := newCollector(t)
	server := httptest.NewUnstartedServer(c)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for name, tc := range map[string]struct {
		trust *tls.Config
		want  string
	}{
		"its own":         {&tls.Config{RootCAs: roots}, ""},
		"others":          {&tls.Config{RootCAs: x509.NewCertPool()}, "cannot reach the collector: tls: failed to verify certificate"},
		"a clock of 1969": {&tls.Config{RootCAs: roots, Time: func() time.Time { return time.Unix(-1, 0) }}, "is the car's clock right?"},
	} {
		k := newCar(t, c, func(cfg *Config) { cfg.URL, cfg.Trust = server.URL, tc.trust })
		err := k.Enroll(t.Context(), enroll.NewToken())
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := Config{
		Dir: t.TempDir(), Vehicle: vehicle, Device: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), URL: "https://127.0.0.1:1",
		Trust: new(tls.Config), Now: time.Now, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	if _, err := Open(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"registered twice": func(*Config) {},
		"zero":             func(c *Config) { *c = Config{} },
		"no roots":         func(c *Config) { c.Trust = nil },
		"http":             func(c *Config) { c.URL = "http://127.0.0.1:1" },
		"vehicle":          func(c *Config) { c.Vehicle = "car" },
		"curve":            func(c *Config) { c.Device = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) },
		"negative":         func(c *Config) { c.Timeout = -1 },
		"back-offs":        func(c *Config) { c.BackoffMin, c.BackoffMax = 2, 1 },
	} {
		cfg := good
		if name != "registered twice" {
			cfg.Registerer = nil
		}
		change(&cfg)
		if _, err := Open(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzChain(f *testing.F) {
	c := &collector{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
	one := c.issue(vehicle, &c.key.PublicKey, time.Now(), time.Now().Add(life))
	f.Add(encodeChain(one))
	f.Add(encodeChain(&enroll.Answer{Chain: [][]byte{one.Chain[0], one.Chain[0]}}))
	f.Add(append([]byte("a line before it\n"), encodeChain(one)...))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := decodeChain(text)
		if err == nil && !bytes.Equal(encodeChain(a), text) {
			t.Error("it is encoded otherwise than it was decoded")
		}
	})
}

// held is a Hold for the time from a start on.
func held(d time.Duration) func(*Config) {
	return func(cfg *Config) {
		from := time.Now().Add(d)
		cfg.Hold = func(wait time.Duration) time.Duration { return max(wait, time.Until(from)) }
	}
}

// TestHeldRenewal: a renewal that became due while the car was off is made when Hold says.
func TestHeldRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		k := newCar(t, c, held(40*time.Minute))
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(life * 9 / 10)
		k.open(t, held(40*time.Minute))
		began := time.Now()
		stop := k.run(t)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		stop()
		asks := c.asks()
		if len(asks) != 2 {
			t.Fatalf("%d requests", len(asks))
		}
		if after := asks[1].at.Sub(began); after < 40*time.Minute || after > 40*time.Minute+lookEvery {
			t.Errorf("renewed %v after the start", after)
		}
	})
}

// TestNothingAtPowerOn: a car whose chain is lost and which the collector refuses says so at no start, however many there are: each holds
// anew, and the drives are shorter than that. What a broker says to a car that is connected is looked into at once.
func TestNothingAtPowerOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		c.refuse(enroll.ReasonRevoked, http.StatusForbidden, "")
		k := newCar(t, c, nil)
		for range 100 {
			k.open(t, held(40*time.Minute))
			stop := k.run(t)
			time.Sleep(30 * time.Minute)
			stop()
			time.Sleep(8 * time.Hour)
		}
		if n := len(c.asks()); n != 0 {
			t.Fatalf("%d requests in 100 starts", n)
		}
		k.open(t, held(40*time.Minute))
		defer k.run(t)()
		time.Sleep(time.Minute)
		k.Doubt()
		synctest.Wait()
		if n := len(c.asks()); n != 1 {
			t.Errorf("%d requests after a broker's refusal", n)
		}
	})
}

// TestSleepBetweenAttempts: an attempt in vain, and the car sleeps. The next one is held, although what the broker said was urgent, and
// although its wait has passed.
func TestSleepBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		var mu sync.Mutex
		var slept time.Duration
		var until time.Time // of the hold
		now := func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(slept) }
		k := newCar(t, c, func(cfg *Config) {
			cfg.Now, cfg.BackoffMin, cfg.BackoffMax = now, 20*time.Second, 20*time.Second
			cfg.Hold = func(wait time.Duration) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return max(wait, time.Until(until))
			}
		})
		if err := k.Enroll(t.Context(), enroll.NewToken()); err != nil {
			t.Fatal(err)
		}
		c.refuse(enroll.ReasonBusy, http.StatusTooManyRequests, "")
		defer k.run(t)()
		time.Sleep(time.Minute)
		k.Doubt()
		synctest.Wait()
		if n := len(c.asks()); n != 2 {
			t.Fatalf("%d requests", n)
		}
		mu.Lock()
		slept, until = 8*time.Hour, time.Now().Add(40*time.Minute)
		mu.Unlock()
		time.Sleep(39 * time.Minute)
		synctest.Wait()
		if n := len(c.asks()); n != 2 {
			t.Errorf("%d requests after a sleep", n-2)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(c.asks()); n < 3 {
			t.Error("never asked again")
		}
	})
}

// TestReset: the device key of a car that was reset gets no certificate by itself, at no start and after no broker's refusal, until the car
// is enrolled: by another process than the one that waits.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCollector(t)
		mark := filepath.Join(t.TempDir(), "reset.done")
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		marked := func(cfg *Config) { cfg.Reset = mark }
		k := newCar(t, c, marked)
		for range 3 {
			k.open(t, marked)
			stop := k.run(t)
			k.Doubt()
			time.Sleep(30 * 24 * time.Hour)
			stop()
		}
		if _, problem := k.Status(); len(c.asks()) != 0 || k.Ready() || problem == nil || !strings.Contains(problem.Error(), "agent enroll") {
			t.Fatalf("%d requests, %v", len(c.asks()), problem)
		}
		defer k.run(t)()
		// A chain without an enrolment, such as one that somebody put there, changes nothing.
		if err := writeChain(k.dir, c.issue(vehicle, &k.device.PublicKey, time.Now().Add(-time.Hour), time.Now().Add(life))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if _, err := k.TLS().GetClientCertificate(nil); err == nil || k.Ready() || len(c.asks()) != 0 {
			t.Error("a chain that no enrolment brought is used")
		}
		other := &car{collector: c, device: k.device, dir: k.dir}
		other.open(t, marked)
		c.refuse(enroll.ReasonToken, http.StatusForbidden, "")
		if err := other.Enroll(t.Context(), enroll.NewToken()); err == nil {
			t.Error("enrolled with a token that is refused")
		}
		if _, err := os.Stat(mark); err != nil {
			t.Errorf("an enrolment that failed ends what the reset began: %v", err)
		}
		c.say(nil)
		if err := other.Enroll(t.Context(), enroll.NewToken()); err != nil || !other.Ready() {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		if _, problem := k.Status(); !k.Ready() || problem != nil || changed == 0 {
			t.Errorf("not enrolled: %v, changed %d", problem, changed)
		}
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v", err)
		}
	})
}
