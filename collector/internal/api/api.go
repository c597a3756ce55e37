// Package api is the accounts' HTTP API for the maker's app, version 1: an owner's account, history and statement, tasks, mine boxes and
// catalogue, and what an owner or the maker's backend may ask for.
//
// Whoever asks carries an access token of the program's issuer; its subject is the account, and its scopes say what may be asked. What
// changes anything carries an idempotency key as well, and is done once: its answer is kept with what it did, in one transaction, and
// given again to the same request. What spends stones or crystals is signed with the account's own key besides, and so is that key's
// replacement: a token alone neither spends for an owner nor takes the account over. It does register the first key, and the operator, outside
// this API, can replace one that is lost; the account's history and statement show both. Errors are problem details (RFC 9457). openapi.yaml is
// the API's document; tests hold every answer against it.
//
// The package decides nothing about crystals and stones: that is the records' business (package estate). It logs neither accounts nor
// tokens nor bodies.
package api

import (
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/idempotency"
	"rawstone/collector/internal/api/lookup"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/refusal"
	"rawstone/collector/internal/api/spool"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/store"
)

//go:embed openapi.yaml
var document []byte

const defaultPatience = 20 * time.Second

// Config says what is served to whom. Fields are required unless their comment says otherwise.
type Config struct {
	// Rules are the program's document and its identifier.
	Rules estate.Rules
	// Now is the clock by which tokens end and rates are counted; the program's days are the ledger's.
	Now func() time.Time
	// Store is the records, opened as store.Account.
	Store *store.DB
	// Tokens checks access tokens.
	Tokens *token.Verifier
	// Statement writes an account's statement from the block of a drop on, as statement.Desk.Write does; nil when there is none to be had
	// from this process.
	Statement func(ctx context.Context, w io.Writer, account string, since uint64) error
	// Spool is the directory in which statements are made; that of temporary files when empty.
	Spool string
	// Exchange returns what the exchange statement gives to an account, ErrNoExchange before it is announced; nil when there is none.
	Exchange func(ctx context.Context, account string) (Exchange, error)
	// Owners bounds what an account may ask, 5 a second and 60 at once when zero; Backend bounds a client with scope stones.grant, 500 a
	// second and 1,000 at once when zero. Askers bounds how many of both are remembered, 100,000 when zero.
	Owners, Backend gate.Rate
	Askers          int
	// Patience is how long the records may take for one answer; 20 s when zero.
	Patience time.Duration
	Logger   *slog.Logger
	// Registerer takes rawstone_api_requests_total; nil keeps it unseen.
	Registerer prometheus.Registerer
}

// An Exchange is an account's part of the equity statement, in fen, at a set program day.
type Exchange struct {
	Day uint32
	// ValueFen is the founding-round equity value, of which the statement splits reward.EquityPerMille.
	ValueFen uint64
	// Milli are the account's stones on that day, AllMilli everybody's, and PortionFen what the account gets.
	Milli, AllMilli, PortionFen uint64
}

// ErrNoExchange says that no valuation has been announced.
var ErrNoExchange = errors.New("no valuation has been announced")

type api struct {
	cfg     Config
	mux     *http.ServeMux
	gate    *gate.Gate
	answers *prometheus.CounterVec
	flights idempotency.Flights
	spool   *spool.Spool // of statements
}

// New returns the API's handler, which serves everything under /v1/.
func New(cfg Config) (http.Handler, error) {
	a, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(a.serve), nil
}

func newAPI(cfg Config) (*api, error) {
	if cfg.Rules.Program == nil || cfg.Rules.ID.IsZero() || cfg.Now == nil || cfg.Store == nil || cfg.Tokens == nil || cfg.Logger == nil || cfg.Patience < 0 {
		return nil, errors.New("cannot serve accounts: rules, clock, store, tokens and logger are required, and a patience that is not negative")
	}
	a := &api{cfg: cfg, mux: http.NewServeMux()}
	a.cfg.Patience = cmp.Or(cfg.Patience, defaultPatience)
	var err error
	if a.spool, err = spool.New(spool.Config{Dir: cfg.Spool}); err != nil {
		return nil, err
	}
	if a.gate, err = gate.New(gate.Config{Tokens: cfg.Tokens, Now: cfg.Now, Owners: cfg.Owners, Backend: cfg.Backend, Askers: cfg.Askers}); err != nil {
		return nil, err
	}
	a.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rawstone_api_requests_total", Help: "Requests to the accounts' API by operation and status.",
	}, []string{"operation", "status"})
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(a.answers); err != nil {
			return nil, err
		}
	}
	byPath := make(map[string]map[string]operation)
	for _, o := range a.operations() {
		if byPath[o.path] == nil {
			byPath[o.path] = make(map[string]operation)
		}
		byPath[o.path][o.method] = o
	}
	for p, methods := range byPath {
		a.mux.Handle(p, a.dispatch(methods))
	}
	a.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, "none", problem.New(problem.NotFound(), "There is nothing under this path."))
	})
	return a, nil
}

// serve sets what every answer has, and refuses paths that are spelt in another way than the one.
func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.TLS != nil {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	if r.Method == http.MethodConnect || path.Clean(r.URL.Path) != r.URL.Path {
		a.refuse(w, "none", problem.New(problem.NotFound(), "There is nothing under this path."))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// An operation is one method of one path.
type operation struct {
	method, path string
	// scopes and query are those of its gate.Rule; what changes anything has a body.
	scopes, query []string
	// Exactly one of these answers: see reads a state of the records, do changes it, ask needs none, and raw writes the answer by itself.
	see, do func(context.Context, records, *gate.Call) (reply, error)
	ask     func(context.Context, *gate.Call) (reply, error)
	raw     func(http.ResponseWriter, *http.Request, *gate.Call) error
	// resource is what the answer's id stands under.
	resource string
}

func (o *operation) name() string { return o.method + " " + o.path }

// A reply is a status and what is written as JSON.
type reply struct {
	status int
	body   any
}

func (a *api) dispatch(methods map[string]operation) http.Handler {
	allowed := []string{http.MethodOptions}
	for m := range methods {
		allowed = append(allowed, m)
		if m == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	allow := strings.Join(allowed, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		o, known := methods[method]
		switch {
		case known:
			if err := a.answer(w, r, &o); err != nil {
				a.fail(w, r, o.name(), err)
			}
		case method == http.MethodOptions:
			w.Header().Set("Allow", allow)
			w.WriteHeader(http.StatusNoContent)
			a.count("options", http.StatusNoContent)
		default:
			w.Header().Set("Allow", allow)
			a.refuse(w, "none", problem.New(problem.MethodNotAllowed(), "The path has the methods "+allow+"."))
		}
	})
}

// answer answers a request, or returns why not.
func (a *api) answer(w http.ResponseWriter, r *http.Request, o *operation) error {
	c, err := a.gate.Admit(w, r, gate.Rule{Scopes: o.scopes, Query: o.query, Body: o.do != nil})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.Patience)
	defer cancel()
	switch {
	case o.raw != nil:
		if err := o.raw(w, r, c); err != nil {
			return err
		}
		a.count(o.name(), http.StatusOK)
		return nil
	case o.do != nil:
		return a.change(ctx, w, r, o, c)
	}
	var ans reply
	if o.ask != nil {
		ans, err = o.ask(ctx, c)
	} else {
		err = a.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
			ans, err = o.see(ctx, a.records(tx), c)
			return err
		})
	}
	if err != nil {
		return err
	}
	b, err := json.Marshal(ans.body)
	if err != nil {
		return err
	}
	a.write(w, o, ans.status, append(b, '\n'))
	return nil
}

// Records are what one transaction shows of accounts and of the ledger.
type records struct {
	store.Estate
	ledger lookup.Ledger
}

func (a *api) records(tx *store.Tx) records { return records{tx.Estate(a.cfg.Rules), tx} }

// write writes an answer as it was made, now or when its request came first.
func (a *api) write(w http.ResponseWriter, o *operation, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if status >= http.StatusBadRequest {
		h.Set("Content-Type", problem.ContentType)
	} else if o.resource != "" {
		var made struct {
			ID json.Number `json:"id"`
		}
		if err := json.Unmarshal(body, &made); err == nil && made.ID != "" {
			h.Set("Location", o.resource+made.ID.String())
		}
	}
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		a.cfg.Logger.Debug("reader of the accounts' API went away", "error", err)
	}
	a.count(o.name(), status)
}

func (a *api) count(operation string, status int) {
	a.answers.WithLabelValues(operation, strconv.Itoa(status)).Inc()
}

// refuse answers with a problem.
func (a *api) refuse(w http.ResponseWriter, operation string, p *problem.Problem) {
	p.Write(w)
	a.count(operation, p.Kind.Status())
}

// fail answers with the problem that an error is. What is none is logged and told to nobody.
func (a *api) fail(w http.ResponseWriter, r *http.Request, operation string, err error) {
	var p *problem.Problem
	switch {
	case errors.As(refusal.Of(err), &p):
	case errors.Is(err, database.ErrBusy), errors.Is(err, context.DeadlineExceeded), r.Context().Err() != nil:
		w.Header().Set("Retry-After", "1")
		p = problem.New(problem.Unavailable(), "The records are busy.")
	default:
		a.cfg.Logger.Error("accounts' API cannot answer", "operation", operation, "error", err)
		p = problem.New(problem.Internal(), "The reason is in the collector's log.")
	}
	a.refuse(w, operation, p)
}
