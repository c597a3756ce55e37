package bridge

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/wire"
)

const hang = time.Minute

// A world is authorities, registered vehicles, queues, and a broker's place.
type world struct {
	t     *testing.T
	dir   string
	port  int
	roots *x509.CertPool
	fleet *ca.Vehicles
	conn  *nats.Conn
	js    jetstream.JetStream

	mu      sync.Mutex
	gone    map[string]bool // vehicles that may not speak
	broken  error
	asked   int
	waiting chan struct{} // look-ups wait until it is closed, when there is one
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), gone: make(map[string]bool)}
	now := time.Now()
	w.must(ca.Init(w.path("ca"), now))
	w.must(ca.IssueServer(w.path("ca"), []string{"127.0.0.1"}, w.path("server.pem"), w.path("server.key"), now))
	w.must(ca.IssueBridge(w.path("ca"), ca.BridgeName, w.path("bridge.pem"), w.path("bridge.key"), now))
	var err error
	w.fleet, err = ca.OpenVehicles(w.path("ca/vehicle-ca.pem"), w.path("ca/vehicle-ca.key"))
	w.must(err)
	w.roots, err = ca.Pool(w.path("ca/server-ca.pem"))
	w.must(err)
	w.port = w.freePort()
	w.queues()
	return w
}

// freePort returns a port for a broker that is started later and again. It lies below those that the kernel hands out to whoever asks for any
// (/proc/sys/net/ipv4/ip_local_port_range), so that nobody gets it in between.
func (w *world) freePort() int {
	w.t.Helper()
	for range 100 {
		port := 20_000 + mathrand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			w.must(l.Close())
			return port
		}
	}
	w.t.Fatal("no free port")
	return 0
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// queues starts JetStream with the collector's streams.
func (w *world) queues() {
	w.t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "queues", DontListen: true, NoSigs: true, NoLog: true, JetStream: true, StoreDir: w.path("queue")})
	w.must(err)
	s.Start()
	w.t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(hang) {
		w.t.Fatal("queues do not start")
	}
	w.conn, err = nats.Connect("", nats.InProcessServer(s))
	w.must(err)
	w.t.Cleanup(w.conn.Close)
	w.js, err = jetstream.New(w.conn)
	w.must(err)
	for name, kind := range map[string]wire.Kind{"CLAIMS": wire.KindClaim, "REPORTS": wire.KindReport} {
		w.bound(name, kind, 64<<20)
	}
}

// bound makes a queue of so many bytes.
func (w *world) bound(name string, kind wire.Kind, most int64) {
	w.t.Helper()
	_, err := w.js.CreateOrUpdateStream(w.t.Context(), jetstream.StreamConfig{
		Name: name, Subjects: []string{wire.Subject("*", kind)}, Retention: jetstream.WorkQueuePolicy, MaxBytes: most, MaxMsgSize: 4 << 10,
		Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute,
	})
	w.must(err)
}

// Device implements Vehicles.
func (w *world) Device(ctx context.Context, vehicle string) (key wire.PublicKey, ok bool, err error) {
	w.mu.Lock()
	w.asked++
	waiting, gone, broken := w.waiting, w.gone[vehicle], w.broken
	w.mu.Unlock()
	if waiting != nil {
		select {
		case <-waiting:
		case <-ctx.Done():
			return key, false, ctx.Err()
		}
	}
	return key, !gone, broken
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// queued returns what a queue holds, with how often.
func (w *world) queued(stream string) map[string]int {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream)
	w.must(err)
	info, err := s.Info(w.t.Context())
	w.must(err)
	all := make(map[string]int)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		m, err := s.GetMsg(w.t.Context(), seq)
		w.must(err)
		if id := m.Header.Get(jetstream.MsgIDHeader); id != "" && id != messageID(m.Subject, m.Data) {
			w.t.Errorf("%s has the identifier %s", m.Subject, id)
		}
		all[m.Subject+" "+string(m.Data)]++
	}
	return all
}

func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(hang); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

// arrives waits until a queue holds a message.
func (w *world) arrives(stream, message string) {
	w.t.Helper()
	w.eventually(message+" is queued", func() bool { return w.queued(stream)[message] > 0 })
}

func (w *world) url() string { return fmt.Sprintf("ssl://127.0.0.1:%d", w.port) }

// A mosquitto is a running broker with the configuration that configs ships.
type mosquitto struct {
	w   *world
	cmd *exec.Cmd
	log bytes.Buffer
}

// configure writes the shipped files with the test's paths, once.
func (w *world) configure() string {
	w.t.Helper()
	path := w.path("mosquitto.conf")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	shipped, err := os.ReadFile("../../../configs/mosquitto/mosquitto.conf")
	w.must(err)
	text := string(shipped)
	for _, r := range [][2]string{
		{"listener 8883\n", fmt.Sprintf("listener %d 127.0.0.1\n", w.port)},
		{"/var/lib/mosquitto/\n", w.dir + "/\n"},
		{"/etc/mosquitto/server.pem", w.path("server.pem")}, {"/etc/mosquitto/server.key", w.path("server.key")},
		{"/etc/mosquitto/vehicle-ca.pem", w.path("ca/vehicle-ca.pem")}, {"/etc/mosquitto/acl", w.path("acl")},
	} {
		if strings.Count(text, r[0]) != 1 {
			w.t.Fatalf("%q is not once in the shipped configuration", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	if os.Getuid() == 0 {
		text += "user root\n" // who owns the test's directory
	}
	w.must(os.WriteFile(path, []byte(text), 0o600))
	acl, err := os.ReadFile("../../../configs/mosquitto/acl")
	w.must(err)
	w.must(os.WriteFile(w.path("acl"), acl, 0o600))
	return path
}

func (w *world) mosquitto() *mosquitto {
	w.t.Helper()
	const program = "/usr/sbin/mosquitto"
	if _, err := os.Stat(program); err != nil {
		w.t.Skip("no /usr/sbin/mosquitto: install Debian's package mosquitto")
	}
	m := &mosquitto{w: w, cmd: exec.Command(program, "-c", w.configure())}
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.must(m.cmd.Start())
	w.t.Cleanup(m.kill)
	w.eventually("mosquitto listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return m
}

// kill ends the broker as a crash does.
func (m *mosquitto) kill() {
	if m.cmd.ProcessState != nil {
		return
	}
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // which says that it was killed
}

// A running bridge.
type running struct {
	*Bridge
	log  bytes.Buffer
	stop func()
}

// bridge runs one; its stop waits until it has ended.
func (w *world) bridge(change ...func(*Config)) *running {
	w.t.Helper()
	own, err := tls.LoadX509KeyPair(w.path("bridge.pem"), w.path("bridge.key"))
	w.must(err)
	r := &running{}
	c := Config{
		URL: w.url(), Roots: w.roots, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }, Conn: w.conn,
		MaxMessage: 4 << 10, FirstPause: 20 * time.Millisecond, Vehicles: w, Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	r.Bridge, err = New(c)
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Error(err)
			}
		case <-time.After(hang):
			w.t.Error("the bridge does not stop")
		}
	})
	w.t.Cleanup(r.stop)
	return r
}

func (w *world) up(b *running) *running {
	w.t.Helper()
	w.eventually("the bridge is up", func() bool { return testutil.ToFloat64(b.metrics.connected) == 1 })
	return b
}

func (b *running) count(outcome string) float64 {
	return testutil.ToFloat64(b.metrics.messages.WithLabelValues(outcome))
}

func (w *world) certificate(vehicle string) tls.Certificate {
	w.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	public, err := wire.NewPublicKey(key.Public())
	w.must(err)
	der, _, err := w.fleet.Issue(vehicle, public, time.Now())
	w.must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (w *world) options(id string, own ...tls.Certificate) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker(w.url()).SetClientID(id).SetCleanSession(true).SetAutoReconnect(false).SetProtocolVersion(4).
		SetConnectTimeout(hang).SetWriteTimeout(hang).SetTLSConfig(&tls.Config{RootCAs: w.roots, Certificates: own})
}

// A client is a vehicle's.
type client struct {
	mqtt.Client
	w    *world
	id   string
	gets chan string
}

func (w *world) connect(id string, own tls.Certificate) *client {
	w.t.Helper()
	c := &client{Client: mqtt.NewClient(w.options(id, own)), w: w, id: id, gets: make(chan string, 10_000)}
	c.done(c.Connect())
	w.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (w *world) vehicle(id string) *client { return w.connect(id, w.certificate(id)) }

func (c *client) done(t mqtt.Token) {
	c.w.t.Helper()
	if !t.WaitTimeout(hang) || t.Error() != nil {
		c.w.t.Fatalf("%s: %v", c.id, t.Error())
	}
}

func (c *client) publish(topic, body string) {
	c.w.t.Helper()
	c.done(c.Publish(topic, 1, false, body))
}

func (c *client) claim(body string) {
	c.w.t.Helper()
	c.publish(wire.Topic(c.id, wire.KindClaim), body)
}

// reads subscribes; what comes lies in gets as "TOPIC BODY".
func (c *client) reads(topics ...string) {
	c.w.t.Helper()
	for _, topic := range topics {
		c.done(c.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { c.gets <- m.Topic() + " " + string(m.Payload()) }))
	}
}

func (c *client) next() string {
	c.w.t.Helper()
	select {
	case got := <-c.gets:
		return got
	case <-time.After(hang):
		c.w.t.Fatalf("%s gets nothing", c.id)
		return ""
	}
}
