// Package gate lets requests into the accounts' API: it checks everything about one that does not need the records, which are the bearer token
// (RFC 6750) and its scope, how often its client asks, the query and the body's size and type.
//
// What it refuses is a problem of package problem. It keeps no token and logs nothing.
package gate

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"rawstone/collector/internal/api/body"
	"rawstone/collector/internal/api/idempotency"
	"rawstone/collector/internal/api/limit"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
)

// A Rate says how often one client and subject may ask.
type Rate struct {
	// Every is the time between requests that can be kept up for ever, Burst how many may come at once.
	Every time.Duration
	Burst int
}

const defaultAskers = 100_000

// Config says who is let in.
type Config struct {
	// Tokens checks access tokens, and Now is the clock. Required.
	Tokens *token.Verifier
	Now    func() time.Time
	// Owners bounds what is asked for an account, 5 a second and 60 at once when zero; Backend what is asked with the scope stones.grant, 500
	// a second and 1,000 at once when zero. Askers bounds how many of both are remembered, 100,000 when zero.
	Owners, Backend Rate
	Askers          int
}

// A Gate may be used from several goroutines.
type Gate struct {
	cfg             Config
	owners, backend *limit.Limiter
}

// New returns a gate that has seen nobody.
func New(cfg Config) (*Gate, error) {
	if cfg.Tokens == nil {
		return nil, errors.New("cannot let requests in: nobody checks their tokens")
	}
	g := &Gate{cfg: cfg}
	limiter := func(r Rate, every time.Duration, burst int) (*limit.Limiter, error) {
		return limit.New(limit.Config{Every: cmp.Or(r.Every, every), Burst: cmp.Or(r.Burst, burst), Askers: cmp.Or(cfg.Askers, defaultAskers), Now: cfg.Now})
	}
	var err error
	if g.owners, err = limiter(cfg.Owners, time.Second/5, 60); err != nil {
		return nil, err
	}
	g.backend, err = limiter(cfg.Backend, time.Second/500, 1000)
	return g, err
}

// A Rule says what an operation takes.
type Rule struct {
	// Scopes are those of which the token needs one; none for what is public.
	Scopes []string
	// Query are the parameters, and Body says whether there is one.
	Query []string
	Body  bool
}

// A Call is a request that was let in.
type Call struct {
	// Account is the token's subject; Client tells it and the program that the token was issued to from others.
	Account, Client string
	// ID is the path's wildcard.
	ID    string
	Body  []byte
	query map[string]string
}

// Admit checks a request, whose wildcard id its router has set, and sets the headers that go with a refusal, which is a *problem.Problem.
func (g *Gate) Admit(w http.ResponseWriter, r *http.Request, rule Rule) (*Call, error) {
	c := &Call{ID: r.PathValue("id"), query: make(map[string]string)}
	if rule.Scopes != nil {
		if err := g.authorise(w, r, rule.Scopes, c); err != nil {
			return nil, err
		}
	}
	if err := c.parameters(r.URL.RawQuery, rule.Query); err != nil {
		return nil, err
	}
	if !rule.Body {
		return c, nil
	}
	return c, c.read(w, r)
}

// authorise checks the bearer token (RFC 6750).
func (g *Gate) authorise(w http.ResponseWriter, r *http.Request, scopes []string, c *Call) error {
	headers := r.Header.Values("Authorization")
	challenge := func(s string) { w.Header().Set("WWW-Authenticate", `Bearer realm="rawstone"`+s) }
	if len(headers) == 0 {
		challenge("")
		return problem.New(problem.TokenMissing(), "The header Authorization is missing.")
	}
	scheme, encoded, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		challenge("")
		return problem.New(problem.TokenMissing(), "The header Authorization does not carry one bearer token.")
	}
	t, err := g.cfg.Tokens.Verify(strings.TrimSpace(encoded))
	if err != nil {
		challenge(`, error="invalid_token"`)
		return problem.New(problem.TokenInvalid(), problem.Sentence(err))
	}
	hash := idempotency.Hash("rawstone/api/client/v1", t.Client, t.Subject)
	c.Account, c.Client = t.Subject, hash.String()
	if !slices.ContainsFunc(scopes, t.Has) {
		challenge(`, error="insufficient_scope", scope="` + strings.Join(scopes, " ") + `"`)
		return problem.New(problem.ScopeMissing(), "The operation needs the scope "+strings.Join(scopes, " or ")+".")
	}
	limiter := g.owners
	if slices.Contains(scopes, token.Grant) {
		limiter = g.backend
	}
	if wait := limiter.Take(c.Client); wait > 0 {
		seconds := int((wait + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		return problem.New(problem.TooMany(), fmt.Sprintf("The next request is answered in %d s.", seconds))
	}
	return nil
}

// parameters takes the query's parameters: known ones, each once.
func (c *Call) parameters(raw string, known []string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return problem.New(problem.QueryInvalid(), "The query is malformed.")
	}
	for name, v := range values {
		if !slices.Contains(known, name) || len(v) != 1 {
			return problem.New(problem.QueryInvalid(), fmt.Sprintf("The parameter %s is unknown here, or stands twice.", strconv.QuoteToASCII(name[:min(len(name), 40)])))
		}
		c.query[name] = v[0]
	}
	return nil
}

// Number returns a parameter as a whole number within bounds, otherwise when it is not given.
func (c *Call) Number(name string, least, most, otherwise uint64) (uint64, error) {
	text, given := c.query[name]
	if !given {
		return otherwise, nil
	}
	v, err := body.ParseNumber(text, least, most)
	if err != nil {
		return 0, problem.New(problem.QueryInvalid(), problem.Sentence(fmt.Errorf("the parameter %s %w", name, err)))
	}
	return v, nil
}

// read takes the body.
func (c *Call) read(w http.ResponseWriter, r *http.Request) (err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" || r.Header.Get("Content-Encoding") != "" {
		return problem.New(problem.MediaType(), "The header Content-Type is not application/json, or the body is compressed.")
	}
	c.Body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, body.MaxLen))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return problem.New(problem.TooLarge(), fmt.Sprintf("The body has more than %d bytes.", body.MaxLen))
	case err != nil:
		return problem.New(problem.BodyInvalid(), "The body did not arrive.")
	}
	return nil
}

// Object reads the body's fields.
func (c *Call) Object(fields map[string]body.Field, required ...string) error {
	if err := body.Object(c.Body, fields, required...); err != nil {
		return problem.New(problem.BodyInvalid(), problem.Sentence(err))
	}
	return nil
}

// Resource reads the path's wildcard as the number of a resource.
func (c *Call) Resource(unknown problem.Kind) (int64, error) {
	v, err := body.ParseNumber(c.ID, 1, body.MaxNumber)
	if err != nil {
		return 0, problem.New(unknown, "The id is not a number that was given to anything.")
	}
	return int64(v), nil
}

// Signed reads the body's one field request: bytes that the owner signed, at most so many.
func (c *Call) Signed(most int) (request []byte, err error) {
	return request, c.Object(map[string]body.Field{"request": body.Bytes(&request, most)}, "request")
}
