package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/program"
	"rawstone/collector/internal/registry"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// TestRun takes a collector from a new program to its first drops, twice over the same state.
func TestRun(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	if _, _, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r := start(t, cfg)
		answer, page := r.get(t, "/")
		if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
			t.Fatalf("dashboard: %s\n%s", answer.Status, page)
		}
		contains(t, page, "Rawstone", "demo", "<dt>Vehicles</dt><dd>1</dd>", "</html>")
		contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
		if h := answer.Header; h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v", h)
		}
		links := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(page, -1)
		if len(links) != 7 { // style and script, two windows and three measures
			t.Errorf("the page links to %v", links)
		}
		for _, l := range links {
			if answer, _ := r.get(t, "/"+l[1]); answer.StatusCode != http.StatusOK {
				t.Errorf("%s: %s", l[1], answer.Status)
			}
		}
		for _, scheme := range []string{"http://", "https://"} {
			if strings.Contains(page, scheme) {
				t.Errorf("the page names an address with %s", scheme)
			}
		}
		answer, text := r.get(t, "/metrics")
		if answer.StatusCode != http.StatusOK {
			t.Errorf("metrics: %s", answer.Status)
		}
		contains(t, text, "\nrawstone_settle_entries_total ", "\nrawstone_ingest_", "\nprocess_resident_memory_bytes ", "\ngo_goroutines ")
		w.drawn(t, r) // a drop is due every 2 s
		if _, page = r.get(t, "/"); strings.Contains(page, "No drop has been drawn yet.") || strings.Contains(page, "Ledger: 0 entries") {
			t.Errorf("the dashboard does not show the drop:\n%s", page)
		}
		contains(t, page, "Latest drops", "no weight")
		if c, err := net.Dial("tcp", r.MQTT); err != nil {
			t.Errorf("vehicles cannot connect: %v", err)
		} else {
			c.Close()
		}
		r.end(t)
		for _, addr := range []string{r.MQTT, r.Web, r.HTTPS} {
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Errorf("%s is served after the end", addr)
			}
		}
	}
	report, err := Audit(t.Context(), w.path("state/ledger"), w.path("program/root.pub"), "")
	if err != nil || report.Blocks == 0 || report.Policies != 1 {
		t.Errorf("audit: %+v, %v", report, err)
	}
}

// TestAddressInUse checks that a taken address is named, and that nothing stays open behind the refusal.
func TestAddressInUse(t *testing.T) {
	w := newWorld(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	for key, c := range map[string]struct{ old, new, remedy string }{
		"mqtt.listen": {"mqtt: {listen: \"127.0.0.1:0\"}", "mqtt: {listen: \"" + addr + "\"}", "configure another port"},
		"web":         {"web: 127.0.0.1:0", "web: " + addr, "choose another address with the key web"},
		"https":       {"listen: \"127.0.0.1:0\", certificate", "listen: \"" + addr + "\", certificate", "choose another address with the key https.listen"},
	} {
		text := refuses(t, w.load(t, c.old, c.new))
		contains(t, text, addr, "address already in use", c.remedy)
		if strings.Contains(text, "\n") {
			t.Errorf("%s: more than one sentence: %s", key, text)
		}
		start(t, w.load(t)).end(t)
	}
}

// TestTwoCollectors checks that one state has one collector, and that the second leaves the first alone.
func TestTwoCollectors(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	first := start(t, cfg)
	contains(t, refuses(t, cfg), w.path("state/ledger"), "another process writes to it; stop that one first")
	if answer, _ := first.get(t, "/"); answer.StatusCode != http.StatusOK {
		t.Errorf("the first collector answers %s", answer.Status)
	}
	first.end(t)
	start(t, cfg).end(t)
}

// TestStoppedWhileStarting checks that being told to stop too early is no error and leaves nothing open.
func TestStoppedWhileStarting(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ctx, cfg, Deps{Logger: slog.New(slog.DiscardHandler), OnReady: func(Addresses) { t.Error("became ready") }})
	if err != nil {
		t.Error(err)
	}
	start(t, cfg).end(t)
}

// TestReaderHoldsNothingUp checks that a browser that has connected and says nothing does not make the end an error.
func TestReaderHoldsNothingUp(t *testing.T) {
	t.Parallel()
	r := start(t, newWorld(t).load(t))
	c, err := net.Dial("tcp", r.Web)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	r.get(t, "/") // by now the server has taken the connection before
	r.end(t)
}

func TestRunNeedsALogger(t *testing.T) {
	if err := Run(t.Context(), &Config{}, Deps{}); err == nil || !strings.Contains(err.Error(), "no logger") {
		t.Errorf("got %v", err)
	}
}

// TestStateOfAnotherProgram checks that records are not continued under another program.
func TestStateOfAnotherProgram(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	start(t, w.load(t)).end(t)
	text := refuses(t, other.load(t, "state_dir: state", "state_dir: "+w.path("state")))
	contains(t, text, w.path("state/ledger"))
	start(t, w.load(t)).end(t)
}

// TestUsageCountsReports checks that stored reports reach the dashboard's charts, which do not tell how few they are.
func TestUsageCountsReports(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	if _, _, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now); err != nil {
		t.Fatal(err)
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: w.path("state/records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	now := time.Now() // the clock stands still: a day is short here
	today := p.Timing.Day(now)
	err = db.Update(t.Context(), func(tx *store.Tx) (err error) {
		for _, epoch := range []uint32{today - 29, today - 28, today - 1, today} { // the first has left the window, and the last day is not over
			err = errors.Join(err, tx.AddReport(t.Context(), store.Report{
				Vehicle: "CAR1", Epoch: epoch, Families: wire.FamilyTrips, Vector: make([]byte, 4*wire.VectorLen), Charter: p.CharterID,
				Charge: wire.NewCharge(uint64(epoch), [32]byte{1}),
			}))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := startAt(t, cfg, func() time.Time { return now })
	var text string
	for end := time.Now().Add(hang); !strings.Contains(text, `rawstone_analytics_reports_total{outcome="accepted"} 4`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the reports are not counted\n%s\n%s", text, r.log)
		}
		_, text = r.get(t, "/metrics")
	}
	_, page := r.get(t, "/")
	contains(t, page, "Trips by length", "suppressed: n &lt; 1,000", "a year of 366 composes to ε = 31.1 at a total δ of 1e-06", "Clipping changes 1.0 %")
	if n := strings.Count(page, "fewer than 1,000 reports in this window"); n != 5 {
		t.Errorf("%d of five families say so", n)
	}
	if strings.Contains(page, "2 reports") {
		t.Errorf("the number is told\n%s", page)
	}
	r.end(t)
}

func TestOpeningsOfTheOwnValidator(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	account, _, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: w.path("state/records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.NumberEntries(t.Context(), 9) }); err != nil {
		t.Fatal(err)
	}
	o := stones.Opener{DB: db}
	if b, ok := o.Binding(0); !ok || b.Vehicle != "CAR1" || b.Account != account {
		t.Errorf("binding %+v, %t", b, ok)
	}
	if s, ok := o.Secret(account); !ok || s == [32]byte{} {
		t.Error("no secret")
	}
	if _, ok := o.Credit(0); ok {
		t.Error("a binding was opened as a credit")
	}
	if _, ok := o.Binding(1); ok {
		t.Error("an entry that is not there was opened")
	}
}

// TestVehicles checks the registry's errands and their refusals.
func TestVehicles(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	list := func() []registry.Registered {
		var all []registry.Registered
		err := Administer(t.Context(), cfg, time.Now, func(d *registry.Desk) (err error) {
			all, err = d.Vehicles(t.Context())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := list(); all == nil || len(all) != 0 {
		t.Errorf("an empty registry is %#v", all)
	}
	car := w.car(t, "CAR1")
	account, _, err := AddVehicle(t.Context(), cfg, car, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if all := list(); len(all) != 1 || all[0].ID != "CAR1" || all[0].Account != account || all[0].AddedDay == 0 || !all[0].LastSeen.IsZero() {
		t.Errorf("vehicles %+v", all)
	}
	w.write(t, "garbage", []byte("garbage"))
	w.write(t, "big", make([]byte, 65<<10))
	second := w.car(t, "CAR2")
	for name, c := range map[string]struct {
		v    Vehicle
		want string
	}{
		"no certificate":   {Vehicle{ID: "CAR2", ECUKey: second.ECUKey, ECUCert: w.path("none")}, "cannot use ECU certificate: "},
		"another's":        {Vehicle{ID: "CAR2", ECUKey: second.ECUKey, ECUCert: car.ECUCert}, "not of the ECU's"},
		"same vehicle":     {car, "cannot add vehicle CAR1: it is already registered"},
		"no identity":      {Vehicle{ID: "CAR2", ECUKey: w.path("none"), ECUCert: second.ECUCert}, w.path("none") + ": no such file or directory; give the file that the ECU"},
		"garbled identity": {Vehicle{ID: "CAR2", ECUKey: w.path("garbage"), ECUCert: second.ECUCert}, "cannot use ECU identity " + w.path("garbage")},
		"large identity":   {Vehicle{ID: "CAR2", ECUKey: w.path("big"), ECUCert: second.ECUCert}, w.path("big")},
		"same ECU":         {Vehicle{ID: "CAR2", ECUKey: car.ECUKey, ECUCert: car.ECUCert}, "already bound to vehicle CAR1"},
		"bad name":         {Vehicle{ID: "car 2", ECUKey: second.ECUKey, ECUCert: second.ECUCert}, "car 2"},
		"no such account":  {Vehicle{ID: "CAR2", ECUKey: second.ECUKey, ECUCert: second.ECUCert, Account: "X"}, "there is no account X"},
	} {
		if _, _, err := AddVehicle(t.Context(), cfg, c.v, time.Now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	second.Account = account
	if got, _, err := AddVehicle(t.Context(), cfg, second, time.Now); err != nil || got != account || len(list()) != 2 {
		t.Errorf("a second vehicle of an account: %s, %v", got, err)
	}
}

func TestOpeningsFile(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	out := w.path("openings.json")
	if err := WriteOpenings(t.Context(), cfg, out); err == nil || !strings.Contains(err.Error(), "there are no records") {
		t.Errorf("openings of nothing: %v", err)
	}
	for _, name := range []string{"state", "openings.json"} {
		if _, err := os.Stat(w.path(name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
	if _, _, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	w.drawn(t, r)
	r.end(t)
	if err := WriteOpenings(t.Context(), cfg, out); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(out); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("openings are %v, %v", i, err)
	}
	before := readFile(t, out)
	if err := WriteOpenings(t.Context(), cfg, out); err == nil || !strings.Contains(err.Error(), out+" exists; choose another name") {
		t.Errorf("openings over openings: %v", err)
	}
	if string(readFile(t, out)) != string(before) {
		t.Error("the file was changed")
	}
	report, err := Audit(t.Context(), w.path("state/ledger"), w.path("program/root.pub"), out)
	if err != nil || !report.Opened {
		t.Errorf("audit: %+v, %v", report, err)
	}
	w.write(t, "garbage.json", []byte("garbage"))
	for name, c := range map[string]struct{ dir, root, openings, want string }{
		"no ledger":        {"none", "program/root.pub", "", "name the directory ledger below the collector's state_dir"},
		"no entries":       {"program", "program/root.pub", "", "holds no entry"},
		"no openings":      {"state/ledger", "program/root.pub", "none", "`collector openings` writes them"},
		"garbled openings": {"state/ledger", "program/root.pub", "garbage.json", "cannot use openings " + w.path("garbage.json")},
		"no root":          {"state/ledger", "none", "", "cannot read program root"},
		"another root":     {"state/ledger", "CAR1.pub", "", "cannot accept entry 0"},
	} {
		path := ""
		if c.openings != "" {
			path = w.path(c.openings)
		}
		if _, err := Audit(t.Context(), w.path(c.dir), w.path(c.root), path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
