package feed

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/audit"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

const (
	requestTimeout = time.Minute
	keepUpInterval = 500 * time.Millisecond
	keepUpBackoff  = 5 * time.Second
)

// A Source tells what is behind entries of the ledger, as encoded disclosure.Batches in their order.
type Source interface {
	Batches(ctx context.Context, entries []ledger.Entry) ([][]byte, error)
}

// ClientConfig says which validator is reached and how.
type ClientConfig struct {
	// URL is https://HOST:PORT; TLS is that of peer.Identity.Client(role.Validator). Both are required.
	URL string
	TLS *tls.Config
	// Source is needed by who sends entries.
	Source Source
	// Entries returns some of the ledger's final entries from a number on, for Run.
	Entries func(ctx context.Context, from uint64) ([]ledger.Entry, error)
	// Erasure returns the numbers of the entries of an erasure, none when there was none; the first is 1. The validator is told each before it
	// follows more. Nil tells none.
	Erasure func(ctx context.Context, erasure uint64) ([]uint64, error)
	// Leaves returns what the tree of a day holds of erased accounts, which the validator is told before it is to cosign that day's leaves: one
	// that never saw the accounts cannot know. Nil tells none.
	Leaves func(ctx context.Context, day uint32) ([]reward.Leaf, error)
	// Unerased is told an erasure that the validator did not do, and why. It follows the ledger all the same, and is told again later, and later
	// ones after it. Nil tells nobody.
	Unerased func(erasure uint64, err error)
	// Checkpoint returns the ledger's newest checkpoint, which the validator is shown before it gives anything, so that it can hold the
	// operator to it. Nil shows none.
	Checkpoint func() ([]byte, error)
	// Cosigned takes the line with which the validator cosigned the checkpoint that it was shown, as it came. Nil drops it.
	Cosigned func(ctx context.Context, checkpoint, line []byte)
}

// A Client asks one validator. It may be used from several goroutines.
type Client struct {
	c    ClientConfig
	http http.Client

	mu    sync.Mutex
	shown []byte // the checkpoint that the validator was shown last

	following chan struct{} // is full while somebody uses followed
	followed  uint64        // the entry that the validator wants next, as far as this client knows
	told      telling       // of erasures, likewise
}

// CheckURL refuses an address that no validator is reached by.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return fmt.Errorf("%q is not https://HOST:PORT", text)
	}
	return nil
}

// Dial returns a client. It connects when it is first used.
func Dial(c ClientConfig) (*Client, error) {
	if err := CheckURL(c.URL); err != nil {
		return nil, fmt.Errorf("cannot reach validator: %w", err)
	}
	if c.TLS == nil {
		return nil, errors.New("cannot reach validator: a certificate is missing")
	}
	c.URL = strings.TrimRight(c.URL, "/")
	return &Client{c: c, following: make(chan struct{}, 1), http: http.Client{Timeout: requestTimeout, Transport: &http.Transport{
		TLSClientConfig: c.TLS, MaxIdleConnsPerHost: 2, MaxConnsPerHost: 4, IdleConnTimeout: time.Minute, ResponseHeaderTimeout: requestTimeout,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// DialAll returns a client for each URL, by the validators' names. Of the configuration the URL is not looked at.
func DialAll(urls map[string]string, c ClientConfig) (map[string]*Client, error) {
	out := make(map[string]*Client)
	for name, url := range urls {
		c.URL = url
		client, err := Dial(c)
		if err != nil {
			return nil, err
		}
		out[name] = client
	}
	return out, nil
}

// CheckpointIn returns what reads the newest checkpoint of the log in a directory.
func CheckpointIn(dir string) func() ([]byte, error) {
	return func() ([]byte, error) { return os.ReadFile(filepath.Join(dir, "checkpoint")) }
}

// URL is where the validator is reached.
func (c *Client) URL() string { return c.c.URL }

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// ask sends a body, nil for a GET, and reads the answer into m unless that is nil.
func (c *Client) ask(ctx context.Context, path string, body []byte, m any) error {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.c.URL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask validator: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	answer, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach validator: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("cannot read validator's answer: %w", err)
	case answer.StatusCode == http.StatusUnprocessableEntity || answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("it refuses: %s", strings.TrimSpace(string(text[:min(len(text), maxRefusal)])))
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("cannot use validator's answer: %s", answer.Status)
	case m == nil, len(text) == 0 && path == pathSeen:
		return nil
	}
	return codec.Decode(text, m, maxAnswer)
}

func (c *Client) send(ctx context.Context, path string, v, m any) error {
	b, err := codec.Encode(v)
	if err != nil {
		return err
	}
	return c.ask(ctx, path, b, m)
}

// Next returns the number of the entry that the validator wants next. It may be one that was followed already: a validator that lost what it
// had is given it again.
func (c *Client) Next(ctx context.Context) (uint64, error) {
	if err := c.hold(ctx); err != nil {
		return 0, err
	}
	defer c.release()
	var n next
	if err := c.ask(ctx, pathNext, nil, &n); err != nil {
		return 0, err
	}
	c.followed = n.Next
	return n.Next, nil
}

// hold waits until nobody has the validator follow entries.
func (c *Client) hold(ctx context.Context) error {
	select {
	case c.following <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot reach validator: it is still given earlier entries: %w", ctx.Err())
	}
}

func (c *Client) release() { <-c.following }

// Follow gives it entries in order, with what is behind them.
func (c *Client) Follow(ctx context.Context, entries ...ledger.Entry) error {
	_, err := c.follow(ctx, entries)
	return err
}

// Erase tells it the entries of an erasure, ascending.
func (c *Client) Erase(ctx context.Context, numbers []uint64) error {
	var m erasure
	for _, n := range numbers {
		m.Numbers = binary.BigEndian.AppendUint64(m.Numbers, n)
	}
	return c.send(ctx, pathErase, m, nil)
}

// follow is Follow; it returns how many entries went there.
func (c *Client) follow(ctx context.Context, entries []ledger.Entry) (int, error) {
	if c.c.Source == nil {
		return 0, errors.New("cannot send entries: there is nothing that tells what is behind them")
	}
	if err := c.hold(ctx); err != nil {
		return 0, err
	}
	defer c.release()
	c.told.tell(ctx, c)
	for len(entries) > 0 && entries[0].Number < c.followed { // Run was faster
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return 0, nil
	}
	batches, err := c.c.Source.Batches(ctx, entries)
	if err != nil {
		return 0, err
	}
	for _, b := range batches {
		if err := c.ask(ctx, pathFollow, b, nil); err != nil {
			return 0, err
		}
	}
	c.followed = entries[len(entries)-1].Number + 1
	return len(entries), nil
}

// Run has the validator follow the ledger as it grows until ctx ends, so that it is not asked for a proof with a day's entries yet to check,
// and shows it the checkpoint of what it has followed.
// What goes wrong is said by whoever asks it next.
func (c *Client) Run(ctx context.Context) {
	defer c.Close()
	for {
		n, err := c.keepUp(ctx)
		pause := keepUpInterval
		switch {
		case err != nil:
			pause = keepUpBackoff
		case n == disclosure.MaxBatch:
			pause = 0 // there is more
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// keepUp sends the next entries and returns how many it sent.
func (c *Client) keepUp(ctx context.Context) (int, error) {
	next, err := c.Next(ctx)
	if err != nil {
		return 0, err
	}
	entries, err := c.c.Entries(ctx, next)
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 {
		if _, err := c.follow(ctx, nil); err != nil { // tells what was erased
			return 0, err
		}
		return 0, c.show(ctx)
	}
	entries = entries[:min(len(entries), disclosure.MaxBatch)]
	return c.follow(ctx, entries)
}

// Prove returns its proof for the seed that is due.
func (c *Client) Prove(ctx context.Context, d audit.Due) (p ledger.Proof, err error) {
	if err := c.show(ctx); err != nil {
		return p, err
	}
	err = c.send(ctx, pathProve, due(d), &p)
	return p, err
}

// Cosign has it check a payload as the next entry and sign it.
func (c *Client) Cosign(ctx context.Context, t ledger.Type, payload []byte) (s ledger.Cosignature, err error) {
	if err := c.show(ctx); err != nil {
		return s, err
	}
	d := draft{Type: t, Payload: payload}
	if d.Leaves, err = c.leaves(ctx, t, payload); err != nil {
		return s, err
	}
	err = c.send(ctx, pathCosign, d, &s)
	return s, err
}

// leaves returns those of erased accounts on the day of a payload, if it is one of leaves.
func (c *Client) leaves(ctx context.Context, t ledger.Type, payload []byte) ([]byte, error) {
	if t != ledger.TypeLeaves || c.c.Leaves == nil {
		return nil, nil
	}
	l, err := ledger.DecodeLeaves(payload)
	if err != nil {
		return nil, err
	}
	list, err := c.c.Leaves(ctx, l.Day)
	var e disclosure.Entry
	for _, leaf := range list {
		e.AddLeaf(leaf)
	}
	return e.Leaves, err
}

// show shows the ledger's checkpoint unless it was shown before. One that it might yet cosign is shown again.
func (c *Client) show(ctx context.Context) error {
	if c.c.Checkpoint == nil {
		return nil
	}
	text, err := c.c.Checkpoint()
	if err != nil || len(text) == 0 {
		return err
	}
	c.mu.Lock()
	again := bytes.Equal(c.shown, text)
	c.mu.Unlock()
	if again {
		return nil
	}
	line, err := c.CosignCheckpoint(ctx, text)
	if err != nil {
		return err
	}
	if c.c.Cosigned != nil {
		if len(line) == 0 {
			return nil
		}
		c.c.Cosigned(ctx, text, line)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown = text
	return nil
}

// Gossip returns what the validator tells others.
func (c *Client) Gossip(ctx context.Context) (g Gossip, err error) {
	err = c.ask(ctx, pathSeen, nil, &g)
	return g, err
}

// Seen shows it a checkpoint of the ledger.
func (c *Client) Seen(ctx context.Context, checkpoint []byte) error {
	return c.ask(ctx, pathSeen, checkpoint, nil)
}

// CosignCheckpoint shows it a checkpoint of the ledger and returns the line with which it cosigns it, or none. Whether the line is what it
// should be is the caller's to find out.
func (c *Client) CosignCheckpoint(ctx context.Context, checkpoint []byte) (line []byte, err error) {
	var m cosigned
	err = c.ask(ctx, pathSeen, checkpoint, &m)
	return m.Line, err
}

// Complain shows it a receipt whose credits the ledger lacks; see Validator.
func (c *Client) Complain(ctx context.Context, receipt []byte) error {
	return c.ask(ctx, pathComplaint, receipt, nil)
}

// Batches encodes entries with what is behind them, in messages that a validator takes.
func Batches(entries []disclosure.Entry) (out [][]byte, err error) {
	for _, part := range disclosure.Split(entries) {
		b := disclosure.Batch{Entries: part}
		text, err := b.Encode()
		if err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, nil
}
