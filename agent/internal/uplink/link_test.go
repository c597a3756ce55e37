package uplink

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

// refusals counts the calls of OnRefused.
func refusals(n *atomic.Int32) func(*Config) {
	return func(c *Config) { c.OnRefused = func() { n.Add(1) } }
}

func (b *bench) failures() float64 { return testutil.ToFloat64(b.up.metrics.failures) }

// silent holds that nothing was published and no session counted.
func (b *bench) silent(t *testing.T) {
	t.Helper()
	if n := testutil.ToFloat64(b.up.metrics.sent.WithLabelValues("claim")); n != 0 {
		t.Errorf("%v published", n)
	}
	if n := testutil.ToFloat64(b.up.metrics.sessions); n != 0 {
		t.Errorf("%v sessions", n)
	}
}

// impostor answers on a broker's port until it is closed.
func impostor(t *testing.T, br *broker, answer func(net.Conn)) (stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", strings.TrimPrefix(br.url(), "ssl://"))
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				answer(conn)
			})
		}
	}()
	return func() {
		l.Close()
		<-accepting
		conns.Wait() // each answer ends because the agent closes its side
	}
}

// TestImpostors has the agent meet what is not its broker, and then the broker at the same place.
func TestImpostors(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(t *testing.T, br *broker) func(net.Conn)
		change func(*Config)
	}{
		"captive portal": {answer: func(*testing.T, *broker) func(net.Conn) {
			return func(conn net.Conn) {
				conn.Read(make([]byte, 64))
				io.WriteString(conn, "HTTP/1.1 302 Found\r\nLocation: http://portal.example/login\r\nContent-Length: 0\r\n\r\n")
				io.Copy(io.Discard, conn)
			}
		}},
		"handshake that hangs": {
			answer: func(*testing.T, *broker) func(net.Conn) { return func(conn net.Conn) { io.Copy(io.Discard, conn) } },
			change: func(c *Config) { c.Timeout = 200 * time.Millisecond },
		},
		"closed at once": {answer: func(*testing.T, *broker) func(net.Conn) { return func(net.Conn) {} }},
		"a stranger's certificate": {answer: func(t *testing.T, _ *broker) func(net.Conn) {
			return encrypted(newAuthority(t).issue("broker"), 0)
		}},
		"a certificate that has ended": {answer: func(t *testing.T, br *broker) func(net.Conn) {
			return encrypted(br.ca.issue("broker", time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)), 0)
		}},
		"a certificate for another host": {answer: func(t *testing.T, br *broker) func(net.Conn) {
			return encrypted(tls.Certificate{Certificate: [][]byte{br.ca.cert.Raw}, PrivateKey: br.ca.key}, 0)
		}},
		"TLS 1.2": {answer: func(t *testing.T, br *broker) func(net.Conn) {
			return encrypted(br.ca.issue("broker"), tls.VersionTLS12)
		}},
		"a broker that says nothing": {
			answer: func(t *testing.T, br *broker) func(net.Conn) { return encrypted(br.ca.issue("broker"), 0) },
			change: func(c *Config) { c.Timeout = 500 * time.Millisecond },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			br := &broker{port: freePort(t), ca: newAuthority(t)}
			stop := impostor(t, br, c.answer(t, br))
			var refused atomic.Int32
			b := newBench(t, br, func(cfg *Config) {
				refusals(&refused)(cfg)
				if c.change != nil {
					c.change(cfg)
				}
			})
			b.put(t, wire.KindClaim, "claim", time.Now())
			b.run(t)
			eventually(t, "sessions fail", func() bool { return b.failures() >= 2 })
			b.silent(t)
			if n := refused.Load(); n != 0 {
				t.Errorf("the certificate was doubted %d times on the word of an impostor", n)
			}
			stop()
			br.start(t, t.TempDir(), "")
			startCollector(t, br, func(body []byte, _ int) [][]byte { return [][]byte{receipt(t, b.key, vehicle, body)} })
			b.wait(t, "claim")
		})
	}
}

// encrypted answers over TLS with a certificate and a version at most, and then reads on.
func encrypted(c tls.Certificate, most uint16) func(net.Conn) {
	return func(conn net.Conn) {
		server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c}, MaxVersion: most})
		io.Copy(io.Discard, server)
	}
}

// TestRefusedCertificate holds that a broker that completes the handshake and does not take the car is told of.
func TestRefusedCertificate(t *testing.T) {
	for name, c := range map[string]func(t *testing.T, br *broker, cfg *Config){
		"of a stranger": func(t *testing.T, _ *broker, cfg *Config) {
			cfg.TLS.Certificates = newAuthority(t).client(vehicle).Certificates
		},
		"none": func(_ *testing.T, _ *broker, cfg *Config) { cfg.TLS.Certificates = nil },
		"that has ended": func(_ *testing.T, br *broker, cfg *Config) {
			cfg.TLS.Certificates = []tls.Certificate{br.ca.issue(vehicle, time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))}
		},
		"without a place": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			deny := ""
			if c == nil {
				deny = everything
			}
			br := startBroker(t, t.TempDir(), deny)
			var refused atomic.Int32
			b := newBench(t, br, func(cfg *Config) {
				refusals(&refused)(cfg)
				if c != nil {
					c(t, br, cfg)
				}
			})
			b.put(t, wire.KindClaim, "claim", time.Now())
			b.run(t)
			eventually(t, "the refusal is told", func() bool { return refused.Load() >= 2 })
			b.silent(t)
		})
	}
}

// A wire that can be held up forwards between the agent and its broker.
type wireProxy struct {
	net.Listener
	mu   sync.Mutex
	held chan struct{} // closed while traffic flows
}

func newWireProxy(t *testing.T, to string) *wireProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &wireProxy{Listener: l, held: make(chan struct{})}
	close(p.held)
	var running sync.WaitGroup
	done := make(chan struct{})
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			other, err := net.Dial("tcp", to)
			if err != nil {
				conn.Close()
				continue
			}
			running.Go(func() { p.forward(done, conn, other) })
			running.Go(func() { p.forward(done, other, conn) })
		}
	})
	t.Cleanup(func() {
		close(done)
		l.Close()
		running.Wait()
	})
	return p
}

// forward passes on what from says while traffic flows. A held wire neither reads, answers nor closes.
func (p *wireProxy) forward(done <-chan struct{}, to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 4096)
	for {
		from.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		n, err := from.Read(b)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		p.mu.Lock()
		flows := p.held
		p.mu.Unlock()
		select {
		case <-flows:
		case <-done:
			return
		}
		select {
		case <-done:
			return
		default:
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *wireProxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = make(chan struct{})
}

func (p *wireProxy) flow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.held)
}

// TestHalfOpenLink holds the wire up in the middle of a session: unanswered pings end it long before a receipt is overdue.
func TestHalfOpenLink(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	proxy := newWireProxy(t, strings.TrimPrefix(br.url(), "ssl://"))
	var held atomic.Bool
	b := newBench(t, br, func(c *Config) {
		c.URL = "ssl://" + proxy.Addr().String()
		c.ReceiptWait, c.Linger, c.KeepAlive, c.Timeout = 24*time.Hour, 24*time.Hour, time.Second, time.Second
	})
	c := startCollector(t, br, func(body []byte, _ int) [][]byte {
		if held.CompareAndSwap(false, true) {
			proxy.hold() // with the claim in flight, and no FIN or RST to come
			return nil
		}
		return [][]byte{receipt(t, b.key, vehicle, body)}
	})
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	eventually(t, "the session ends", func() bool { return b.failures() >= 1 })
	if n := len(c.seen()); n != 1 {
		t.Errorf("%d arrived over a dead wire", n)
	}
	proxy.flow()
	b.wait(t, "claim")
}
