package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/wire"
)

const vehicle = "CAR1"

// broker is a real one: nats-server with its MQTT listener.
type broker struct {
	*server.Server
	port int
	ca   *authority
}

// everything denied is a broker that lets nobody in.
const everything = ">"

// check lets everybody in; deny names a subject that the vehicle may not subscribe to.
type check struct{ deny string }

func (c check) Check(a server.ClientAuthentication) bool {
	if c.deny == everything {
		return false
	}
	u := &server.User{Username: "any"}
	if c.deny != "" {
		u.Permissions = &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{c.deny}}}
	}
	a.RegisterUser(u)
	return true
}

// freePort returns a port that is free now and below those that the kernel gives away by itself: a broker that comes back finds it so.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + mathrand.IntN(20_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func startBroker(t *testing.T, dir string, deny string) *broker {
	t.Helper()
	b := &broker{port: freePort(t), ca: newAuthority(t)}
	b.start(t, dir, deny)
	return b
}

// start starts it again where it was.
func (b *broker) start(t *testing.T, dir string, deny string) {
	t.Helper()
	opts := &server.Options{ServerName: "test", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
		CustomClientAuthentication: check{deny}}
	opts.MQTT.Host, opts.MQTT.Port, opts.MQTT.TLSConfig, opts.MQTT.TLSTimeout = "127.0.0.1", b.port, b.ca.server(), 60
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("broker does not start")
	}
	b.Server = s
	t.Cleanup(b.stop)
}

func (b *broker) stop() {
	b.Shutdown()
	b.WaitForShutdown()
}

func (b *broker) url() string { return fmt.Sprintf("ssl://127.0.0.1:%d", b.port) }

// collector answers submissions as a test wants.
type collector struct {
	client mqtt.Client
	mu     sync.Mutex
	got    []string // bodies in order of arrival
}

func (c *collector) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// startCollector publishes what answer returns for the nth arrival of a body, n from 1.
func startCollector(t *testing.T, b *broker, answer func(body []byte, n int) [][]byte) *collector {
	t.Helper()
	c := &collector{}
	opts := mqtt.NewClientOptions().AddBroker(b.url()).SetTLSConfig(b.ca.client("collector")).SetClientID("collector").SetCleanSession(true).SetOrderMatters(false).
		SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond).SetMaxReconnectInterval(50 * time.Millisecond)
	opts.SetOnConnectHandler(func(client mqtt.Client) {
		client.Subscribe("rawstone/v1/+/+", 1, func(client mqtt.Client, m mqtt.Message) {
			if strings.HasSuffix(m.Topic(), "receipt") {
				return
			}
			c.mu.Lock()
			c.got = append(c.got, string(m.Payload()))
			n := 0
			for _, g := range c.got {
				if g == string(m.Payload()) {
					n++
				}
			}
			c.mu.Unlock()
			for _, r := range answer(m.Payload(), n) {
				client.Publish(wire.Topic(vehicle, wire.KindReceipt), 0, false, r)
			}
		}).Wait()
	})
	c.client = mqtt.NewClient(opts)
	if tok := c.client.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal("collector cannot connect")
	}
	t.Cleanup(func() { c.client.Disconnect(0) })
	return c
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

func receipt(t *testing.T, key *ecdsa.PrivateKey, vehicle string, body []byte) []byte {
	t.Helper()
	b, err := wire.SealReceipt(key, &wire.Receipt{Version: wire.Version, Submission: wire.ID(body), Vehicle: vehicle, Accepted: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bench is an uplink with a real spool that frees on receipts.
type bench struct {
	up    *Uplink
	spool *spool.Spool
	key   *ecdsa.PrivateKey
	acted chan string
	fail  atomic.Int32 // how many receipts the handler refuses to act upon
}

// impatient ends a session soon when a receipt does not come.
func impatient(c *Config) { c.ReceiptWait = 300 * time.Millisecond }

func newBench(t *testing.T, br *broker, change func(*Config)) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := flash.Open(flash.Config{Dir: t.TempDir(), Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	sp, err := spool.Open(spool.Config{DB: db, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	key, pub := newKey(t)
	b := &bench{spool: sp, key: key, acted: make(chan string, 100)}
	cfg := Config{
		URL: br.url(), TLS: br.ca.client(vehicle), Vehicle: vehicle, ReceiptKeys: wire.KeySet{pub}, Spool: sp, Hold: prompt{}, Now: time.Now, Logger: log,
		ReceiptWait: 10 * time.Second, Linger: 300 * time.Millisecond, BackoffMin: 20 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
		OnReceipt: func(_ context.Context, kind wire.Kind, body []byte, r *wire.Receipt, signed []byte) error {
			if b.fail.Add(-1) >= 0 {
				return fmt.Errorf("flash is broken")
			}
			if wire.ID(body) != r.Submission || len(signed) == 0 {
				t.Error("handler got a receipt for something else")
			}
			if err := sp.Free(r.Submission); err != nil {
				return err
			}
			b.acted <- string(body)
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	if b.up, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.up.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func (b *bench) put(t *testing.T, kind wire.Kind, body string, due time.Time) {
	t.Helper()
	if _, _, err := b.spool.Put(kind, []byte(body), time.Now(), due); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) wait(t *testing.T, want ...string) {
	t.Helper()
	for range want {
		select {
		case got := <-b.acted:
			if i := slices.Index(want, got); i < 0 {
				t.Fatalf("acted upon %q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no receipt; want %q", want)
		}
	}
}

// eventually polls, because counters have no event to wait for.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 2400 {
		if f() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func (b *bench) ignored(reason string) float64 {
	return testutil.ToFloat64(b.up.metrics.ignored.WithLabelValues(reason))
}

func TestDeliversInOrderAndDisconnects(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	b := newBench(t, br, nil)
	c := startCollector(t, br, func(body []byte, _ int) [][]byte { return [][]byte{receipt(t, b.key, vehicle, body)} })
	b.put(t, wire.KindClaim, "claim 1", time.Now())
	b.put(t, wire.KindClaim, "claim 2", time.Now())
	b.put(t, wire.KindReport, "report", time.Now())
	b.put(t, wire.KindReport, "tomorrow", time.Now().Add(24*time.Hour))
	b.run(t)
	b.wait(t, "claim 1", "claim 2", "report")
	seen := c.seen()
	if i, j := slices.Index(seen, "claim 1"), slices.Index(seen, "claim 2"); i > j || slices.Contains(seen, "tomorrow") {
		t.Errorf("arrived %q", seen)
	}
	eventually(t, "the agent disconnects", func() bool { return br.NumClients() == 1 })
	b.put(t, wire.KindClaim, "claim 3", time.Now())
	b.wait(t, "claim 3")
	if n := testutil.ToFloat64(b.up.metrics.sessions); n != 2 {
		t.Errorf("%v sessions, want 2", n)
	}
	if n := testutil.ToFloat64(b.up.metrics.failures); n != 0 {
		t.Errorf("%v failures", n)
	}
}

func TestLostReceiptsAreAskedForAgain(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	b := newBench(t, br, impatient)
	c := startCollector(t, br, func(body []byte, n int) [][]byte {
		if n < 3 {
			return nil
		}
		return [][]byte{receipt(t, b.key, vehicle, body)}
	})
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.put(t, wire.KindClaim, "next", time.Now())
	b.run(t)
	b.wait(t, "claim")
	if seen := c.seen(); !slices.Equal(seen[:3], []string{"claim", "claim", "claim"}) {
		t.Errorf("arrived %q: the next claim left before the first one's receipt", seen)
	}
	b.wait(t, "next")
	if !slices.Equal(b.spool.IDs(wire.KindClaim), nil) {
		t.Error("spool is not empty")
	}
}

func TestForgedForeignAndUnknownReceiptsAreIgnored(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	b := newBench(t, br, impatient)
	stranger, _ := newKey(t)
	startCollector(t, br, func(body []byte, n int) [][]byte {
		if n > 1 {
			return [][]byte{receipt(t, b.key, vehicle, body)}
		}
		damaged := receipt(t, b.key, vehicle, body)
		damaged[len(damaged)-1] ^= 1
		return [][]byte{
			receipt(t, stranger, vehicle, body), damaged, []byte("nonsense"),
			receipt(t, b.key, "CAR2", body),
			receipt(t, b.key, vehicle, []byte("something else")),
			make([]byte, wire.ReceiptLen+1),
		}
	})
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	eventually(t, "bad receipts are counted", func() bool {
		return b.ignored("forged") == 3 && b.ignored("foreign") == 2 && b.ignored("unknown") == 1
	})
	b.wait(t, "claim")
	if n := testutil.ToFloat64(b.up.metrics.receipts.WithLabelValues("accepted")); n != 1 {
		t.Errorf("%v receipts acted upon", n)
	}
}

func TestHandlerFailureKeepsTheSubmission(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	b := newBench(t, br, nil)
	b.fail.Store(1)
	c := startCollector(t, br, func(body []byte, _ int) [][]byte { return [][]byte{receipt(t, b.key, vehicle, body)} })
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	b.wait(t, "claim")
	if n := len(c.seen()); n != 2 {
		t.Errorf("sent %d times, want 2", n)
	}
}

func TestForbiddenSubscriptionIsSeen(t *testing.T) {
	dir := t.TempDir()
	br := startBroker(t, dir, wire.Subject(vehicle, wire.KindReceipt))
	b := newBench(t, br, nil)
	c := startCollector(t, br, func([]byte, int) [][]byte { return nil })
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	eventually(t, "sessions fail", func() bool { return testutil.ToFloat64(b.up.metrics.failures) >= 2 })
	if n := testutil.ToFloat64(b.up.metrics.sent.WithLabelValues("claim")); n != 0 || len(c.seen()) != 0 {
		t.Errorf("%v published although receipts cannot arrive", n)
	}
}

func TestBrokerRestart(t *testing.T) {
	dir := t.TempDir()
	br := startBroker(t, dir, "")
	br.stop() // the agent comes up before its broker
	b := newBench(t, br, nil)
	b.put(t, wire.KindClaim, "claim 1", time.Now())
	b.run(t)
	eventually(t, "a session fails", func() bool { return testutil.ToFloat64(b.up.metrics.failures) >= 1 })
	var answering atomic.Bool
	answer := func(body []byte, _ int) [][]byte {
		if !answering.Load() {
			return nil
		}
		return [][]byte{receipt(t, b.key, vehicle, body)}
	}
	br.start(t, dir, "")
	c := startCollector(t, br, answer)
	eventually(t, "the claim arrives", func() bool { return len(c.seen()) > 0 })
	br.stop() // with the claim in flight
	c.client.Disconnect(0)
	answering.Store(true)
	br.start(t, dir, "")
	startCollector(t, br, answer)
	b.wait(t, "claim 1")
	b.put(t, wire.KindClaim, "claim 2", time.Now())
	b.wait(t, "claim 2")
}

func TestNewRefuses(t *testing.T) {
	good := Config{
		URL: "ssl://127.0.0.1:8883", Vehicle: vehicle, ReceiptKeys: make(wire.KeySet, 1), Spool: &spool.Spool{}, Hold: prompt{}, Now: time.Now,
		OnReceipt: func(context.Context, wire.Kind, []byte, *wire.Receipt, []byte) error { return nil },
		Logger:    slog.New(slog.DiscardHandler),
	}
	if u, err := New(good); err != nil || u.cfg.TLS.MinVersion != tls.VersionTLS13 {
		t.Fatalf("%v, or TLS older than 1.3", err)
	}
	for name, change := range map[string]func(*Config){
		"zero":      func(c *Config) { *c = Config{} },
		"scheme":    func(c *Config) { c.URL = "ws://127.0.0.1:1883" },
		"no port":   func(c *Config) { c.URL = "ssl://127.0.0.1" },
		"password":  func(c *Config) { c.URL = "ssl://u:p@127.0.0.1:8883" },
		"plaintext": func(c *Config) { c.URL = "tcp://127.0.0.1:1883" },
		"vehicle":   func(c *Config) { c.Vehicle = "a/b" },
		"no keys":   func(c *Config) { c.ReceiptKeys = nil },
		"no spool":  func(c *Config) { c.Spool = nil },
		"no gate":   func(c *Config) { c.Hold = nil },
		"no taker":  func(c *Config) { c.NewsDue = time.Now },
		"negative":  func(c *Config) { c.Linger = -1 },
		"back-offs": func(c *Config) { c.BackoffMin, c.BackoffMax = 2, 1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBackoffGrowsWithinBounds(t *testing.T) {
	u := &Uplink{cfg: Config{BackoffMin: time.Second, BackoffMax: time.Hour}}
	for fails := range 100 {
		low, high := u.backoff(fails, 0), u.backoff(fails, 1)
		whole := time.Hour
		if fails < 12 {
			whole = time.Second << fails
		}
		if low != whole/2 || high != whole {
			t.Errorf("after %d failures %v to %v, want %v to %v", fails, low, high, whole/2, whole)
		}
	}
}

// stubSpool stands in where time is not real.
type stubSpool struct {
	due     time.Time
	changed chan struct{}
}

func (s *stubSpool) Each(f func(wire.Hash, wire.Kind, time.Time)) {
	if !s.due.IsZero() {
		f(wire.Hash{}, wire.KindClaim, s.due)
	}
}
func (s *stubSpool) Bytes(wire.Hash) ([]byte, bool) { return nil, false }
func (s *stubSpool) Changed() <-chan struct{}       { return s.changed }

// prompt is a gate that holds nothing.
type prompt struct{}

func (prompt) Until(_ string, due time.Time) time.Duration { return time.Until(due) }

func TestConnectsOnlyWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sp := &stubSpool{changed: make(chan struct{}, 1)}
		var ready atomic.Bool
		ready.Store(true)
		u := &Uplink{wake: make(chan struct{}, 1), cfg: Config{Spool: sp, Hold: prompt{}, Now: time.Now, Ready: ready.Load}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := time.Now()
		due := make(chan bool, 1)
		go func() { due <- u.await(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case <-due:
			t.Fatal("connects with an empty spool")
		default:
		}
		sp.due = began.Add(3 * time.Hour)
		sp.changed <- struct{}{}
		if !<-due || time.Since(began) != 3*time.Hour {
			t.Errorf("due after %v, want 3h", time.Since(began))
		}
		// Something is due, and there is no certificate to show.
		ready.Store(false)
		go func() { due <- u.await(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case <-due:
			t.Fatal("connects without a certificate")
		default:
		}
		ready.Store(true)
		u.Wake()
		if !<-due || time.Since(began) != 4*time.Hour {
			t.Errorf("due after %v, want 4h: a certificate that came does not wake it", time.Since(began))
		}
		sp.due = time.Time{}
		go func() { due <- u.await(ctx) }()
		synctest.Wait()
		cancel()
		if <-due {
			t.Error("due although stopped")
		}
	})
}
