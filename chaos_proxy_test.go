package rawstone_test

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// maxSilence bounds how long a connection that says nothing any more is held open for a peer that does not notice.
const maxSilence = time.Minute

// A faultyProxy passes TCP connections on and does to some of them what networks do. What befalls the n-th connection follows from the
// seed and n alone. The zero value is of no use; newFaultyProxy makes one.
type faultyProxy struct {
	l      net.Listener
	target string
	seed   uint64
	// reach is the greatest number of bytes that pass before a fault.
	reach float64
	// calm lets new connections and those not yet disturbed pass; dark lets nothing through at all.
	calm, dark atomic.Bool
	// ended is closed when everything that is held is to be let go.
	ended chan struct{}
	wg    sync.WaitGroup

	mu     sync.Mutex
	counts map[string]int // faults that happened, and "connections"
	open   map[*relay]struct{}
}

// A relay is one connection through the proxy: its two ends and what befalls it.
type relay struct {
	p              *faultyProxy
	ends           [2]*net.TCPConn // the client's and the server's; the server's is nil while nobody may reach it
	fault          string          // empty for none
	at             int64           // bytes in both directions after which it happens
	wait           time.Duration   // of each piece, for a slow one
	passed         atomic.Int64
	happened, mute atomic.Bool
	once           sync.Once
	gone           chan struct{}
}

func newFaultyProxy(t *testing.T, listen, target string, seed uint64, reach float64) *faultyProxy {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	p := &faultyProxy{
		l: l, target: target, seed: seed, reach: reach, ended: make(chan struct{}), counts: make(map[string]int), open: make(map[*relay]struct{}),
	}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		close(p.ended)
		l.Close()
		p.drop()
		p.wg.Wait()
	})
	return p
}

func (p *faultyProxy) count(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[what]++
}

// figures returns what happened so far.
func (p *faultyProxy) figures() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]int, len(p.counts))
	for what, n := range p.counts {
		all[what] = n
	}
	return all
}

// drop resets every open connection.
func (p *faultyProxy) drop() {
	p.mu.Lock()
	var all []*relay
	for w := range p.open {
		all = append(all, w)
	}
	p.mu.Unlock()
	for _, w := range all {
		w.end(true)
	}
}

// settle ends the faults: what is held silent is reset, and what comes passes.
func (p *faultyProxy) settle() {
	p.calm.Store(true)
	p.dark.Store(false)
	p.drop()
}

// tunnel lets nothing through until the returned function is called: connections stay open and fall silent on both sides, for good.
func (p *faultyProxy) tunnel() (leave func()) {
	p.dark.Store(true)
	return func() { p.dark.Store(false) }
}

func (p *faultyProxy) accept() {
	for n := uint64(0); ; n++ {
		c, err := p.l.Accept()
		if err != nil {
			return
		}
		w := &relay{p: p, gone: make(chan struct{})}
		w.ends[0] = c.(*net.TCPConn)
		w.plan(rand.New(rand.NewPCG(p.seed, n)))
		p.count("connections")
		p.wg.Go(w.run)
	}
}

// plan draws what befalls the connection: nothing in two of five.
func (w *relay) plan(rng *rand.Rand) {
	faults := []string{"cut", "delay", "reset", "silence", "duplicated bytes", "missing bytes"}
	pick := rng.IntN(10)
	w.at = int64(50 * math.Pow(w.p.reach/50, rng.Float64()))
	w.wait = time.Duration(20+rng.IntN(280)) * time.Millisecond
	if pick < len(faults) && !w.p.calm.Load() {
		w.fault = faults[pick]
	}
}

func (w *relay) run() {
	if w.p.dark.Load() {
		w.mute.Store(true)
		w.p.count("unanswered connections")
	} else if server, err := net.Dial("tcp", w.p.target); err != nil {
		w.p.count("connections to a dead collector")
		w.end(true)
		return
	} else {
		w.ends[1] = server.(*net.TCPConn)
	}
	w.p.mu.Lock()
	w.p.open[w] = struct{}{}
	w.p.mu.Unlock()
	defer func() {
		w.end(true)
		w.p.mu.Lock()
		delete(w.p.open, w)
		w.p.mu.Unlock()
	}()
	select {
	case <-w.p.ended: // whoever resets what is open may not have seen this one
		return
	default:
	}
	var wg sync.WaitGroup
	if w.ends[1] != nil {
		wg.Go(func() { w.pump(1, w.ends[0]) })
	}
	w.pump(0, w.ends[1])
	wg.Wait()
}

// pump passes on what one end says until that end is gone.
func (w *relay) pump(from int, to io.Writer) {
	b := make([]byte, 4<<10)
	for {
		n, err := w.ends[from].Read(b)
		if n > 0 && !w.pass(to, b[:n]) {
			return
		}
		if err != nil {
			// The end of what one side says ends both: neither MQTT nor HTTPS lives on half a connection. A silent line tells nobody.
			if !w.mute.Load() || from == 0 {
				w.end(false)
				return
			}
			w.hold()
			return
		}
	}
}

// hold keeps a silent connection open until the client gives it up.
func (w *relay) hold() {
	select {
	case <-w.gone:
	case <-w.p.ended:
	case <-time.After(maxSilence):
	}
}

// pass passes one piece on, or does to it what was planned. It returns false when the connection is over.
func (w *relay) pass(to io.Writer, b []byte) bool {
	passed := w.passed.Add(int64(len(b)))
	if w.p.dark.Load() && w.mute.CompareAndSwap(false, true) {
		w.p.count("connections silenced by a tunnel")
	}
	if w.mute.Load() {
		return true
	}
	due := w.fault != "" && !w.p.calm.Load() && (w.fault == "delay" || passed >= w.at)
	if due && w.happened.CompareAndSwap(false, true) {
		w.p.count(w.fault)
		switch w.fault {
		case "cut", "reset":
			w.end(w.fault == "reset")
			return false
		case "silence":
			w.mute.Store(true)
			return true
		case "duplicated bytes":
			if _, err := to.Write(b); err != nil {
				return false
			}
		case "missing bytes":
			b = b[(len(b)+1)/2:]
		}
	}
	if w.fault == "delay" && !w.p.calm.Load() {
		select {
		case <-time.After(w.wait):
		case <-w.gone:
			return false
		}
	}
	_, err := to.Write(b)
	if err != nil {
		w.end(false)
	}
	return err == nil
}

// end closes both ends, in order or with a reset.
func (w *relay) end(reset bool) {
	w.once.Do(func() {
		close(w.gone)
		for _, c := range w.ends {
			if c == nil {
				continue
			}
			if reset {
				c.SetLinger(0)
			}
			c.Close()
		}
	})
}
