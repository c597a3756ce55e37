package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"rawstone/collector/internal/deadletter"
)

const (
	maxAnswer  = 4 << 20 // a full page of letters is far smaller
	maxRefusal = 1 << 10
)

// A Client asks a running collector.
type Client struct {
	path string
	http http.Client
}

// Dial returns a client of the socket at path; each call connects anew.
func Dial(path string) *Client {
	return &Client{path: path, http: http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// A Refusal is what a collector says that does not do what it was asked. Skip says that it is about the letter and not the collector.
type Refusal struct {
	Text string
	Skip bool
}

func (r *Refusal) Error() string { return r.Text }

// Letters returns all dead letters in the order in which they were given up.
func (c *Client) Letters(ctx context.Context) ([]deadletter.Letter, error) {
	all := []deadletter.Letter{}
	for after := uint64(0); ; {
		var page []deadletter.Letter
		if err := c.ask(ctx, http.MethodGet, fmt.Sprintf("%s?after=%d", lettersPath, after), &page); err != nil {
			return nil, fmt.Errorf("cannot list dead letters: %w", err)
		}
		if len(page) == 0 {
			return all, nil
		}
		all, after = append(all, page...), page[len(page)-1].Seq
	}
}

// Replay puts one message back into its queue.
func (c *Client) Replay(ctx context.Context, seq uint64) error {
	err := c.ask(ctx, http.MethodPost, fmt.Sprintf("%s?seq=%d", replayPath, seq), nil)
	if refusal := (*Refusal)(nil); err != nil && !errors.As(err, &refusal) {
		return fmt.Errorf("cannot replay dead letter %d: %w", seq, err)
	}
	return err // the collector's own words name the letter
}

func (c *Client) ask(ctx context.Context, method, path string, into any) (err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://collector"+path, nil)
	if err != nil {
		return err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return unreachable(c.path, err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode >= http.StatusMultipleChoices {
		text, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
		if err != nil {
			return err
		}
		return &Refusal{Text: strings.TrimSpace(string(text)), Skip: answer.StatusCode < http.StatusInternalServerError}
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(into)
}
