package bridge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

// TestBothWays carries claims and reports in, and receipts and notices out.
func TestBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mosquitto()
	b := w.up(w.bridge())
	a, other := w.vehicle("A"), w.vehicle("B")
	a.claim("one")
	a.publish("rawstone/v1/A/report", "two")
	w.arrives("CLAIMS", "rawstone.v1.A.claim one")
	w.arrives("REPORTS", "rawstone.v1.A.report two")

	a.reads("rawstone/v1/A/receipt")
	other.reads("rawstone/v1/B/receipt", "rawstone/v1/policy")
	w.must(w.conn.Publish("rawstone.v1.A.receipt", []byte("for A")))
	w.must(w.conn.Publish("rawstone.v1.B.receipt", []byte("for B")))
	if got := a.next(); got != "rawstone/v1/A/receipt for A" {
		t.Errorf("A gets %q", got)
	}
	if got := other.next(); got != "rawstone/v1/B/receipt for B" {
		t.Errorf("B gets %q", got)
	}

	// A notice reaches who is there and who comes later, also after a crash of the broker.
	for _, notice := range []string{"first notice", strings.Repeat("N", MaxNotice)} {
		w.must(b.Keep([]byte(notice)))
		if got := other.next(); got != "rawstone/v1/policy "+notice {
			t.Errorf("a notice of %d bytes came as %d", len(notice), len(got))
		}
	}
	w.eventually("the notice is read back", func() bool { return testutil.ToFloat64(b.metrics.notices) == 2 })
	for _, bad := range []string{"", strings.Repeat("N", MaxNotice+1)} {
		if b.Keep([]byte(bad)) == nil {
			t.Errorf("a notice of %d bytes was taken", len(bad))
		}
	}
	m.kill()
	w.must(os.Remove(w.path("mosquitto.db"))) // and with it all that it held
	w.eventually("the loss is seen", func() bool { return testutil.ToFloat64(b.metrics.connected) == 0 })
	w.mosquitto()
	w.eventually("the notice is there again", func() bool { return testutil.ToFloat64(b.metrics.notices) == 3 })
	late := w.vehicle("LATE")
	late.reads("rawstone/v1/policy")
	if got := late.next(); got != "rawstone/v1/policy "+strings.Repeat("N", MaxNotice) {
		t.Errorf("after the crash a notice of %d bytes came", len(got))
	}
	if strings.Contains(b.log.String(), "rawstone/v1/A") {
		t.Errorf("the log names a vehicle:\n%s", b.log.String())
	}
}

// TestAccess holds that the shipped rules keep a vehicle to its own.
func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mosquitto()
	b := w.up(w.bridge())
	b.Keep([]byte("notice"))
	w.eventually("the notice is read back", func() bool { return testutil.ToFloat64(b.metrics.notices) == 1 })
	a, other := w.vehicle("A"), w.vehicle("B")
	a.reads("rawstone/v1/B/receipt", "rawstone/v1/+/receipt", "rawstone/v1/+/claim", "rawstone/v1/A/claim", "rawstone/v1/A/receipt")
	other.reads("rawstone/v1/B/receipt")

	// Mosquitto acknowledges what it forbids or closes the connection.
	own := w.certificate("E")
	for _, topic := range []string{"rawstone/v1/B/claim", "rawstone/v1/B/receipt", "rawstone/v1/A/receipt", "rawstone/v1/E/receipt", "rawstone/v1/policy", "rawstone/v1/E/claim/x", "x"} {
		forger := w.connect("E", own)
		if !forger.Publish(topic, 1, true, "forged").WaitTimeout(hang) {
			t.Errorf("no answer to a forgery on %s", topic)
		}
		forger.Disconnect(0)
	}
	// A name that the certificate does not give is of no use, nor does it take another's place.
	posing := w.connect("B", w.certificate("C"))
	posing.publish("rawstone/v1/C/claim", "mine")
	if !posing.Publish("rawstone/v1/B/claim", 1, false, "forged").WaitTimeout(hang) {
		t.Error("no answer to a forgery under another's client id")
	}
	w.arrives("CLAIMS", "rawstone.v1.C.claim mine")
	other.claim("mine")
	w.arrives("CLAIMS", "rawstone.v1.B.claim mine")
	if got := w.queued("CLAIMS"); len(got) != 2 {
		t.Errorf("queued: %v", got)
	}
	w.must(w.conn.Publish("rawstone.v1.B.receipt", []byte("for B")))
	w.must(w.conn.Publish("rawstone.v1.A.receipt", []byte("for A")))
	if got := other.next(); got != "rawstone/v1/B/receipt for B" {
		t.Errorf("B gets %q", got)
	}
	// Overlapping subscriptions of A may bring its own twice; all that it gets must be its own.
	if got := a.next(); got != "rawstone/v1/A/receipt for A" {
		t.Errorf("A gets %q", got)
	}
	reader := w.vehicle("D")
	reader.reads("rawstone/v1/policy")
	if got := reader.next(); got != "rawstone/v1/policy notice" {
		t.Errorf("the notice is %q", got)
	}

	// Revoked at the broker, without a restart.
	acl, err := os.ReadFile(w.path("acl"))
	w.must(err)
	w.must(os.WriteFile(w.path("acl"), append(acl, "\nuser B\ntopic deny rawstone/v1/#\n"...), 0o600))
	w.must(m.cmd.Process.Signal(syscall.SIGHUP))
	device := w.certificate("B")
	w.eventually("B gets through no more", func() bool {
		round := fmt.Sprint(len(w.queued("CLAIMS")))
		other := w.connect("B", device)
		other.Publish("rawstone/v1/B/claim", 1, false, "late"+round).WaitTimeout(hang)
		a.claim("after" + round)
		w.arrives("CLAIMS", "rawstone.v1.A.claim after"+round)
		return w.queued("CLAIMS")["rawstone.v1.B.claim late"+round] == 0
	})
}

// TestOutsiders holds that the broker demands TLS 1.3 and a certificate of the authority for vehicles.
func TestOutsiders(t *testing.T) {
	t.Parallel()
	w, stranger := newWorld(t), newWorld(t)
	w.mosquitto()
	ofServer, err := tls.LoadX509KeyPair(w.path("server.pem"), w.path("server.key"))
	w.must(err)
	old := w.options("A", w.certificate("A"))
	old.TLSConfig.MaxVersion = tls.VersionTLS12
	for name, o := range map[string]*mqtt.ClientOptions{
		"no certificate":       w.options("A"),
		"another authority's":  w.options("A", stranger.certificate("A")),
		"a server's":           w.options("A", ofServer),
		"TLS 1.2":              old,
		"a name and no proof":  w.options("A").SetUsername("A").SetPassword("A"),
		"the bridge's, forged": w.options("collector", stranger.certificate("A")).SetUsername("collector"),
	} {
		c := mqtt.NewClient(o)
		if tok := c.Connect(); !tok.WaitTimeout(hang) || tok.Error() == nil {
			t.Errorf("%s: was admitted", name)
		}
		c.Disconnect(0)
	}
	w.vehicle("A").claim("one")
}

// TestCollectorAway holds that the broker keeps more than its default of 1,000 for a collector that is away, through a crash of its own.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mosquitto()
	w.up(w.bridge()).stop()
	a := w.vehicle("A")
	const n = 1200
	var last mqtt.Token
	for i := range n {
		last = a.Publish("rawstone/v1/A/claim", 1, false, fmt.Sprint(i))
		if i%50 == 49 {
			a.done(last)
		}
	}
	a.claim("last")
	// Mosquitto writes a moment after it has acknowledged.
	w.eventually("the last one is on disk", func() bool {
		stored, err := os.ReadFile(w.path("mosquitto.db"))
		return err == nil && bytes.Contains(stored, []byte("claimlast"))
	})
	m.kill()
	w.mosquitto()
	b := w.bridge()
	w.eventually("all are queued", func() bool { return b.count(outcomeQueued) >= n+1 })
	got := w.queued("CLAIMS")
	for i := range n {
		if got[fmt.Sprint("rawstone.v1.A.claim ", i)] == 0 {
			t.Errorf("claim %d is lost", i)
		}
	}
}

// TestBrokerKilled kills the broker again and again while a vehicle sends, as vehicles do: it keeps each message until it holds a receipt for
// it, and sends it again. Each gets into the queue, whatever the broker forgot.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	const kills, each = 5, 60
	w := newWorld(t)
	m := w.mosquitto()
	b := w.up(w.bridge())
	// The intake: it counts, acknowledges and answers.
	seen := make(map[string]int)
	s, err := w.js.CreateConsumer(t.Context(), "CLAIMS", jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	w.must(err)
	consuming, err := s.Consume(func(m jetstream.Msg) {
		w.set(func() { seen[string(m.Data())]++ })
		if err := errors.Join(w.conn.Publish("rawstone.v1.A.receipt", m.Data()), m.Ack()); err != nil {
			t.Error(err)
		}
	})
	w.must(err)
	defer consuming.Stop()

	own := w.certificate("A")
	owed := make(map[string]bool)
	acked, sent := make(map[string]bool), 0
	for round := 0; round == 0 || len(owed) > 0; round++ {
		a := w.connect("A", own)
		a.reads("rawstone/v1/A/receipt")
		if round < kills {
			for i := range each {
				owed[fmt.Sprint(round, "/", i)] = true
			}
		}
		for body := range owed {
			if round < kills && len(acked) > (round+1)*each/2 {
				break
			}
			sent++
			if tok := a.Publish("rawstone/v1/A/claim", 1, false, body); tok.WaitTimeout(hang) && tok.Error() == nil {
				acked[body] = true
			}
		}
		for ended := false; !ended && len(owed) > 0; {
			if round < kills {
				m.kill()
				ended = true
			}
			for more := true; more; {
				select {
				case got := <-a.gets:
					delete(owed, strings.TrimPrefix(got, "rawstone/v1/A/receipt "))
				case <-time.After(patience(round, kills)): // a receipt that comes later is as good as lost: it is sent again
					more, ended = false, true
				}
			}
		}
		a.Disconnect(0)
		if round < kills {
			m = w.mosquitto()
			if round == kills-1 {
				w.eventually("the bridge is back", func() bool { return testutil.ToFloat64(b.metrics.connected) == 1 })
			}
		}
		if round > 100 {
			t.Fatalf("%d are still owed", len(owed))
		}
	}
	w.set(func() {
		lost, twice := 0, 0
		for round := range kills {
			for i := range each {
				switch seen[fmt.Sprint(round, "/", i)] {
				case 0:
					lost++
				case 1:
				default:
					twice++
				}
			}
		}
		t.Logf("%d kills, %d messages sent %d times: %d lost, %d queued more than once, %v redelivered and told apart",
			kills, kills*each, sent, lost, twice, b.count(outcomeTwice))
		if lost > 0 {
			t.Errorf("%d messages are lost", lost)
		}
	})
}

// TestRefused holds that what is refused is acknowledged and holds nothing up.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mosquitto()
	b := w.up(w.bridge())
	w.set(func() { w.gone["GONE"] = true })
	a, gone := w.vehicle("A"), w.vehicle("GONE")
	gone.claim("revoked")
	a.claim(strings.Repeat("x", 4<<10+1))
	a.done(a.Publish("rawstone/v1/A/claim", 1, true, "kept"))
	a.claim("good")
	w.arrives("CLAIMS", "rawstone.v1.A.claim good")
	w.eventually("two are refused", func() bool { return b.count(outcomeVehicle) == 1 && b.count(outcomeLarge) == 1 })
	b.stop()
	again := w.up(w.bridge())
	w.eventually("the retained one is refused", func() bool { return again.count(outcomeRetained) == 1 })
	a.claim("better")
	w.arrives("CLAIMS", "rawstone.v1.A.claim better")
	if got := w.queued("CLAIMS"); len(got) != 3 || again.count(outcomeVehicle)+again.count(outcomeLarge) != 0 {
		t.Errorf("queued %v; refused again: %v and %v", got, again.count(outcomeVehicle), again.count(outcomeLarge))
	}
}

// TestFullQueue holds that the broker keeps what the queue does not take, and that records that cannot be read only delay.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bound("CLAIMS", wire.KindClaim, 4096)
	w.mosquitto()
	b := w.up(w.bridge())
	a := w.vehicle("A")
	const n = 12
	for i := range n {
		a.claim(fmt.Sprint(i, strings.Repeat("x", 1000)))
	}
	w.eventually("the queue is full", func() bool { return testutil.ToFloat64(b.metrics.retries) > 0 })
	if taken := b.count(outcomeQueued); taken == 0 || taken >= n {
		t.Fatalf("%v of %d are queued", taken, n)
	}
	b.stop() // what was not acknowledged comes again
	w.bound("CLAIMS", wire.KindClaim, 1<<20)
	w.set(func() { w.broken = fmt.Errorf("records are away") })
	b = w.up(w.bridge())
	w.eventually("look-ups fail", func() bool { return testutil.ToFloat64(b.metrics.retries) > 0 })
	w.set(func() { w.broken = nil })
	w.eventually("all are queued", func() bool { return len(w.queued("CLAIMS")) == n })
}

// patience is how long a receipt is waited for: longer each round after the last kill, so that a loaded machine gets there too.
func patience(round, kills int) time.Duration {
	return 300 * time.Millisecond << min(max(round-kills, 0), 7)
}
