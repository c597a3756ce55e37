package uplink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/pkg/wire"
)

const (
	// The broker keeps no state for the vehicle: a lost receipt is asked for by sending again, a lost notice at the next subscription.
	qosReceipt = 0
	qosNotice  = 0
	qosSubmit  = 1
	// refused is the SUBACK code of a forbidden subscription (MQTT 3.1.1 §3.9.3).
	refused = 0x80
	// inboxLen bounds the receipts that wait; more are dropped, and come again.
	inboxLen = 16
	// noticesLen bounds the notices that wait, maxNotices those that are handed over in one session; more are dropped, and the next
	// session gets the newest.
	noticesLen = 2
	maxNotices = 16
	// quiesce is the time for a DISCONNECT to leave, in milliseconds.
	quiesce = 100
)

var (
	kinds        = [...]wire.Kind{wire.KindClaim, wire.KindReport}
	sentMessages = [len(kinds)]string{"claim sent", "report sent"}
)

// flight is one submission between publication and receipt.
type flight struct {
	id       wire.Hash
	body     []byte
	deadline time.Time
	token    mqtt.Token // nil once the broker has answered
}

// session is one connection.
type session struct {
	*Uplink
	client  mqtt.Client
	lost    chan error
	inbox   chan []byte
	notices chan []byte
	flights [len(kinds)]*flight
	// turn is the kind that is sent first. Of a kind that was answered, what follows is overdue and not held: the car has spoken.
	turn     int
	answered [len(kinds)]bool

	// sent says that something was published, handed counts the notices that were handed over.
	sent   bool
	handed int
	// wanted says that news was due when the session began and has not come.
	wanted bool
}

// session connects and delivers until nothing is due (no error) or something fails. It says whether a receipt was acted upon, or
// news that was due came.
func (u *Uplink) session(ctx context.Context) (progress bool, err error) {
	s := &session{
		Uplink: u, lost: make(chan error, 1), inbox: make(chan []byte, inboxLen), notices: make(chan []byte, noticesLen), wanted: u.newsDue(),
		turn: newTurn(),
	}
	var shook atomic.Bool
	s.client = mqtt.NewClient(s.options().SetCustomOpenConnectionFn(dial(ctx, s.cfg.Timeout, s.cfg.TLS, &shook)))
	if err := s.wait(ctx, s.client.Connect()); err != nil {
		s.client.Disconnect(0)
		if shook.Load() && ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			u.cfg.OnRefused()
		}
		return false, fmt.Errorf("cannot connect to broker: %w", err)
	}
	defer s.client.Disconnect(quiesce)
	u.metrics.sessions.Inc()
	if err := s.subscribe(ctx); err != nil {
		return false, fmt.Errorf("cannot subscribe to receipts: %w", err)
	}
	progress, err = s.deliver(ctx)
	if s.wanted && err == nil {
		u.noNews()
	}
	return progress, err
}

// newTurn returns the index of the kind that a session sends first.
func newTurn() int { return rand.IntN(len(kinds)) }

func (s *session) options() *mqtt.ClientOptions {
	return mqtt.NewClientOptions().
		AddBroker(s.cfg.URL).
		SetClientID(s.cfg.Vehicle).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetStore(mqtt.NewMemoryStore()).
		SetOrderMatters(false).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(s.cfg.Timeout).
		SetWriteTimeout(s.cfg.Timeout).
		SetPingTimeout(s.cfg.Timeout).
		SetKeepAlive(s.cfg.KeepAlive).
		SetDefaultPublishHandler(s.receive).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			select {
			case s.lost <- err:
			default:
			}
		})
}

// receive takes a message from the broker; it must not block.
func (s *session) receive(_ mqtt.Client, m mqtt.Message) {
	inbox := s.inbox
	switch {
	case m.Topic() == wire.PolicyTopic && s.cfg.OnNotice != nil:
		if len(m.Payload()) > MaxNoticeLen {
			s.ignore("oversized")
			return
		}
		inbox = s.notices
	case m.Topic() != wire.Topic(s.cfg.Vehicle, wire.KindReceipt) || len(m.Payload()) > wire.ReceiptLen:
		s.ignore("foreign")
		return
	}
	select {
	case inbox <- m.Payload():
	default:
		s.ignore("overflow")
	}
}

func (s *session) ignore(reason string) { s.metrics.ignored.WithLabelValues(reason).Inc() }

// wait waits for a token, the timeout, or ctx.
func (s *session) wait(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(s.cfg.Timeout)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.lost:
		return fmt.Errorf("connection lost: %w", err)
	case <-timer.C:
		return fmt.Errorf("no answer in %v: %w", s.cfg.Timeout, os.ErrDeadlineExceeded)
	case <-t.Done():
		return t.Error()
	}
}

func (s *session) subscribe(ctx context.Context) error {
	topic := wire.Topic(s.cfg.Vehicle, wire.KindReceipt)
	filters := map[string]byte{topic: qosReceipt}
	if s.cfg.OnNotice != nil {
		filters[wire.PolicyTopic] = qosNotice
	}
	token := s.client.SubscribeMultiple(filters, s.receive)
	if err := s.wait(ctx, token); err != nil {
		return err
	}
	granted, ok := token.(*mqtt.SubscribeToken)
	if !ok {
		return errors.New("the client returned no code")
	}
	if code, ok := granted.Result()[topic]; !ok || code == refused {
		return fmt.Errorf("the broker forbids it (code %#x): is this vehicle allowed there?", code)
	}
	if code, ok := granted.Result()[wire.PolicyTopic]; s.cfg.OnNotice != nil && (!ok || code == refused) {
		s.log.Warn("the broker forbids the subscription to the program's rules; deliveries go on", "code", code)
	}
	return nil
}

// deliver publishes what is due and handles receipts.
func (s *session) deliver(ctx context.Context) (progress bool, err error) {
	idle := time.Now().Add(s.cfg.Linger)
	for {
		if s.publish() {
			idle = time.Now().Add(s.cfg.Linger)
		}
		timer := time.NewTimer(s.untilNext(idle))
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case err = <-s.lost:
			err = fmt.Errorf("connection lost: %w", err)
		case <-s.done(0):
			err = s.acknowledged(0)
		case <-s.done(1):
			err = s.acknowledged(1)
		case <-s.cfg.Spool.Changed():
		case signed := <-s.inbox:
			var acted bool
			if acted, err = s.receipt(ctx, signed); acted {
				progress, idle = true, time.Now().Add(s.cfg.Linger)
			}
		case b := <-s.notices:
			if s.notice(b) {
				progress = true
			}
			if !s.sent {
				idle = time.Now() // nothing else to stay for, unless something has become due
			}
		case <-timer.C:
			var over bool
			if over, err = s.over(idle); over {
				timer.Stop()
				return progress, nil
			}
		}
		timer.Stop()
		if err != nil {
			return progress, err
		}
	}
}

// publish sends the next due submission of each kind that has none in flight.
func (s *session) publish() (sent bool) {
	for n := range kinds {
		i := (s.turn + n) % len(kinds)
		kind := kinds[i]
		if s.flights[i] != nil {
			continue
		}
		id, body, ok := s.next(i)
		if !ok {
			continue
		}
		token := s.client.Publish(wire.Topic(s.cfg.Vehicle, kind), qosSubmit, false, body)
		s.flights[i] = &flight{id: id, body: body, deadline: time.Now().Add(s.cfg.ReceiptWait), token: token}
		s.metrics.sent.WithLabelValues(string(kind)).Inc()
		s.log.Info(sentMessages[i], "bytes", len(body))
		sent, s.sent = true, true
	}
	return sent
}

// next returns the oldest submission of a kind that may leave.
func (s *session) next(i int) (wire.Hash, []byte, bool) {
	var list []wire.Hash
	s.cfg.Spool.Each(func(id wire.Hash, kind wire.Kind, due time.Time) {
		if kind == kinds[i] && (s.until(id, due) <= 0 || s.answered[i] && !due.After(s.cfg.Now())) {
			list = append(list, id)
		}
	})
	for _, id := range list {
		if body, ok := s.cfg.Spool.Bytes(id); ok {
			return id, body, true
		}
	}
	return wire.Hash{}, nil, false
}

// notice hands a notice over and says whether it was the news that was due. It does not prolong the session.
func (s *session) notice(b []byte) (news bool) {
	if s.handed++; s.handed > maxNotices {
		s.ignore("overflow")
		return false
	}
	s.metrics.notices.Inc()
	s.cfg.OnNotice(b)
	if s.newsDue() {
		return false
	}
	news = s.wanted
	s.wanted, s.newsless, s.retryNews = false, 0, time.Time{}
	return news
}

// done returns the channel of a flight's token, nil where there is none to wait for.
func (s *session) done(i int) <-chan struct{} {
	if f := s.flights[i]; f != nil && f.token != nil {
		return f.token.Done()
	}
	return nil
}

// acknowledged looks at a token only for its error: that there is none proves nothing.
func (s *session) acknowledged(i int) error {
	err := s.flights[i].token.Error()
	s.flights[i].token = nil
	if err != nil {
		return fmt.Errorf("cannot publish %s: %w", kinds[i], err)
	}
	return nil
}

// untilNext returns the time until a receipt is overdue, something becomes due, or the session has idled long enough.
func (s *session) untilNext(idle time.Time) time.Duration {
	next, flying := idle, false
	for _, f := range s.flights {
		if f != nil && (!flying || f.deadline.Before(next)) {
			next, flying = f.deadline, true
		}
	}
	wait := time.Until(next)
	s.cfg.Spool.Each(func(id wire.Hash, _ wire.Kind, due time.Time) {
		if d := s.until(id, due); d > 0 {
			wait = min(wait, d)
		}
	})
	return max(wait, 0)
}

// over ends a session in which a receipt is overdue, with an error, or that has idled, without.
func (s *session) over(idle time.Time) (bool, error) {
	now, flying := time.Now(), false
	for i, f := range s.flights {
		if f == nil {
			continue
		}
		flying = true
		if !now.Before(f.deadline) {
			return false, fmt.Errorf("no receipt for the %s in %v", kinds[i], s.cfg.ReceiptWait)
		}
	}
	return !flying && !now.Before(idle), nil
}

// receipt verifies one receipt and has it acted upon. What is not for this vehicle's submissions in flight is ignored.
func (s *session) receipt(ctx context.Context, signed []byte) (acted bool, err error) {
	r, err := wire.OpenReceipt(s.cfg.ReceiptKeys, signed)
	if err != nil {
		s.ignore("forged")
		s.log.Warn("receipt ignored", "error", err)
		return false, nil
	}
	if r.Vehicle != s.cfg.Vehicle {
		s.ignore("foreign")
		return false, nil
	}
	for i, f := range s.flights {
		if f == nil || f.id != r.Submission {
			continue
		}
		if err := s.cfg.OnReceipt(ctx, kinds[i], f.body, r, signed); err != nil {
			return false, err
		}
		s.flights[i], s.answered[i] = nil, true
		s.note(r)
		return true, nil
	}
	s.ignore("unknown")
	return false, nil
}

func (s *session) note(r *wire.Receipt) {
	var km uint32
	for _, c := range r.Credits {
		km += c.Km
	}
	outcome := "accepted"
	if !r.Accepted {
		outcome = "refused"
	}
	s.metrics.receipts.WithLabelValues(outcome).Inc()
	s.log.Info("receipt received", "accepted", r.Accepted, "reason", string(r.Reason), "km", km)
}
