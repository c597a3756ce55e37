package feed

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/role"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// noted is a validator that notes what it was asked.
type noted struct {
	next     uint64
	followed []disclosure.Entry
	erased   [][]uint64
	told     []reward.Leaf
	seen     []string
	line     []byte
	refuse   error
	// unerasable is its answer to erasures alone.
	unerasable error
}

func (n *noted) Next(context.Context) (uint64, error) { return n.next, n.refuse }
func (n *noted) Follow(_ context.Context, e ...disclosure.Entry) error {
	n.followed = append(n.followed, e...)
	return n.refuse
}
func (n *noted) Told(day uint32, leaves []reward.Leaf) { n.told = append(n.told, leaves...) }
func (n *noted) Erase(_ context.Context, numbers []uint64) error {
	n.erased = append(n.erased, numbers)
	return errors.Join(n.refuse, n.unerasable)
}
func (n *noted) Prove(_ context.Context, d audit.Due) (ledger.Proof, error) {
	return ledger.Proof{Validator: uint8(d.Drop)}, n.refuse
}
func (n *noted) Cosign(_ context.Context, t ledger.Type, p []byte) (ledger.Cosignature, error) {
	return ledger.Cosignature{Validator: uint8(t), Signature: [64]byte(append(bytes.Clone(p), make([]byte, 64)...)[:64])}, n.refuse
}
func (n *noted) Gossip(context.Context) (Gossip, error) {
	return Gossip{"ledger's", "own"}, n.refuse
}
func (n *noted) Seen(_ context.Context, b []byte) ([]byte, error) {
	n.seen = append(n.seen, string(b))
	return n.line, n.refuse
}
func (n *noted) Complain(_ context.Context, b []byte) error {
	return second(n.Seen(context.Background(), b))
}

// source discloses what it was given.
type source []disclosure.Entry

func (s source) Batches(context.Context, []ledger.Entry) ([][]byte, error) { return Batches(s) }

type bench struct {
	t      *testing.T
	dir    string
	v      *noted
	server *Server
}

func newBench(t *testing.T) *bench {
	v := new(noted)
	b := newBenchOf(t, v)
	b.v = v
	return b
}

func newBenchOf(t *testing.T, v Validator) *bench {
	b := &bench{t: t, dir: t.TempDir()}
	b.must(ca.Init(b.dir+"/ca", time.Now()))
	var err error
	b.server, err = Listen(ServerConfig{Address: "127.0.0.1:0", Identity: b.identity("ca", "v1", role.Validator), Validator: v, Logger: slog.New(slog.DiscardHandler)})
	b.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.server.Run(ctx) }()
	t.Cleanup(func() { cancel(); b.must(errors.Join(<-done, b.server.Close())) })
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) identity(authority, name string, as role.Set) *peer.Identity {
	b.t.Helper()
	b.must(ca.IssueNode(b.dir+"/"+authority, name, as.List(), []string{"127.0.0.1"}, b.dir+"/nodes", time.Now()))
	i, err := peer.Open(peer.Config{CA: b.dir + "/" + authority + "/internal-ca.pem", Certificate: b.dir + "/nodes/" + name + ".pem", Key: b.dir + "/nodes/" + name + ".key"}, as, slog.New(slog.DiscardHandler))
	b.must(err)
	return i
}

func (b *bench) dial(c ClientConfig) *Client {
	b.t.Helper()
	c.URL = "https://" + b.server.Addr()
	client, err := Dial(c)
	b.must(err)
	b.t.Cleanup(client.Close)
	return client
}

// TestRoundTrip sends each message there and its answer back.
func TestRoundTrip(t *testing.T) {
	b := newBench(t)
	checkpoint := "checkpoint 1"
	long := make(source, 600)
	for i := range long {
		long[i] = disclosure.Entry{Number: uint64(i), Type: ledger.TypePolicy, Body: bytes.Repeat([]byte{byte(i)}, 30<<10)}
	}
	long[5] = disclosure.Entry{Number: 5, Type: ledger.TypeBinding, Body: []byte{1}, Opening: []byte{2}, Account: "a", Secret: make([]byte, 32), Claim: []byte{3}}
	c := b.dial(ClientConfig{TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Source: long, Checkpoint: func() ([]byte, error) { return []byte(checkpoint), nil }})
	b.v.next = 1 << 40
	if n, err := b.dial(c.c).Next(t.Context()); err != nil || n != 1<<40 {
		t.Errorf("next is %d, %v", n, err)
	}
	var list []ledger.Entry
	for _, e := range long {
		list = append(list, e.Ledger())
	}
	b.must(c.Follow(t.Context(), list...))
	b.must(c.Follow(t.Context(), list[7:]...)) // nothing goes twice
	if !reflect.DeepEqual([]disclosure.Entry(long), b.v.followed) {
		t.Errorf("%d entries are not what was sent", len(b.v.followed))
	}
	if p, err := c.Prove(t.Context(), audit.Due{Type: ledger.TypeBlock, Day: 3, Drop: 7}); err != nil || p.Validator != 7 {
		t.Errorf("proof %+v, %v", p, err)
	}
	want := ledger.Cosignature{Validator: uint8(ledger.TypeBlock), Signature: [64]byte{1, 2}}
	if got, err := c.Cosign(t.Context(), ledger.TypeBlock, []byte{1, 2}); err != nil || got != want {
		t.Errorf("cosignature %+v, %v", got, err)
	}
	checkpoint = "checkpoint 2"
	_, err := c.Cosign(t.Context(), ledger.TypeBlock, nil)
	b.must(err)
	if d := cmp.Diff([]string{"checkpoint 1", "checkpoint 2"}, b.v.seen); d != "" {
		t.Error(d)
	}
	if g, err := c.Gossip(t.Context()); err != nil || g != (Gossip{"ledger's", "own"}) {
		t.Errorf("gossip %+v, %v", g, err)
	}
	b.must(c.Complain(t.Context(), []byte("receipt")))
	// A refusal reaches the other end in one sentence.
	b.v.refuse = errors.New("cannot cosign: Supply is 500, should be 0")
	for name, err := range map[string]error{
		"next": second(c.Next(t.Context())), "follow": c.Follow(t.Context(), ledger.Entry{Number: 600}), "prove": second(c.Prove(t.Context(), audit.Due{})),
		"cosign": second(c.Cosign(t.Context(), 8, nil)), "gossip": second(c.Gossip(t.Context())), "seen": c.Seen(t.Context(), []byte{1}), "complain": c.Complain(t.Context(), []byte{1}),
	} {
		if err == nil || err.Error() != "it refuses: "+b.v.refuse.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestCosigned: the settler's side gets each line once with the checkpoint that it is for; who gave none is shown it again.
func TestCosigned(t *testing.T) {
	b := newBench(t)
	var got []string
	c := b.dial(ClientConfig{
		TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Source: source{}, Checkpoint: func() ([]byte, error) { return []byte("checkpoint"), nil },
		Entries: func(context.Context, uint64) ([]ledger.Entry, error) { return nil, nil },
		Cosigned: func(_ context.Context, checkpoint, line []byte) {
			got = append(got, string(checkpoint)+": "+string(line))
		},
	})
	prove := func() {
		t.Helper()
		_, err := c.Prove(t.Context(), audit.Due{})
		b.must(err)
	}
	prove()
	prove()
	if len(b.v.seen) != 2 || len(got) != 0 {
		t.Errorf("without a cosignature: shown %d times, got %q", len(b.v.seen), got)
	}
	b.v.line = []byte("line")
	_, err := c.keepUp(t.Context()) // nothing to follow
	b.must(err)
	if len(got) != 1 {
		t.Errorf("what follows is not shown what it has followed: %q", got)
	}
	prove()
	if d := cmp.Diff([]string{"checkpoint: line"}, got); d != "" || len(b.v.seen) != 3 {
		t.Errorf("shown %d times, %s", len(b.v.seen), d)
	}
	if line, err := c.CosignCheckpoint(t.Context(), []byte("other")); err != nil || string(line) != "line" {
		t.Errorf("line %q, %v", line, err)
	}
	b.v.refuse = errors.New("the ledger has a second history")
	if line, err := c.CosignCheckpoint(t.Context(), []byte("other")); err == nil || len(line) != 0 {
		t.Errorf("a refusal brings %q, %v", line, err)
	}
}

// TestWhoMay holds that entries and signatures are for settlers, gossip and complaints for every process, and nothing for strangers.
func TestWhoMay(t *testing.T) {
	b := newBench(t)
	for name, as := range map[string]role.Set{"v2": role.Validator, "w1": role.Web} {
		c := b.dial(ClientConfig{TLS: b.identity("ca", name, as).Client(role.Validator), Source: source{{Type: ledger.TypeBlock}}})
		for what, err := range map[string]error{
			"next": second(c.Next(t.Context())), "follow": c.Follow(t.Context(), ledger.Entry{Number: 600}), "prove": second(c.Prove(t.Context(), audit.Due{})), "cosign": second(c.Cosign(t.Context(), 8, nil)),
		} {
			if err == nil || !strings.Contains(err.Error(), "for a process with the role settle") {
				t.Errorf("%s may %s: %v", name, what, err)
			}
		}
		_, err := c.Gossip(t.Context())
		b.must(errors.Join(err, c.Seen(t.Context(), []byte{1}), c.Complain(t.Context(), []byte{1})))
	}
	if len(b.v.followed) != 0 {
		t.Errorf("followed %v", b.v.followed)
	}
	// A process that is no validator is told nothing.
	wrong := b.dial(ClientConfig{TLS: b.identity("ca", "s2", role.Settle).Client(role.Broker)})
	if _, err := wrong.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "roles are validator") {
		t.Errorf("a validator for a broker: %v", err)
	}
	b.must(ca.Init(b.dir+"/other", time.Now()))
	stranger := b.identity("other", "x1", role.Settle).Client(role.Validator)
	stranger.RootCAs = b.identity("ca", "s3", role.Settle).Client(role.Validator).RootCAs
	none := stranger.Clone()
	none.GetClientCertificate = nil
	old := b.identity("ca", "s4", role.Settle).Client(role.Validator)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, c := range map[string]*tls.Config{"another authority's": stranger, "no certificate": none, "TLS 1.2": old} {
		if n, err := b.dial(ClientConfig{TLS: c}).Next(t.Context()); err == nil {
			t.Errorf("%s: answered %d", name, n)
		}
	}
}

// TestBounds sends too much, and what is no message.
func TestBounds(t *testing.T) {
	b := newBench(t)
	identity := b.identity("ca", "s1", role.Settle)
	c := b.dial(ClientConfig{TLS: identity.Client(role.Validator)})
	for path, limit := range map[string]int{pathFollow: disclosure.MaxBatchLen, pathProve: maxSmall, pathCosign: maxDraft, pathSeen: maxSmall, pathComplaint: maxSmall} {
		if err := c.ask(t.Context(), path, make([]byte, limit+1), nil); err == nil || !strings.Contains(err.Error(), "more than") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, path := range []string{pathFollow, pathProve, pathCosign} {
		if err := c.ask(t.Context(), path, []byte("garbage"), nil); err == nil || !strings.Contains(err.Error(), "it refuses: cannot decode") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if len(b.v.followed)+len(b.v.seen) != 0 {
		t.Errorf("took %v, %v", b.v.followed, b.v.seen)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: identity.Client(role.Validator)}}
	answer, err := client.Get("https://" + b.server.Addr() + "/v1/follow")
	b.must(err)
	answer.Body.Close()
	client.CloseIdleConnections()
	if answer.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET follow: %s", answer.Status)
	}
	for url, want := range map[string]string{"http://a:1": "is not https", "https://a": "is not https", "https://a:1/x": "is not https", "https://u@a:1": "is not https", "": "is not https"} {
		if _, err := Dial(ClientConfig{URL: url, TLS: new(tls.Config)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestRun holds that a validator gets what the ledger gets, each entry once, also while somebody else has it follow.
func TestRun(t *testing.T) {
	v := &growing{noted: new(noted)}
	b := newBenchOf(t, v)
	const all = 3*disclosure.MaxBatch + 7
	var list []ledger.Entry
	for n := range uint64(all) {
		list = append(list, ledger.Entry{Number: n, Type: ledger.TypeBlock})
	}
	c := b.dial(ClientConfig{TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Source: public{}, Entries: func(_ context.Context, from uint64) ([]ledger.Entry, error) {
		return list[from:], nil
	}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	for n := uint64(0); n < all; {
		var err error
		n, err = c.Next(t.Context())
		b.must(err)
		b.must(c.Follow(t.Context(), list[n:min(n+10, all)]...))
	}
	stop()
	<-done
	if len(v.followed) != all {
		t.Errorf("followed %d entries", len(v.followed))
	}
}

// TestFollowsAnew: a validator that lost some of what it had is given it again, and what somebody else gave it meanwhile is not given twice, nor
// called a round that was full.
func TestFollowsAnew(t *testing.T) {
	v := &growing{noted: new(noted)}
	b := newBenchOf(t, v)
	var list []ledger.Entry
	for n := range uint64(3 * disclosure.MaxBatch) {
		list = append(list, ledger.Entry{Number: n, Type: ledger.TypeBlock})
	}
	other := func() {}
	c := b.dial(ClientConfig{TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Source: public{}, Entries: func(_ context.Context, from uint64) ([]ledger.Entry, error) {
		other()
		return list[from:], nil
	}})
	keepUp := func(want int) {
		t.Helper()
		if n, err := c.keepUp(t.Context()); err != nil || n != want {
			t.Errorf("%d entries went there, %v, want %d", n, err, want)
		}
	}
	keepUp(disclosure.MaxBatch)
	keepUp(disclosure.MaxBatch)
	for _, left := range []int{10, 0} {
		v.followed = v.followed[:left]
		keepUp(disclosure.MaxBatch)
		if len(v.followed) != left+disclosure.MaxBatch {
			t.Errorf("it has %d entries, had %d", len(v.followed), left)
		}
	}
	other = func() { b.must(c.Follow(t.Context(), list...)) }
	keepUp(0)
	if len(v.followed) != len(list) {
		t.Errorf("it has %d entries", len(v.followed))
	}
	// Nobody waits for others longer than he wants to.
	b.must(c.hold(t.Context()))
	defer c.release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{"next": second(c.Next(ctx)), "follow": c.Follow(ctx, list...)} {
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "still given earlier entries") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// growing wants each entry once and in order.
type growing struct {
	*noted
	mu sync.Mutex
}

func (g *growing) Next(context.Context) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return uint64(len(g.followed)), nil
}

func (g *growing) Follow(_ context.Context, e ...disclosure.Entry) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e[0].Number != uint64(len(g.followed)) {
		return fmt.Errorf("entry %d, want %d", e[0].Number, len(g.followed))
	}
	g.followed = append(g.followed, e...)
	return nil
}

// public is a source of entries that hide nothing.
type public struct{}

func (public) Batches(_ context.Context, list []ledger.Entry) ([][]byte, error) {
	var out []disclosure.Entry
	for _, e := range list {
		out = append(out, disclosure.Public(e))
	}
	return Batches(out)
}

// TestErasures tells a validator each erasure once, before it follows more. One that it refuses stops neither the entries nor later ones, and is told
// again, less and less often.
func TestErasures(t *testing.T) {
	b := newBench(t)
	entries := source{{Number: 0, Type: ledger.TypePolicy, Body: []byte{1}}}
	many := make([]uint64, 100_000)
	for i := range many {
		many[i] = uint64(i)
	}
	list := [][]uint64{{3, 1 << 40}, many}
	var undone []uint64
	c := b.dial(ClientConfig{TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Source: entries, Erasure: func(_ context.Context, n uint64) ([]uint64, error) {
		if n > uint64(len(list)) {
			return nil, nil
		}
		return list[n-1], nil
	}, Unerased: func(n uint64, err error) { undone = append(undone, n) }})
	b.v.unerasable = errors.New("not now")
	b.must(c.Follow(t.Context(), entries[0].Ledger()))
	if !slices.Equal(undone, []uint64{1, 2}) || len(b.v.followed) != 1 {
		t.Errorf("%d, followed %d", undone, len(b.v.followed))
	}
	for range 64 {
		b.must(c.Follow(t.Context()))
	}
	if len(undone) != 2*(1+6) { // the first time, and after 0, 1, 2, 4, 8, 16 times, with 32 to wait
		t.Errorf("it was told %d times", len(undone))
	}
	b.v.unerasable, b.v.erased = nil, nil
	for range 64 {
		b.must(c.Follow(t.Context()))
	}
	if d := cmp.Diff(list, b.v.erased); d != "" {
		t.Errorf("erased %s", d)
	}
	list = append(list, []uint64{7})
	b.must(c.Follow(t.Context()))
	if len(b.v.erased) != 3 {
		t.Errorf("%d erasures were told", len(b.v.erased))
	}
	w := b.dial(ClientConfig{TLS: b.identity("ca", "w1", role.Web).Client(role.Validator)})
	if err := w.Erase(t.Context(), []uint64{1}); err == nil || !strings.Contains(err.Error(), "role settle") || len(b.v.erased) != 3 {
		t.Errorf("a web server erases: %v", err)
	}
	if err := c.ask(t.Context(), pathErase, []byte{0xa1, 0, 0x41, 1}, nil); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Error(err)
	}
}

// TestTold has a validator cosign leaves: it is told those of erased accounts first, and nothing of the kind with anything else.
func TestTold(t *testing.T) {
	b := newBench(t)
	want := []reward.Leaf{{Pseudonym: [32]byte{1}, Weight: 40}, {Pseudonym: [32]byte{2}, Weight: 50}}
	c := b.dial(ClientConfig{TLS: b.identity("ca", "s1", role.Settle).Client(role.Validator), Leaves: func(_ context.Context, day uint32) ([]reward.Leaf, error) {
		if day != 9 {
			t.Errorf("it is asked for day %d", day)
		}
		return want, nil
	}})
	payload, err := ledger.EncodePayload(&ledger.Leaves{Day: 9, Count: 2, Weight: 90, Validators: []byte{0}})
	b.must(err)
	_, err = c.Cosign(t.Context(), ledger.TypeBlock, payload)
	b.must(err)
	if len(b.v.told) != 0 {
		t.Errorf("with a block it is told %v", b.v.told)
	}
	_, err = c.Cosign(t.Context(), ledger.TypeLeaves, payload)
	b.must(err)
	if d := cmp.Diff(want, b.v.told); d != "" {
		t.Error(d)
	}
	if err := c.send(t.Context(), pathCosign, draft{ledger.TypeLeaves, payload, make([]byte, 41)}, nil); err == nil || !strings.Contains(err.Error(), "41 bytes") {
		t.Errorf("a piece of a leaf: %v", err)
	}
}
