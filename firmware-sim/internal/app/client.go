package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	maxAnswerLen = 1 << 20
	timeout      = 15 * time.Second
)

// A Problem is a refusal of the API (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy"`
}

// Error says what is wrong and what to do about it.
func (p *Problem) Error() string {
	return fmt.Sprintf("%s (%d, %s): %s; %s", p.Title, p.Status, p.Type, p.Detail, p.Remedy)
}

// What the API answers, as far as the app looks at it.
type (
	profile struct {
		Program string `json:"program"`
		Today   uint32 `json:"today"`
		Owner   bool   `json:"owner"`
		Key     *struct {
			ID string `json:"id"`
		} `json:"key"`
		Activated      *uint32 `json:"activated"`
		RedeemableFrom *uint32 `json:"redeemable_from"`
		Milli          uint64  `json:"milli"`
		Crystals       uint64  `json:"crystals"`
	}
	edition[T any] struct {
		InForce *struct {
			Serial uint16 `json:"serial"`
			List   []T    `json:"list"`
		} `json:"in_force"`
	}
	task struct {
		ID       string `json:"id"`
		Crystals uint64 `json:"crystals"`
		Kind     string `json:"kind"`
	}
	box struct {
		ID   string `json:"id"`
		Cost uint64 `json:"cost"`
	}
	item struct {
		ID    string `json:"id"`
		Milli uint64 `json:"milli"`
		Fen   uint64 `json:"fen"`
	}
	grant struct {
		Task     string `json:"task"`
		Crystals uint64 `json:"crystals"`
	}
	opening struct {
		ID    uint64 `json:"id"`
		State string `json:"state"`
		Box   string `json:"box"`
		Prize *struct {
			Milli    uint64 `json:"milli"`
			Crystals uint64 `json:"crystals"`
			Goods    string `json:"goods"`
		} `json:"prize"`
	}
	redemption struct {
		Item  string `json:"item"`
		Milli uint64 `json:"milli"`
		Fen   uint64 `json:"fen"`
	}
)

// A client speaks to the API as one subject.
type client struct {
	base    string
	http    *http.Client
	issuer  *issuer
	subject string // an account, or empty for the backend
	now     func() time.Time
}

func newHTTP(cfg *Config) (*http.Client, error) {
	text, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot read the API's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot read the API's authority: %s holds no certificate", cfg.CA)
	}
	return &http.Client{
		Timeout:   timeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}},
	}, nil
}

func (c *client) get(ctx context.Context, path string, answer any) error {
	return c.do(ctx, http.MethodGet, path, ScopeRead, nil, answer)
}

// do asks for something under one scope. Each change is an intent of its own, with a fresh idempotency key.
func (c *client) do(ctx context.Context, method, path, scope string, body, answer any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("cannot ask the API: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("cannot ask the API: %w", err)
	}
	token, err := c.issuer.token(c.subject, []string{scope}, c.now())
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != nil {
		var key [16]byte
		rand.Read(key[:])
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", hex.EncodeToString(key[:]))
	}
	res, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the API: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerLen))
	if err != nil {
		return fmt.Errorf("cannot read the API's answer: %w", err)
	}
	if res.StatusCode >= 400 {
		p := &Problem{Status: res.StatusCode, Title: res.Status}
		if err := json.Unmarshal(b, p); err != nil {
			p.Detail = "the answer is no problem document"
		}
		return p
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("cannot read the API's answer: %w", err)
	}
	return nil
}
