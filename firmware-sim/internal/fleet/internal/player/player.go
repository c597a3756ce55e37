// Package player plays the vehicles of a roster over a bounded number of connections, at a rate or flat out.
//
// A vehicle connects, sends its claims in order, one in flight, and leaves. What is without a receipt for too long is sent again over another
// connection, to the next broker. Receipts are verified and compared with what the claim is worth; nothing else counts. What happens is
// told as events, in the order in which it happened to each vehicle.
package player

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"rawstone/firmware-sim/internal/fleet/internal/roster"
	"rawstone/firmware-sim/internal/fleet/internal/session"
	"rawstone/pkg/wire"
)

const (
	dialTimeout = 20 * time.Second
	// receiptWait is how long a vehicle waits for a receipt before it connects anew and sends again.
	receiptWait = 15 * time.Second
	// startWait is how long the first vehicles get to connect before the clock starts all the same.
	startWait = time.Minute
	// The wait after a failed connection, which doubles, half of it by chance.
	backoffMin, backoffMax = 50 * time.Millisecond, 5 * time.Second
)

// An Event is what a vehicle tells about its delivery.
type Event struct {
	Vehicle, Claim int
	Outcome        Outcome
	Km             uint32
	Reason         wire.Reason
	Took           time.Duration // from publication to receipt
	Err            error
}

// An Outcome is what kind of event it is.
type Outcome int

// The outcomes.
const (
	Accepted Outcome = iota
	Refused          // with Reason; the vehicle stops
	Repeated         // the claim is sent once more
	Cut              // the connection failed, with Err
	GaveUp           // no progress for too long: the vehicle stops
	Wrong            // a receipt that does not verify or does not say what the claim is worth; the vehicle stops
)

// Config says what is played; every field but Rate is required.
type Config struct {
	Roster *roster.Roster
	// Certificates are the vehicles', in DER.
	Certificates [][]byte
	// Claims are those of each vehicle that are due, First the number of the first of them.
	Claims [][][]byte
	First  []int
	// Connections is how many vehicles are connected at a time, Rate how many claims a second are sent; 0 means flat out.
	Connections int
	Rate        float64
	// Patience is how long a vehicle tries without progress.
	Patience time.Duration
	// Note is told every event, in the goroutine that called Play.
	Note func(Event)
}

type player struct {
	Config
	pace      *pace
	events    chan Event
	connected sync.WaitGroup
	start     chan struct{}
}

// Play delivers all claims. It returns when the clock started: once the first vehicles were connected.
func Play(ctx context.Context, cfg Config) (began time.Time, err error) {
	p := &player{Config: cfg, pace: newPace(cfg.Rate), events: make(chan Event, 1024), start: make(chan struct{})}
	var due []int
	for i, c := range p.Claims {
		if len(c) > 0 {
			due = append(due, i)
		}
	}
	queue := make(chan int, len(due))
	for _, i := range due {
		queue <- i
	}
	close(queue)
	workers := min(p.Connections, len(due))
	p.connected.Add(workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() { p.work(ctx, w, queue) })
	}
	began = p.release(ctx)
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	for {
		select {
		case e := <-p.events:
			p.Note(e)
		case <-done:
			for {
				select {
				case e := <-p.events:
					p.Note(e)
				default:
					return began, ctx.Err()
				}
			}
		}
	}
}

// release starts the clock once the first vehicles are connected.
func (p *player) release(ctx context.Context) time.Time {
	ready := make(chan struct{})
	go func() { p.connected.Wait(); close(ready) }()
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	for {
		select {
		case e := <-p.events:
			p.Note(e)
			continue
		case <-ready:
		case <-timer.C:
		case <-ctx.Done():
		}
		began := time.Now()
		close(p.start)
		return began
	}
}

// work plays one vehicle after the other.
func (p *player) work(ctx context.Context, worker int, queue <-chan int) {
	connected := sync.OnceFunc(p.connected.Done)
	defer connected()
	for i := range queue {
		if ctx.Err() != nil {
			return
		}
		p.vehicle(ctx, worker, i, connected)
	}
}

// vehicle delivers a vehicle's claims, however often it has to connect.
func (p *player) vehicle(ctx context.Context, worker, i int, connected func()) {
	tlsConfig, err := p.tls(i)
	if err != nil {
		p.tell(ctx, Event{Vehicle: i, Outcome: GaveUp, Err: err})
		return
	}
	next, fails, sent, progress := 0, 0, -1, time.Now()
	for broker := worker; next < len(p.Claims[i]); broker++ {
		before := next
		stopped, err := p.session(ctx, p.Roster.Program.MQTT[broker%len(p.Roster.Program.MQTT)], tlsConfig, i, &next, &sent, connected)
		if ctx.Err() != nil || stopped {
			return
		}
		if next > before {
			fails, progress = 0, time.Now()
		}
		if err == nil {
			continue
		}
		p.tell(ctx, Event{Vehicle: i, Outcome: Cut, Err: err})
		if time.Since(progress) > p.Patience {
			p.tell(ctx, Event{Vehicle: i, Outcome: GaveUp, Err: err})
			return
		}
		wait := min(backoffMin<<min(fails, 16), backoffMax)
		fails++
		if pause(ctx, wait/2+rand.N(wait/2+1)) != nil {
			return
		}
	}
}

// session delivers over one connection. next is the index of the claim whose receipt is not there, sent that of the last one published.
func (p *player) session(ctx context.Context, address string, config *tls.Config, i int, next, sent *int, connected func()) (stopped bool, err error) {
	name := p.Roster.Name(i)
	s, err := session.Dial(ctx, session.Config{Address: address, TLS: config, Vehicle: name, Timeout: dialTimeout})
	if err != nil {
		return false, err
	}
	defer s.Close()
	connected()
	select {
	case <-p.start:
	case <-ctx.Done():
		return true, nil
	}
	for *next < len(p.Claims[i]) {
		body, number := p.Claims[i][*next], p.First[i]+*next
		if err := p.pace.wait(ctx); err != nil {
			return true, nil
		}
		if *sent == *next {
			p.tell(ctx, Event{Vehicle: i, Claim: number, Outcome: Repeated})
		}
		*sent = *next
		began := time.Now()
		if err := s.Publish(body); err != nil {
			return false, err
		}
		e, err := p.receipt(s, name, wire.ID(body), began)
		if err != nil {
			return false, err
		}
		e.Vehicle, e.Claim, e.Took = i, number, time.Since(began)
		if e.Outcome == Accepted && e.Km != p.Roster.Km(i, number) {
			e.Outcome, e.Err = Wrong, fmt.Errorf("the receipt credits %d km for a claim of %d", e.Km, p.Roster.Km(i, number))
		}
		p.tell(ctx, e)
		if e.Outcome != Accepted {
			return true, nil
		}
		*next++
	}
	return false, nil
}

// receipt waits for the receipt of a submission; those of others are answers to what was sent twice.
func (p *player) receipt(s *session.Session, name string, id wire.Hash, began time.Time) (Event, error) {
	for {
		signed, err := s.Receipt(began.Add(receiptWait))
		if err != nil {
			return Event{}, err
		}
		r, err := wire.OpenReceipt(p.Roster.Program.Receipt, signed)
		switch {
		case err != nil:
			return Event{Outcome: Wrong, Err: err}, nil
		case r.Vehicle != name:
			return Event{Outcome: Wrong, Err: errors.New("the receipt is for another vehicle")}, nil
		case r.Submission != id:
			continue
		case !r.Accepted:
			return Event{Outcome: Refused, Reason: r.Reason}, nil
		}
		e := Event{Outcome: Accepted}
		for _, c := range r.Credits {
			e.Km += c.Km
		}
		return e, nil
	}
}

func (p *player) tell(ctx context.Context, e Event) {
	select {
	case p.events <- e:
	case <-ctx.Done():
	}
}

// tls returns the configuration with which a vehicle connects.
func (p *player) tls(i int) (*tls.Config, error) {
	device, err := p.Roster.DeviceKey(i)
	if err != nil {
		return nil, err
	}
	return &tls.Config{ // the server's name is the dialled one's
		RootCAs: p.Roster.Program.Roots, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{p.Certificates[i]}, PrivateKey: device.PrivateKey}},
	}, nil
}

// A pace spaces claims evenly; a nil one lets them go at once. Time that was not used is not made up for.
type pace struct {
	mu    sync.Mutex
	every time.Duration
	next  time.Time
}

func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return nil
	}
	return &pace{every: time.Duration(float64(time.Second) / perSecond)}
}

func (p *pace) wait(ctx context.Context) error {
	if p == nil {
		return ctx.Err()
	}
	p.mu.Lock()
	at := p.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	p.next = at.Add(p.every)
	p.mu.Unlock()
	return pause(ctx, time.Until(at))
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
