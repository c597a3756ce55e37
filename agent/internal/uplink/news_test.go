package uplink

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

// rulebook plays who believes notices: those that begin with "good" put the next news off.
type rulebook struct {
	mu  sync.Mutex
	due time.Time
	got []string
}

func (r *rulebook) take(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, string(b[:min(len(b), 100)]))
	if strings.HasPrefix(string(b), "good") && !r.due.IsZero() {
		r.due = time.Now().Add(time.Hour)
	}
}

func (r *rulebook) newsDue() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.due
}

func (r *rulebook) want(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = at
}

func (r *rulebook) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *rulebook) use(c *Config) { c.OnNotice, c.NewsDue = r.take, r.newsDue }

// publish has the collector publish a notice, kept for who subscribes later where retained says so, and waits until the broker has it.
func (c *collector) publish(t *testing.T, b []byte, retained bool) {
	t.Helper()
	if tok := c.client.Publish(wire.PolicyTopic, 1, retained, b); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatalf("cannot publish notice: %v", tok.Error())
	}
}

func answering(b *bench, t *testing.T) func([]byte, int) [][]byte {
	return func(body []byte, _ int) [][]byte { return [][]byte{receipt(t, b.key, vehicle, body)} }
}

func (b *bench) count(what string) float64 {
	switch what {
	case "sessions":
		return testutil.ToFloat64(b.up.metrics.sessions)
	case "failures":
		return testutil.ToFloat64(b.up.metrics.failures)
	case "notices":
		return testutil.ToFloat64(b.up.metrics.notices)
	}
	return testutil.ToFloat64(b.up.metrics.newsless)
}

// Nothing is to be sent, but news is due: the car connects, gets the retained notice and is gone, long before it would have lingered.
func TestNewsAlone(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	var r rulebook
	b := newBench(t, br, func(c *Config) { r.use(c); c.Linger = time.Hour })
	c := startCollector(t, br, answering(b, t))
	want := "good " + strings.Repeat("n", MaxNoticeLen-5) // the longest
	c.publish(t, []byte(want), true)
	b.run(t)
	for i := range 2 {
		r.want(time.Now())
		b.up.Wake()
		eventually(t, "the notice comes", func() bool { return len(r.seen()) == i+1 })
		eventually(t, "the car disconnects", func() bool { return br.NumClients() == 1 })
	}
	if got := r.seen(); got[0] != want[:100] {
		t.Errorf("notice %q", got[0])
	}
	if b.count("sessions") != 2 || b.count("failures") != 0 || b.count("newsless") != 0 || b.count("notices") != 2 {
		t.Errorf("%v sessions, %v failures, %v without news, %v notices", b.count("sessions"), b.count("failures"), b.count("newsless"), b.count("notices"))
	}
	if n := b.ignored("oversized") + b.ignored("foreign") + b.ignored("overflow"); n != 0 {
		t.Errorf("%v messages ignored", n)
	}
}

// The broker has no notice, or one that nobody believes: the car tries again with a back-off, and does not spin.
func TestNoNewsBacksOff(t *testing.T) {
	for name, retained := range map[string]string{"none there": "", "not believed": "bad"} {
		t.Run(name, func(t *testing.T) {
			br := startBroker(t, t.TempDir(), "")
			r := rulebook{due: time.Now()}
			b := newBench(t, br, func(c *Config) {
				r.use(c)
				c.Linger, c.BackoffMin, c.BackoffMax = 10*time.Millisecond, 10*time.Millisecond, time.Second
			})
			c := startCollector(t, br, answering(b, t))
			if retained != "" {
				c.publish(t, []byte(retained), true)
			}
			// Sums of halves of 10 ms · 2ⁿ: the 4th session lies at least 35 ms after the first.
			began := time.Now()
			b.run(t)
			eventually(t, "sessions without news", func() bool { return b.count("newsless") >= 4 })
			if waited := time.Since(began); waited < 35*time.Millisecond {
				t.Errorf("4 sessions in %v: it spins", waited)
			}
			if b.count("failures") != 0 || b.count("sessions") > b.count("newsless")+1 {
				t.Errorf("%v failures, %v sessions, %v without news", b.count("failures"), b.count("sessions"), b.count("newsless"))
			}
			// Deliveries do not wait for the back-off.
			b.put(t, wire.KindClaim, "claim", time.Now())
			b.wait(t, "claim")
			c.publish(t, []byte("good"), true)
			eventually(t, "the news comes at last", func() bool { return slices.Contains(r.seen(), "good") })
		})
	}
}

// A session for deliveries brings the notice along, and the claim that is due during a session for news leaves in it.
func TestNewsWithDeliveries(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	r := rulebook{due: time.Now()}
	b := newBench(t, br, r.use)
	c := startCollector(t, br, answering(b, t))
	c.publish(t, []byte("good 1"), true)
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	b.wait(t, "claim")
	eventually(t, "the car disconnects", func() bool { return br.NumClients() == 1 })
	if got := r.seen(); !slices.Equal(got, []string{"good 1"}) || b.count("sessions") != 1 || b.count("newsless") != 0 {
		t.Errorf("got %q in %v sessions, %v without news", got, b.count("sessions"), b.count("newsless"))
	}
}

// A notice that is published while the car is connected arrives at once, not only when it is due.
func TestNewsWhileConnected(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	var r rulebook // never due
	b := newBench(t, br, func(c *Config) { r.use(c); c.Linger = time.Minute })
	c := startCollector(t, br, answering(b, t))
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	b.wait(t, "claim")
	c.publish(t, []byte("good"), true)
	eventually(t, "the notice comes", func() bool { return slices.Equal(r.seen(), []string{"good"}) })
}

// The broker forbids the policies to this car: deliveries go on, news alone backs off.
func TestForbiddenNewsDoesNotStopDeliveries(t *testing.T) {
	br := startBroker(t, t.TempDir(), strings.ReplaceAll(wire.PolicyTopic, "/", "."))
	r := rulebook{due: time.Now()}
	b := newBench(t, br, func(c *Config) { r.use(c); c.Linger = 10 * time.Millisecond })
	startCollector(t, br, answering(b, t))
	b.run(t)
	eventually(t, "sessions without news", func() bool { return b.count("newsless") >= 2 })
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.wait(t, "claim")
	if len(r.seen()) != 0 || b.count("failures") != 0 {
		t.Errorf("notices %q, %v failures", r.seen(), b.count("failures"))
	}
}

// A flood of notices and one that is too long are counted and cost neither memory nor the receipt.
func TestFloodOfNoticesIsBounded(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	var r rulebook // never due
	b := newBench(t, br, r.use)
	var c *collector
	c = startCollector(t, br, func(body []byte, _ int) [][]byte {
		for i := range 200 {
			c.client.Publish(wire.PolicyTopic, 0, false, fmt.Appendf(nil, "notice %d", i))
		}
		c.client.Publish(wire.PolicyTopic, 0, false, bytes.Repeat([]byte{1}, MaxNoticeLen+1))
		return [][]byte{receipt(t, b.key, vehicle, body)}
	})
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	b.wait(t, "claim")
	eventually(t, "the long one is counted", func() bool { return b.ignored("oversized") == 1 })
	eventually(t, "the car disconnects", func() bool { return br.NumClients() == 1 })
	if n := len(r.seen()); n == 0 || n > maxNotices {
		t.Errorf("%d notices handed over, want 1 to %d", n, maxNotices)
	}
	eventually(t, "the others are counted", func() bool { return b.ignored("overflow") == float64(200-len(r.seen())) })
	if b.count("failures") != 0 {
		t.Errorf("%v failures", b.count("failures"))
	}
}

// Without a taker there is no subscription.
func TestNobodyWantsNotices(t *testing.T) {
	br := startBroker(t, t.TempDir(), "")
	b := newBench(t, br, nil)
	c := startCollector(t, br, answering(b, t))
	c.publish(t, []byte("good"), true)
	b.put(t, wire.KindClaim, "claim", time.Now())
	b.run(t)
	b.wait(t, "claim")
	if n := b.ignored("foreign"); n != 0 {
		t.Errorf("%v notices came", n)
	}
	// A broker may send one all the same.
	s := session{Uplink: b.up, notices: make(chan []byte, noticesLen)}
	if s.receive(nil, unasked{}); len(s.notices) != 0 || b.ignored("foreign") != 1 {
		t.Errorf("%d notices taken, %v ignored", len(s.notices), b.ignored("foreign"))
	}
}

// unasked is a notice.
type unasked struct{ mqtt.Message }

func (unasked) Topic() string   { return wire.PolicyTopic }
func (unasked) Payload() []byte { return []byte("good") }

func TestNewsWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rulebook
		u := &Uplink{cfg: Config{Ready: func() bool { return true }, Spool: &stubSpool{}, Hold: prompt{}, Now: time.Now, NewsDue: r.newsDue}, wake: make(chan struct{}, 1)}
		began := time.Now()
		ready := make(chan time.Duration, 1)
		await := func() { u.await(t.Context()); ready <- time.Since(began) }
		go await()
		time.Sleep(time.Hour)
		r.want(time.Now().Add(time.Second))
		u.Wake()
		if at := <-ready; at != time.Hour+time.Second {
			t.Errorf("ready after %v", at)
		}
		// What backs off is not tried earlier, whatever wakes.
		u.retryNews = time.Now().Add(time.Hour)
		u.Wake()
		go await()
		if at := <-ready; at != 2*time.Hour+time.Second {
			t.Errorf("ready after %v in spite of the back-off", at)
		}
	})
}

// A delivery may bring the news while it backs off: the next is asked for as if none had failed. What is not believed changes nothing.
func TestNewsThatCameForgetsTheBackOff(t *testing.T) {
	r := rulebook{due: time.Now()}
	b := newBench(t, &broker{port: 1, ca: newAuthority(t)}, r.use)
	later := time.Now().Add(time.Hour)
	b.up.newsless, b.up.retryNews = 7, later
	s := session{Uplink: b.up, wanted: true}
	if s.notice([]byte("bad")) || !s.wanted || b.up.newsless != 7 || b.up.retryNews != later {
		t.Errorf("a notice that is not believed is news: wanted %v, %d failures", s.wanted, b.up.newsless)
	}
	if !s.notice([]byte("good")) || s.wanted || b.up.newsless != 0 || !b.up.retryNews.IsZero() {
		t.Errorf("after the news: wanted %v, %d failures", s.wanted, b.up.newsless)
	}
	if s.notice([]byte("good")) {
		t.Error("news that was not due is progress")
	}
}
