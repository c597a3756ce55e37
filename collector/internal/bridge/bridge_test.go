package bridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// scripted is a broker that grants subscriptions with a code and then does what the test says.
func (w *world) scripted(code byte, then func(c net.Conn)) {
	w.t.Helper()
	own, err := tls.LoadX509KeyPair(w.path("server.pem"), w.path("server.key"))
	w.must(err)
	l, err := tls.Listen("tcp", "127.0.0.1:"+strconv.Itoa(w.port), &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert})
	w.must(err)
	done := make(chan struct{})
	w.t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c, code, then)
			c.Close()
		}
	}()
}

func serve(c net.Conn, code byte, then func(net.Conn)) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			if p.ClientIdentifier != "collector" || p.CleanSession {
				return
			}
			_ = packets.NewControlPacket(packets.Connack).Write(c)
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = p.MessageID, []byte{1, code}
			_ = a.Write(c)
			then(c)
			return
		}
	}
}

func publish(c io.Writer, id uint16, dup bool, body string) {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.Qos, p.MessageID, p.Dup, p.TopicName, p.Payload = 1, id, dup, "rawstone/v1/A/claim", []byte(body)
	_ = p.Write(c)
}

// acked returns the message of the next PUBACK.
func acked(c io.Reader) (uint16, error) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return 0, err
		}
		if a, ok := p.(*packets.PubackPacket); ok {
			return a.MessageID, nil
		}
	}
}

// TestAckAfterCustody holds that a PUBACK goes out when JetStream has the message and not before, and what becomes of copies.
func TestAckAfterCustody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.waiting = make(chan struct{})
	result := make(chan error, 1)
	w.scripted(1, func(c net.Conn) {
		result <- func() error {
			publish(c, 1, false, "one")
			w.eventually("it is looked up", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.asked > 0 })
			if err := c.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				return err
			}
			// Nothing comes, and the bridge is still there to send it.
			if id, err := acked(c); err == nil {
				return errors.New("acknowledged before it was queued: " + strconv.Itoa(int(id)))
			} else if !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("the bridge did not wait: %w", err)
			}
			return c.SetReadDeadline(time.Time{})
		}()
		close(w.waiting)
		for i, dup := range []bool{false, true, false} { // the first one's own, a redelivery's, and one that the vehicle sent again
			if i > 0 {
				publish(c, uint16(i+1), dup, "one")
			}
			if id, err := acked(c); err != nil || int(id) != i+1 {
				result <- errors.Join(errors.New("no PUBACK of "+strconv.Itoa(i+1)), err)
				return
			}
		}
		result <- nil
		_, _ = io.Copy(io.Discard, c)
	})
	b := w.bridge()
	for range 2 {
		select {
		case err := <-result:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(hang):
			t.Fatal("the bridge does not come, or not as it should")
		}
	}
	w.eventually("all are counted", func() bool { return b.count(outcomeQueued) == 2 && b.count(outcomeTwice) == 1 })
	if n := w.queued("CLAIMS")["rawstone.v1.A.claim one"]; n != 2 {
		t.Errorf("queued %d times, want 2: as sent and as sent again", n)
	}
	b.stop()
}

// TestForbiddenSubscription holds that a SUBACK that refuses is not taken for success, and is said once.
func TestForbiddenSubscription(t *testing.T) {
	t.Parallel()
	for _, code := range []byte{0x80, 0} {
		w := newWorld(t)
		w.scripted(code, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		b := w.bridge()
		w.eventually("it fails repeatedly", func() bool { return testutil.ToFloat64(b.metrics.failures) >= 3 })
		if testutil.ToFloat64(b.metrics.connected) != 0 {
			t.Error("counts as connected")
		}
		b.stop()
		if n := strings.Count(b.log.String(), "does not grant"); n != 1 {
			t.Errorf("said %d times:\n%s", n, b.log.String())
		}
	}
}

// TestFlood holds that a broker without a window is cut off.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.waiting = make(chan struct{})
	cut := make(chan struct{}, 100)
	w.scripted(1, func(c net.Conn) {
		for id := uint16(1); id < 60_000; id++ {
			publish(c, id, false, strconv.Itoa(int(id)))
		}
		_, _ = io.Copy(io.Discard, c)
		cut <- struct{}{}
	})
	b := w.bridge(func(c *Config) { c.MaxInFlight = 4 })
	select {
	case <-cut:
	case <-time.After(hang):
		t.Fatal("was not cut off")
	}
	b.stop()
	if !strings.Contains(b.log.String(), "more messages at once") || b.waiting.Load() != 0 || len(b.slots) != 0 {
		t.Errorf("%d wait, %d in flight\n%s", b.waiting.Load(), len(b.slots), b.log.String())
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for url, good := range map[string]bool{
		"ssl://127.0.0.1:8883": true, "ssl://[::1]:8883": true, "ssl://mqtt.example:1": true,
		"tcp://127.0.0.1:1883": false, "ssl://127.0.0.1": false, "ssl://:8883": false, "ssl://u:p@h:1": false, "ssl://h:1/x": false, "": false, "ssl://h:": false,
	} {
		if err := CheckURL(url); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
	for url, want := range map[string]string{"ssl://[::1]:8883": "::1", "ssl://mqtt.example:1": "mqtt.example"} {
		if got := host(url); got != want {
			t.Errorf("host of %s is %s", url, got)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("nothing is enough")
	}
	w := newWorld(t)
	own := w.certificate("A")
	if _, err := commonName(&own); err == nil {
		t.Error("a vehicle's certificate is the bridge's")
	}
	for failures := 1; failures < 40; failures++ {
		most := min(time.Second<<min(failures-1, 10), maxPause)
		if p := pause(time.Second, failures); p < most/2 || p > most {
			t.Errorf("pause %d is %s", failures, p)
		}
	}
}
