package dashboard

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// rig is a dashboard over real records whose other sources a test sets.
type rig struct {
	db     *store.DB
	name   string
	stones Stones
	usage  Usage
	chosen Selection // by the last page
	dead   deadletter.Summary
	fail   error // of all three
	log    bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &rig{db: db, name: "demo"}
}

func (r *rig) config() Config {
	timing := terms.Timing{GenesisS: 1_800_000_000, DayS: 86400, DropS: 600}
	return Config{
		Program: &terms.Program{Name: r.name, Environment: wire.Development, Timing: timing},
		Clock:   terms.Clock{Timing: timing, Now: func() time.Time { return time.Unix(1_800_000_600, 0) }},
		Store:   r.db,
		Stones:  func(context.Context) (Stones, error) { return r.stones, r.fail },
		Usage: func(_ context.Context, s Selection) (Usage, error) {
			r.chosen = s
			return r.usage, r.fail
		},
		DeadLetters: func(context.Context) (deadletter.Summary, error) { return r.dead, r.fail },
		Logger:      slog.New(slog.NewTextHandler(&r.log, nil)),
	}
}

func (r *rig) handler(t *testing.T) http.Handler {
	t.Helper()
	d, err := New(r.config())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (r *rig) get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r.handler(t).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w
}

// page returns the page and fails the test when it is not whole: 200, complete, balanced.
func (r *rig) page(t *testing.T) string {
	t.Helper()
	w := r.get(t, "/")
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	text := w.Body.String()
	if !strings.HasSuffix(text, "</html>\n") {
		t.Errorf("the page ends in %q", text[max(0, len(text)-40):])
	}
	balanced(t, text)
	return text
}

// balanced checks that every element that is opened is closed, in order.
func balanced(t *testing.T, text string) {
	t.Helper()
	text = regexp.MustCompile(`(<(?:meta|link)[^>]*)>`).ReplaceAllString(strings.Replace(text, " defer>", ` defer="">`, 1), "$1/>")
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("the page does not say %q", w)
		}
	}
}

func lacks(t *testing.T, text string, bad ...string) {
	t.Helper()
	for _, b := range bad {
		if strings.Contains(text, b) {
			t.Errorf("the page says %q", b)
		}
	}
}

func TestPageWithNothingYet(t *testing.T) {
	r := newRig(t)
	text := r.page(t)
	contains(t, text, "<h1>Rawstone <span class=\"muted\">demo</span></h1>", "development", "program day 20\u202f833",
		`<time datetime="2027-01-15T08:10:00Z">2027-01-15 08:10:00 UTC</time>`,
		"<dt>Vehicles</dt><dd>0</dd><dd class=\"muted\">0 seen</dd>", "nothing so far", "No drop has been drawn yet.",
		`<progress max="1" value="0"`, "0 stones issued", "Ledger: 0 entries")
	lacks(t, text, "Refused submissions", "Dead letters", "Latest drops", "NaN", "cannot be", "<article>")
}

func TestDeadLetters(t *testing.T) {
	r := newRig(t)
	r.dead = deadletter.Summary{
		Letters: map[deadletter.Reason]uint64{deadletter.TooLarge: 3, deadletter.Undecided: 1000},
		Oldest:  time.Date(2027, 1, 14, 9, 0, 0, 0, time.UTC),
	}
	contains(t, r.page(t), `Dead letters: messages set aside, the oldest <time datetime="2027-01-14T09:00:00Z">`,
		`<td>longer than a submission may be</td><td class="n">3</td>`, "<td>its decision failed again and again</td><td class=\"n\">1\u202f000</td>",
		"collector dead-letter replay --config FILE --all")
	r.fail = errors.New("gone")
	contains(t, r.page(t), "The dead letters cannot be counted at the moment")
}

// fill gives the records two vehicles, a credited claim and refusals.
func (r *rig) fill(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	ecu := wire.PublicKey{2, 2}
	birth := wire.Head{Seq: 1, Day: 1, Commitment: wire.Commitment{1}}
	claim := store.Submission{ID: wire.Hash{7}, Vehicle: "SECRETCAR1", Kind: wire.KindClaim, Accepted: true, Km: 12000, Receipt: []byte{1}}
	report := store.Submission{ID: wire.Hash{8}, Vehicle: "SECRETCAR1", Kind: wire.KindReport, Accepted: true, Receipt: []byte{1}}
	err := r.db.Update(ctx, func(tx *store.Tx) error {
		err := errors.Join(
			tx.AddAccount(ctx, "SECRETOWNER"),
			tx.AddVehicle(ctx, store.Vehicle{ID: "SECRETCAR1", Account: "SECRETOWNER", Device: wire.PublicKey{2, 1}}),
			tx.AddVehicle(ctx, store.Vehicle{ID: "SECRETCAR2", Account: "SECRETOWNER", Device: wire.PublicKey{2, 3}}),
			tx.AddECU(ctx, ecu, nil),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: "SECRETCAR1", Account: "SECRETOWNER", ECU: ecu, Head: birth}),
			tx.AddSubmission(ctx, &claim), tx.AddSubmission(ctx, &report),
		)
		b, noBinding := tx.OpenBinding(ctx, "SECRETCAR1")
		err = errors.Join(err, noBinding,
			tx.AddSpan(ctx, store.Span{ECU: ecu.ID(), From: birth, To: wire.Head{Seq: 2, Day: 2}, Vehicle: "SECRETCAR1", Submission: claim.ID}, b.Entry, 1,
				[]store.Credit{{Account: "SECRETOWNER", Vehicle: "SECRETCAR1", ECU: ecu.ID(), ToSeq: 2, Policy: 1, Kind: terms.KindMileage,
					Km: 12000, Effective: 3, Submission: claim.ID}}),
			tx.SetSeen(ctx, "SECRETCAR1", time.Unix(1_800_000_001, 0)),
		)
		for range 1234 {
			err = errors.Join(err, tx.CountRefusal(ctx, wire.KindClaim, wire.ReasonProof))
		}
		return errors.Join(err, tx.CountRefusal(ctx, wire.KindReport, wire.ReasonEpoch))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPageWithPlenty(t *testing.T) {
	r := newRig(t)
	r.fill(t)
	r.stones = Stones{
		Issued: 1_500_500, Scheduled: 2_000_000, Mined: 210_000_000_000, Height: 4, LogSize: 12_345, LogRoot: wire.Hash{0xab, 0xcd},
		Drops: []Drop{
			{Number: 4321, Entry: 98, Due: time.Unix(1_800_000_000, 0), MilliStones: 500_000, Weight: 12_000, Owners: 3, Seed: wire.Hash{0xfe, 0xed}},
			{Number: 4320, Entry: 97, Due: time.Unix(1_799_999_400, 0)},
		},
	}
	text := r.page(t)
	contains(t, text,
		"<dd>2</dd><dd class=\"muted\">1 seen, last at 08:00:01</dd>", "<dd>1</dd><dd class=\"muted\">1 usage reports</dd>",
		"<dd>1\u202f235</dd><dd class=\"muted\">reasons below</dd>", "<dd>12\u202f000 km</dd><dd class=\"muted\">1 credits</dd>",
		"<td>claim</td><td>proof does not hold</td><td class=\"n\">1\u202f234</td>",
		"<td>report</td><td>vehicle has already reported for that day</td><td class=\"n\">1</td>",
		"1\u202f500.5 stones issued in 4 drops", "allows 2\u202f000 by now: 0.00095 % of the 210\u202f000\u202f000 that driving",
		`<progress max="2000000" value="1500500"`, "75.0 %</progress>",
		"<td class=\"n\">4\u202f321</td><td>08:00:00</td><td class=\"n\">500</td><td class=\"n\">3</td><td class=\"n\">12\u202f000</td><td><code>feed00000000…</code></td><td class=\"n\">98</td>",
		"<span class=\"muted\">no weight</span>", "Ledger: 12\u202f345 entries, root <code>abcd00000000…</code>")
	lacks(t, text, "nothing so far", "No drop has been drawn yet.", "SECRET")
}

func TestCharts(t *testing.T) {
	r := newRig(t)
	hours := Family{Family: wire.FamilyHours, Reports: 1200, Measure: Mean, Bins: make([]Bin, 24), Privacy: "cost: ε = 1 a report."}
	for i := range hours.Bins {
		hours.Bins[i] = Bin{Mean: float64(i), Low: float64(i) - 1, High: float64(i) + 1, Bias: -0.25}
	}
	hours.Bins[3] = Bin{Suppressed: "relative standard error > 30 %"}
	trips := Family{Family: wire.FamilyTrips, Fewer: "fewer than 1,000 reports", Bins: []Bin{{Suppressed: "n < 1,000"}}, Suppressed: "n < 1,000", Privacy: "cost of trips"}
	speed := Family{Family: wire.FamilySpeed, Reports: 5000, Measure: Share, Categorical: true, Bins: make([]Bin, 11)}
	speed.Bins[10] = Bin{Mean: 0.25, Low: 0.2, High: 0.3}
	r.usage = Usage{Window: "program day 7", Models: []string{"A 1", "B"}, Charters: []Charter{
		{Name: "Under charter 2, in force", Families: []Family{hours, trips}, Privacy: "(1, 1e-06)-differentially private.", Clipping: "Clipping changes 1 %."},
		{Name: "Under charter 1, an earlier one", Families: []Family{speed}, Privacy: "2-differentially private."},
	}}
	text := r.page(t)
	contains(t, text, "(1, 1e-06)-differentially private. Clipping changes 1 %.", "In use by hour of the day", "program day 7",
		"minutes per vehicle and dispatch, mean, with 95 % interval, some 1\u202f200 reports",
		`<th scope="row">23:00</th><td class="draw">`, `width="95.83"`, "23.00 <span class=\"muted\">[22.00, 24.00], clipping bias -0.25</span>",
		`<th scope="row">03:00</th><td class="muted" colspan="2">suppressed: relative standard error &gt; 30 %</td>`,
		"<h3>Trips by length</h3>", `<p class="suppressed">suppressed: n &lt; 1,000</p>`, "fewer than 1,000 reports in this window",
		`<p class="muted cost">cost: ε = 1 a report.</p>`, `<p class="muted cost">cost of trips</p>`,
		"<h3>Under charter 2, in force</h3>", "<h3>Under charter 1, an earlier one</h3>", "share of dispatches in which this was the most, with 95 % interval, some 5\u202f000 reports",
		`<th scope="row">none at all</th>`, "25.0 % <span class=\"muted\">[20.0 %, 30.0 %]</span>",
		`<a href="./" aria-current="true">28 days</a>`, `<a href="?window=week">week</a>`, `<a href="?show=share">shares</a>`, `<a href="?model=A&#43;1">A 1</a>`)
	lacks(t, text, "under 1 km", "NaN", "trips per vehicle")
	// Noise may lie below zero; a bar may not.
	contains(t, text, `<th scope="row">00:00</th><td class="draw"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">`+
		`<rect class="mean" x="0" y="2" width="0.00" height="6"/><rect class="interval" x="0.00" y="4.4" width="4.17" height="1.2"/>`)
}

// TestChoices: a page shows what its address says, and its links lead to what they say, whatever was chosen before.
func TestChoices(t *testing.T) {
	r := newRig(t)
	r.usage.Models = []string{"A 1", "B"}
	href := regexp.MustCompile(`<a href="([^"]*)"( aria-current="true")?>([^<]*)</a>`)
	for _, from := range []Selection{{FourWeeks, Mean, ""}, {Week, Total, "A 1"}, {Week, Share, "gone"}} {
		w := r.get(t, "/"+strings.TrimPrefix(from.link(), "./"))
		if w.Code != http.StatusOK || r.chosen != from {
			t.Fatalf("%d: %+v was shown, want %+v", w.Code, r.chosen, from)
		}
		links := href.FindAllStringSubmatch(w.Body.String(), -1)
		current := 0
		for _, l := range links {
			to := from
			switch l[3] {
			case "week":
				to.Span = Week
			case "28 days":
				to.Span = FourWeeks
			case "means":
				to.Measure = Mean
			case "shares":
				to.Measure = Share
			case "totals":
				to.Measure = Total
			case "whole fleet":
				to.Model = ""
			default:
				to.Model = l[3]
			}
			if r.get(t, "/"+strings.TrimPrefix(html.UnescapeString(l[1]), "./")); r.chosen != to {
				t.Errorf("%s leads to %+v, want %+v", l[3], r.chosen, to)
			}
			if (l[2] != "") != (to == from) {
				t.Errorf("%s is marked: %v", l[3], l[2] != "")
			}
			if l[2] != "" {
				current++
			}
		}
		want := 8
		if from.Model == "gone" {
			want++ // what is shown is among the choices
		}
		if len(links) != want || current != 3 {
			t.Errorf("%d links, want %d; %d marked", len(links), want, current)
		}
	}
	for query, says := range map[string]string{
		"window=year": "window is neither week nor 28d", "show=all": "show is none of mean, share and sum", "model=%3Cb%3E": "model", "x=1": "none of window, show and model",
		"window=week&window=week": "2 times", "model=" + strings.Repeat("a", 33): "not 1 to 32",
	} {
		w := r.get(t, "/?"+query)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), says) || strings.Contains(w.Header().Get("Content-Type"), "html") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
}

func TestNothingInNamesBecomesMarkup(t *testing.T) {
	r := newRig(t)
	r.name = `</title><script>alert(1)</script><img src=x onerror="alert(2)">`
	r.usage = Usage{Charters: []Charter{{Privacy: "<b>p", Families: []Family{{Suppressed: "<i>s"}}}}, Models: []string{"<u>m"}}
	text := r.page(t)
	lacks(t, text, "<script>", "<img", "<b>", "<i>", "<u>")
	contains(t, text, "&lt;script&gt;alert(1)", "&lt;b&gt;p", "&lt;i&gt;s")
}

func TestOneSourceFails(t *testing.T) {
	r := newRig(t)
	r.fill(t)
	r.fail = errors.New("disk on fire")
	text := r.page(t)
	contains(t, text, "The ledger cannot be read at the moment; the collector's log says why.",
		"The usage estimates cannot be computed at the moment; the collector's log says why.", "12\u202f000 km", "proof does not hold")
	lacks(t, text, "disk on fire", "Stones issued", "No drop has been drawn yet.")
	if n := strings.Count(r.log.String(), "disk on fire"); n != 3 {
		t.Errorf("the log has the cause %d times: %s", n, &r.log)
	}
}

func TestRecordsFail(t *testing.T) {
	r := newRig(t)
	r.db.Close()
	w := r.get(t, "/")
	if w.Code != http.StatusInternalServerError || w.Body.String() != "The collector cannot read its records at the moment. Its log says why.\n" {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	contains(t, r.log.String(), "dashboard cannot make page")
	// A reader who goes away is no error of the collector's.
	r.log.Reset()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.handler(t).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	if r.log.Len() != 0 {
		t.Errorf("a reader who left is logged: %s", &r.log)
	}
}

func TestFilesComeFromHere(t *testing.T) {
	r := newRig(t)
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/style.css": "text/css; charset=utf-8", "/live.js": "text/javascript; charset=utf-8"} {
		w := r.get(t, path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %s, %d bytes", path, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		lacks(t, w.Body.String(), "http://", "https://", "//cdn", "url(", "@import", "<script>", " style=")
		csp := w.Header().Get("Content-Security-Policy")
		contains(t, csp, "default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'")
		lacks(t, csp, "unsafe", "http", "*", "data:")
		if w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, w.Header())
		}
	}
	if cache := r.get(t, "/").Header().Get("Cache-Control"); cache != "no-store" {
		t.Errorf("the page may be cached: %q", cache)
	}
	for _, path := range []string{"/page.html.tmpl", "/style.css/", "/dashboard.go", "/x", "/../style.css/x"} {
		if w := r.get(t, path); w.Code == http.StatusOK {
			t.Errorf("%s is served", path)
		}
	}
}

func TestOnlyReading(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/", "/style.css", "/live.js"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions} {
			w := httptest.NewRecorder()
			r.handler(t).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("x")))
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("%s %s: %d", method, path, w.Code)
			}
		}
	}
}

func TestNewRefusesHalfAConfig(t *testing.T) {
	r := newRig(t)
	for name, drop := range map[string]func(*Config){
		"program": func(c *Config) { c.Program = nil }, "clock": func(c *Config) { c.Clock.Now = nil }, "store": func(c *Config) { c.Store = nil },
		"stones": func(c *Config) { c.Stones = nil }, "usage": func(c *Config) { c.Usage = nil }, "logger": func(c *Config) { c.Logger = nil },
	} {
		cfg := r.config()
		drop(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("made without %s", name)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{count(0), "0"}, {count(999), "999"}, {count(uint32(1000)), "1\u202f000"}, {count(int64(-1234567)), "−1\u202f234\u202f567"}, {count(-12), "−12"},
		{count(uint64(math.MaxUint64)), "18\u202f446\u202f744\u202f073\u202f709\u202f551\u202f615"},
		{stones(0), "0"}, {stones(500), "0.5"}, {stones(1), "0.001"}, {stones(1_000), "1"}, {stones(1_234_050), "1\u202f234.05"},
		{stones(300_000_000_000), "300\u202f000\u202f000"},
		{share(0, 0), "0 %"}, {share(1, 0), "0 %"}, {share(0, 5), "0.0 %"}, {share(1, 3), "33.3 %"}, {share(5, 5), "100.0 %"},
		{share(1, 1000), "0.1 %"}, {share(1, 2000), "0.050 %"}, {share(1, 210_000_000), "0.00000048 %"},
		{Label(wire.FamilyHours, 7), "07:00"}, {Label(wire.FamilyCharge, 9), "90–100 %"}, {Label(wire.FamilySpeed, 9), "above 160"},
		{Label(wire.FamilyFeature, 0), "driver assistance"}, {Label(wire.FamilyFeature, 1), "reserved 1"}, {Label(wire.FamilyHours, 24), "none at all"},
		{Unit(wire.FamilyTrips), "trips"}, {Unit(wire.FamilySpeed), "minutes"}, {unit(Family{Family: wire.FamilyTrips, Measure: Share}), "share of all trips"},
		{unit(Family{Family: wire.FamilyHours, Measure: Total}), "minutes of all vehicles that reported, in the whole window"},
		{value(Mean, 1.239), "1.24"}, {value(Share, 0.1239), "12.4 %"}, {value(Total, 1234567.8), "1\u202f234\u202f568"}, {value(Total, -12.2), "−12"},
		{Title(0), "Unknown"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if got := bar(Family{Bins: []Bin{{Mean: -1, Low: -2, High: -0.5}}}, Bin{Mean: -1, Low: -2, High: -0.5}); got != (barShape{}) {
		t.Errorf("a chart of noise below zero: %+v", got)
	}
	f := Family{Bins: []Bin{{Mean: 5, Low: 2, High: 10}, {High: 99, Suppressed: "n < 1,000"}}}
	if got := bar(f, f.Bins[0]); got != (barShape{50, 20, 80}) {
		t.Errorf("a chart scales to a suppressed bin: %+v", got)
	}
}

// TestEverythingHasAName checks that no bin and no reason is shown by its number or code.
func TestEverythingHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for _, l := range wire.Layouts() {
		if name := Title(l.Family); name == "Unknown" || seen[name] {
			t.Errorf("family %s is called %s", l.Name, name)
		} else {
			seen[name] = true
		}
		for i := range l.Len {
			name := fmt.Sprint(l.Name, Label(l.Family, i))
			if seen[name] || l.Family != wire.FamilyFeature && strings.Contains(name, "reserved") {
				t.Errorf("bin %d of %s is called %s", i, l.Name, name)
			}
			seen[name] = true
		}
	}
	for _, r := range []wire.Reason{
		wire.ReasonMalformed, wire.ReasonUnknownVehicle, wire.ReasonUnknownKey, wire.ReasonRevoked, wire.ReasonSignature, wire.ReasonProof,
		wire.ReasonGap, wire.ReasonStale, wire.ReasonFuture, wire.ReasonPolicy, wire.ReasonCharter, wire.ReasonEpoch, wire.ReasonBudget,
	} {
		if reason(r) == string(r) {
			t.Errorf("reason %s has no words", r)
		}
	}
}
