// Package dashboard shows fleet engineers what the collector knows: vehicles, claims, kilometres proven, stones against the emission
// schedule, the latest drops, and usage estimates with their uncertainty.
//
// Pages are rendered here, from real data, with everything they need served from this binary; without JavaScript they are whole and
// stand still, with it they follow the collector. The package shows no vehicle's data: estimates come with a confidence interval or
// are suppressed, and the reason is said.
package dashboard

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

//go:embed page.html.tmpl style.css live.js
var files embed.FS

// renderTimeout bounds the queries of one page.
const renderTimeout = 10 * time.Second

// A Drop is one drawn drop.
type Drop struct {
	// Number counts drops from genesis; Entry is the number of its block in the ledger.
	Number, Entry uint64
	// Due is its scheduled instant.
	Due time.Time
	// MilliStones is what it issued, Weight the effective kilometres it was drawn over, Owners how many accounts had weight.
	MilliStones, Weight, Owners uint64
	// Seed is what decided it.
	Seed wire.Hash
}

// Stones is how far the emission has come, in milli-stones.
type Stones struct {
	// Issued is the supply so far; Scheduled the emission at the height reached; Mined the whole of what can be mined.
	Issued, Scheduled, Mined uint64
	// Height is the number of drops that issued.
	Height uint64
	// Drops are the latest ones, newest first.
	Drops []Drop
	// LogSize and LogRoot are the ledger's checkpoint.
	LogSize uint64
	LogRoot wire.Hash
}

// Config says where the data comes from. All fields are required.
type Config struct {
	Program *terms.Program
	Clock   terms.Clock
	Store   *store.DB
	// Stones, Usage and DeadLetters return what is current, Usage of what the reader has chosen.
	Stones      func(context.Context) (Stones, error)
	Usage       func(context.Context, Selection) (Usage, error)
	DeadLetters func(context.Context) (deadletter.Summary, error)
	Logger      *slog.Logger
}

// A Dashboard is an http.Handler.
type Dashboard struct {
	cfg  Config
	page *template.Template
	mux  *http.ServeMux
}

// New parses the templates.
func New(cfg Config) (*Dashboard, error) {
	if cfg.Program == nil || cfg.Clock.Now == nil || cfg.Store == nil || cfg.Stones == nil || cfg.Usage == nil || cfg.DeadLetters == nil || cfg.Logger == nil {
		return nil, errors.New("cannot make dashboard: program, clock, store, stones, usage, dead letters and logger are required")
	}
	t, err := template.New("page.html.tmpl").Funcs(functions()).ParseFS(files, "page.html.tmpl")
	if err != nil {
		return nil, fmt.Errorf("cannot make dashboard: %w", err)
	}
	d := &Dashboard{cfg: cfg, page: t, mux: http.NewServeMux()}
	d.mux.HandleFunc("GET /{$}", d.overview)
	d.mux.Handle("GET /style.css", http.FileServerFS(files))
	d.mux.Handle("GET /live.js", http.FileServerFS(files))
	return d, nil
}

// ServeHTTP implements http.Handler.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	d.mux.ServeHTTP(w, r)
}

// overviewData is what the page shows.
type overviewData struct {
	Program     *terms.Program
	Day         uint32
	Now         time.Time
	Summary     store.Summary
	Refusals    []store.Refusals
	Refused     int64
	Stones      Stones
	Usage       Usage
	Choices     []Choice
	UsageError  bool
	StonesError bool
	Letters     deadletter.Summary
	LetterError bool
}

func (d *Dashboard) overview(w http.ResponseWriter, r *http.Request) {
	chosen, err := choose(r.URL.Query())
	if err != nil {
		http.Error(w, "There is no such page: "+err.Error()+".", http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), renderTimeout)
	defer cancel()
	data := overviewData{Program: d.cfg.Program, Day: d.cfg.Clock.Today(), Now: d.cfg.Clock.Now().UTC()}
	err = d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		if data.Summary, err = tx.Summary(ctx); err != nil {
			return err
		}
		data.Refusals, err = tx.Refusals(ctx)
		return err
	})
	if err != nil {
		d.fail(w, r, err)
		return
	}
	for _, refusal := range data.Refusals {
		data.Refused += refusal.N
	}
	if data.Stones, err = d.cfg.Stones(ctx); err != nil {
		d.report(r, "dashboard cannot read stones", err)
		data.StonesError = true
	}
	if data.Usage, err = d.cfg.Usage(ctx, chosen); err != nil {
		d.report(r, "dashboard cannot read usage estimates", err)
		data.UsageError = true
	}
	data.Choices = choices(chosen, data.Usage.Models)
	if data.Letters, err = d.cfg.DeadLetters(ctx); err != nil {
		d.report(r, "dashboard cannot count dead letters", err)
		data.LetterError = true
	}
	var b bytes.Buffer
	if err := d.page.Execute(&b, data); err != nil {
		d.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if _, err := w.Write(b.Bytes()); err != nil {
		d.cfg.Logger.Debug("dashboard reader went away", "error", err)
	}
}

func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, err error) {
	d.report(r, "dashboard cannot make page", err)
	http.Error(w, "The collector cannot read its records at the moment. Its log says why.", http.StatusInternalServerError)
}

// report logs an error, except one that the reader made by going away.
func (d *Dashboard) report(r *http.Request, msg string, err error) {
	if r.Context().Err() == nil {
		d.cfg.Logger.Error(msg, "error", err)
	}
}
