package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/collector/internal/backup"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/keep"
	"rawstone/collector/internal/program"
	"rawstone/pkg/audit"
	"rawstone/pkg/wire"
)

// aMinuteOn is ten days into the program.
func aMinuteOn() time.Time { return time.Now().Add(time.Minute) }

// drives has an enrolled car's claim accepted, and waits for its receipt.
func (w *world) drives(t *testing.T, cfg *Config, r *running, id, token string, submitted []byte) {
	t.Helper()
	client, _, err := r.connect(t, id, w.enrols(t, r, id, token))
	if err != nil {
		t.Fatal(err)
	}
	receipts := make(chan []byte, 8)
	for _, tok := range []mqtt.Token{
		client.Subscribe(wire.Topic(id, wire.KindReceipt), 1, func(_ mqtt.Client, m mqtt.Message) { receipts <- m.Payload() }),
		client.Publish(wire.Topic(id, wire.KindClaim), 1, false, submitted),
	} {
		if !tok.WaitTimeout(hang) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	about, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case b := <-receipts:
		if got, err := wire.OpenReceipt(about.Receipt, b); err != nil || !got.Accepted {
			t.Fatalf("%+v, %v", got, err)
		}
	case <-time.After(hang):
		t.Fatalf("no receipt\n%s", r.log)
	}
}

// audited audits a ledger with the openings of the records.
func (w *world) audited(t *testing.T, cfg *Config) (audit.Report, error) {
	t.Helper()
	openings := filepath.Join(t.TempDir(), "openings.json")
	if err := WriteOpenings(t.Context(), cfg, openings); err != nil {
		t.Fatal(err)
	}
	return Audit(t.Context(), cfg.Ledger, cfg.Program.Root, openings)
}

// until waits for a ledger that the audit finds right and want likes.
func (w *world) until(t *testing.T, cfg *Config, r *running, want func(audit.Report) bool) audit.Report {
	t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		report, err := w.audited(t, cfg)
		if err == nil && want(report) {
			return report
		}
		if time.Now().After(end) {
			t.Fatalf("%+v, %v\n%s", report, err, r.log)
		}
	}
}

func (w *world) options(dir string) keep.Options {
	return keep.Options{Dir: w.path(dir), Logger: slog.New(slog.DiscardHandler), Now: time.Now}
}

func (w *world) backUp(t *testing.T, cfg *Config, dir string) *keep.Summary {
	t.Helper()
	m, err := keep.Backup(t.Context(), cfg, w.options(dir))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// elsewhere returns a configuration of which everything is to be in another directory.
func (w *world) elsewhere(t *testing.T, dir string, replace ...string) *Config {
	t.Helper()
	there := &world{dir: w.path(dir), id: w.id, url: w.url}
	if err := os.MkdirAll(there.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return there.load(t, replace...)
}

// goesOn starts a restored collector and waits until it has drawn twice more.
func (w *world) goesOn(t *testing.T, cfg *Config, now func() time.Time, least audit.Report) {
	t.Helper()
	// A validator that has followed the ledger further than the backup goes would rightly refuse.
	cfg.Validators[0].URL, _ = w.validator(t, "operator", "127.0.0.1:0")
	r := startAt(t, cfg, now)
	w.until(t, cfg, r, func(got audit.Report) bool { return got.Blocks > least.Blocks+1 && got.Credits >= least.Credits })
	r.end(t)
}

// TestBackup backs a collector up while it takes claims and vehicles, restores each backup elsewhere, and has the last go on.
func TestBackup(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	if _, err := keep.Backup(t.Context(), cfg, w.options("early")); err == nil || !strings.Contains(err.Error(), "a collector that never ran") {
		t.Errorf("nothing to back up: %v", err)
	}
	if _, err := os.Stat(w.path("early")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a backup that failed left something: %v", err)
	}
	car, submitted := w.driven(t, "CAR1")
	_, token, err := AddVehicle(t.Context(), cfg, car, aMinuteOn)
	if err != nil {
		t.Fatal(err)
	}
	r := startAt(t, cfg, aMinuteOn)
	w.drives(t, cfg, r, "CAR1", token, submitted)
	w.until(t, cfg, r, func(got audit.Report) bool { return got.Credits == 1 && got.Blocks > 0 })
	var load sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	added := make(chan int, 1000)
	load.Go(func() { // each is an entry of the ledger
		for i := 0; ctx.Err() == nil && i < cap(added); i++ {
			if _, _, err := AddVehicle(context.WithoutCancel(ctx), cfg, w.car(t, fmt.Sprintf("LOAD%d", i)), aMinuteOn); err != nil {
				t.Error(err)
				return
			}
			added <- i
		}
	})
	var last *keep.Summary
	for i := range 4 {
		for range 10 {
			<-added
		}
		dir := fmt.Sprintf("backup%d", i)
		last = w.backUp(t, cfg, dir)
		there := w.elsewhere(t, fmt.Sprintf("there%d", i))
		if _, err := keep.Restore(t.Context(), there, w.options(dir)); err != nil {
			t.Fatal(err)
		}
		report, err := w.audited(t, there)
		if err != nil || report.Entries != last.Entries || report.Credits != 1 {
			t.Fatalf("%+v, %v, want %d entries", report, err, last.Entries)
		}
		if last.Records < last.Entries {
			t.Errorf("%d records behind %d entries", last.Records, last.Entries)
		}
	}
	stop()
	load.Wait()
	drawn, err := w.audited(t, w.elsewhere(t, "there3"))
	if err != nil {
		t.Fatal(err)
	}
	w.until(t, cfg, r, func(got audit.Report) bool { return got.Blocks > drawn.Blocks })
	r.end(t)
	now, err := w.audited(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"backup3": 0o700, "backup3/records.db": 0o600, "backup3/files/program.receipt_key": 0o600, "there3/state": 0o700, "there3/state/records.db": 0o600, "there3/server.key": 0o600} {
		if info, err := os.Stat(w.path(path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}

	// Records that are behind the ledger: nobody makes such a backup, so it is put together.
	forged := w.forge(t, "backup3", func() { w.write(t, "forged/records.db", readFile(t, w.path("backup0/records.db"))) })
	_, err = keep.Restore(t.Context(), w.elsewhere(t, "behind"), forged)
	if err == nil || !strings.Contains(err.Error(), "and the records only ") || !strings.Contains(err.Error(), "does not tell, for they are blinded: ") || !strings.Contains(err.Error(), " of type binding") {
		t.Errorf("records behind the ledger: %v", err)
	}

	// What others have seen.
	there := w.elsewhere(t, "behind")
	o := w.options("backup3")
	o.Checkpoint = w.path("state/ledger/checkpoint")
	if now.Entries <= last.Records {
		t.Fatalf("the collector had %d entries in the end and %d at its backup", now.Entries, last.Records)
	}
	_, err = keep.Restore(t.Context(), there, o)
	if want := fmt.Sprintf("so that %d are missing", now.Entries-last.Records); !errors.Is(err, backup.ErrBehind) || !strings.Contains(err.Error(), want) {
		t.Errorf("a newer checkpoint: %v, want %s", err, want)
	}
	w.write(t, "behind/mine", []byte("a\n"))
	o.Checkpoint = w.path("behind/mine")
	if _, err := keep.Restore(t.Context(), there, o); err == nil || !strings.Contains(err.Error(), "it is not one of this ledger") {
		t.Errorf("no checkpoint: %v", err)
	}
	o.Checkpoint = w.path("backup2/ledger/checkpoint")
	if _, err := keep.Restore(t.Context(), there, o); err != nil {
		t.Error(err)
	}
	before, err := w.audited(t, there)
	if err != nil {
		t.Fatal(err)
	}
	w.goesOn(t, there, aMinuteOn, before)
	if _, err := keep.Restore(t.Context(), there, o); err == nil || !strings.Contains(err.Error(), "exists; stop the collector") {
		t.Errorf("into a place that is taken: %v", err)
	}
	if _, err := keep.Backup(t.Context(), cfg, w.options("backup0")); err == nil || !strings.Contains(err.Error(), "is not empty; it holds a backup") {
		t.Errorf("over another backup: %v", err)
	}
}

// forge changes a copy of a backup so that its manifest is right.
func (w *world) forge(t *testing.T, dir string, change func()) keep.Options {
	t.Helper()
	if err := os.CopyFS(w.path("forged"), os.DirFS(w.path(dir))); err != nil {
		t.Fatal(err)
	}
	change()
	var m backup.Manifest
	if err := json.Unmarshal(readFile(t, w.path("forged/manifest.json")), &m); err != nil {
		t.Fatal(err)
	}
	for i, f := range m.Files {
		b := readFile(t, w.path("forged/"+f.Name))
		m.Files[i].Size, m.Files[i].SHA256 = int64(len(b)), wire.ID(b).String()
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "forged/manifest.json", b)
	w.write(t, "forged/manifest.sha256", []byte(wire.ID(b).String()+"  manifest.json\n"))
	err = filepath.WalkDir(w.path("forged"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.options("forged")
}

// TestBackupDamage flips a bit of, shortens and removes each file of a backup: it is named and nothing is put in place.
func TestBackupDamage(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	r := start(t, cfg)
	w.drawn(t, r)
	r.end(t)
	w.backUp(t, cfg, "backup")
	more := w.elsewhere(t, "more")
	more.Program.Witnesses = []string{w.path("later.cose")}
	const want = "it was made without program.witnesses[0]; take what it lacks out of the configuration and restore again"
	if _, err := keep.Restore(t.Context(), more, w.options("backup")); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("with a document that the backup lacks: %v", err)
	}
	there := w.elsewhere(t, "there")
	var names []string
	err := filepath.WalkDir(w.path("backup"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(w.path("backup"), path)
			names = append(names, name)
		}
		return err
	})
	if err != nil || len(names) < 20 {
		t.Fatalf("the backup holds %v, %v", names, err)
	}
	for _, name := range names {
		path := filepath.Join(w.path("backup"), name)
		good := readFile(t, path)
		if len(good) == 0 {
			t.Fatalf("%s is empty", name)
		}
		flipped := append([]byte(nil), good...)
		flipped[len(flipped)/2] ^= 1
		for what, bad := range map[string][]byte{"flipped": flipped, "cut": good[:len(good)-1], "longer": append(good[:len(good):len(good)], 0), "gone": nil} {
			if bad == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, bad, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := keep.Restore(t.Context(), there, w.options("backup")); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left, err := os.ReadDir(w.path("there")); err != nil || len(left) != 1 {
		t.Errorf("refused restores left %v, %v", left, err)
	}
	if _, err := keep.Restore(t.Context(), there, w.options("backup")); err != nil {
		t.Error(err)
	}
}

// A countdown is a context that is cancelled after it was looked at so many times.
type countdown struct {
	context.Context
	left int
}

func (c *countdown) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

// TestRestoreCutShort ends a restore at each of its steps. What is there then the collector does not start from, unless it is all there,
// and the same restore completes it.
func TestRestoreCutShort(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	r := start(t, cfg)
	w.drawn(t, r)
	r.end(t)
	w.backUp(t, cfg, "backup")
	before, err := w.audited(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	unfinished, vacant, places := 0, 0, 0
	for n, step := 0, 6; ; n += step {
		places++
		there := w.elsewhere(t, fmt.Sprintf("there%d", places))
		_, err := keep.Restore(&countdown{t.Context(), n}, there, w.options("backup"))
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cut short at %d: %v", n, err)
		}
		switch err := backup.Unfinished(there.StateDir); {
		case err != nil:
			if unfinished++; step > 1 { // go back over what was left out
				n, step = n-step, 1
			}
			refuses(t, there)
			if _, err := there.Store(firewall.Admin); err == nil {
				t.Errorf("%d: commands use a place that is half restored", n)
			}
		default:
			vacant++
			if _, err := os.Stat(there.StateDir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%d: half restored, and not said: %v", n, err)
			}
		}
		if _, err := keep.Restore(t.Context(), there, w.options("backup")); err != nil {
			t.Fatalf("%d again: %v", n, err)
		}
		if got, err := w.audited(t, there); err != nil || got.Entries != before.Entries {
			t.Errorf("%d: %+v, %v", n, got, err)
		}
		if _, err := program.Open(&there.Program, there.Environment); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
	if unfinished < 15 || vacant < 3 {
		t.Errorf("cut short %d times while files were put in place and %d times before", unfinished, vacant)
	}

	// What a kill leaves while things are made ready: no manifest.
	there := w.elsewhere(t, "killed")
	w.write(t, "killed/x", nil)
	if err := os.MkdirAll(there.Path("restoring/ledger"), 0o700); err != nil {
		t.Fatal(err)
	}
	contains(t, fmt.Sprint(backup.Unfinished(there.StateDir)), "before it changed anything")
	if _, err := keep.Restore(t.Context(), there, w.options("backup")); err != nil {
		t.Error(err)
	}
	w.goesOn(t, there, time.Now, before)

	// Another backup than the one that was being restored.
	there = w.elsewhere(t, "mixed")
	if _, err := keep.Restore(&countdown{t.Context(), 1 << 30}, there, w.options("backup")); err != nil {
		t.Fatal(err)
	}
	w.backUp(t, cfg, "second")
	third := w.elsewhere(t, "third")
	for n := 0; backup.Unfinished(third.StateDir) == nil; n++ {
		if _, err := keep.Restore(&countdown{t.Context(), n}, third, w.options("backup")); err == nil {
			t.Fatal("was never cut short")
		}
	}
	if _, err := keep.Restore(t.Context(), third, w.options("second")); err == nil || !strings.Contains(err.Error(), "another backup than") {
		t.Errorf("two backups in one place: %v", err)
	}
}

// TestBackupPlaces refuses places in which other files are, and configurations that have no place for one.
func TestBackupPlaces(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t, "policies: [program/policies/1.cose]", "policies: [program/policies/1.cose, program/policies/2.cose]")
	r := start(t, cfg)
	w.drawn(t, r)
	r.end(t)
	w.backUp(t, cfg, "backup")
	restore := func(cfg *Config, want string) {
		t.Helper()
		if _, err := keep.Restore(t.Context(), cfg, w.options("backup")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := os.Stat(cfg.StateDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a refused restore left a state: %v", err)
		}
	}
	there := w.elsewhere(t, "there")
	restore(there, "program.policies[1] and the configuration does not name it")
	there = w.elsewhere(t, "there", "policies: [program/policies/1.cose]", "policies: [program/policies/1.cose, program/policies/2.cose]")
	w.write(t, "there/server.key", []byte("another\n"))
	restore(there, "server.key exists and is not the backup's")
	w.write(t, "there/server.key", readFile(t, w.path("server.key")))
	there.HTTPS.Key = there.HTTPS.Certificate
	restore(there, "where it has another file of the backup")
	there.HTTPS.Key = w.path("there/server.key")
	there.Environment = wire.Production
	restore(there, "production")
	there.Environment = wire.Development
	if _, err := keep.Restore(t.Context(), there, w.options("backup")); err != nil {
		t.Error(err)
	}
	w.write(t, "u", []byte("postgres://db.example/rawstone?sslmode=verify-full\n"))
	cfg.Records.Postgres.URLFile = w.path("u")
	cfg.StateDir, cfg.Ledger = w.path("elsewhere"), w.path("elsewhere/ledger")
	restore(cfg, "the backup's records are of sqlite and the configuration names postgresql")
}

// TestBackupNamesAll fails when the configuration gets a file that backups do not hold.
func TestBackupNamesAll(t *testing.T) {
	var c Config
	not := map[string]bool{ // what names no file, or one that belongs to the machine or is in the state directory
		"Environment": true, "StateDir": true, "Records.Postgres.URLFile": true, "MQTT.Listen": true, "HTTPS.Listen": true, "Bridge.URL": true, "Web": true,
		"Ledger": true, "Cluster.Node": true, "Cluster.Listen": true, "Cluster.Routes": true, "Cluster.Clients": true, "Queue.Servers": true, "Validators.Name": true, "Validators.URL": true, "API.Listen": true, "API.Issuer": true, "API.Audience": true,
	}
	want := make(map[string]bool)
	var fill func(v reflect.Value, name string)
	fill = func(v reflect.Value, name string) {
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i), strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."))
			}
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			fill(v.Index(0), name)
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), name)
		case reflect.String:
			v.SetString(name)
			want[name] = !not[name]
		}
	}
	fill(reflect.ValueOf(&c).Elem(), "")
	for _, f := range c.Files() {
		if !want[f.Path] {
			t.Errorf("%s is in a backup twice, or is no file: %s", f.Key, f.Path)
		}
		delete(want, f.Path)
	}
	for name, missing := range want {
		if missing {
			t.Errorf("%s is not in a backup: name it in files, or say here that it is no file", name)
		}
	}
}

// TestBackupPostgreSQL restores records into another database; pg_dump must be there.
func TestBackupPostgreSQL(t *testing.T) {
	pg, fresh := server.New(t, firewall.Owner), server.New(t, firewall.Owner)
	w := newWorld(t)
	records := func(file string) []string {
		return []string{"state_dir: state", "state_dir: state\nrecords: {postgres: {url_file: " + w.path(file) + "}}"}
	}
	w.write(t, "records.url", []byte(pg.URL()+"\n"))
	w.write(t, "fresh.url", []byte(fresh.URL()+"\n"))
	cfg := w.load(t, records("records.url")...)
	if err := Migrate(t.Context(), cfg, ""); err != nil {
		t.Fatal(err)
	}
	car, submitted := w.driven(t, "CAR1")
	_, token, err := AddVehicle(t.Context(), cfg, car, aMinuteOn)
	if err != nil {
		t.Fatal(err)
	}
	r := startAt(t, cfg, aMinuteOn)
	w.drives(t, cfg, r, "CAR1", token, submitted)
	w.until(t, cfg, r, func(got audit.Report) bool { return got.Credits == 1 && got.Blocks > 0 })
	o := w.options("backup")
	o.Programs = w.path("none")
	if _, err := keep.Backup(t.Context(), cfg, o); err == nil || !strings.Contains(err.Error(), "cannot find PostgreSQL's program pg_dump: install") {
		t.Errorf("no pg_dump: %v", err)
	}
	m := w.backUp(t, cfg, "backup")
	r.end(t)
	if info, err := os.Stat(w.path("backup/records.dump")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("dump: %v, %v", info, err)
	}
	full := w.elsewhere(t, "full", records("records.url")...)
	if _, err := keep.Restore(t.Context(), full, w.options("backup")); err == nil || !strings.Contains(err.Error(), "give an empty database") {
		t.Errorf("into a database that is in use: %v", err)
	}
	// The restore that is cut short before and after the records are loaded.
	there := w.elsewhere(t, "there", records("fresh.url")...)
	cuts := 0
	for n := 0; ; n++ {
		_, err := keep.Restore(&countdown{t.Context(), n}, there, w.options("backup"))
		if err == nil {
			break
		}
		if backup.Unfinished(there.StateDir) != nil {
			cuts++
			refuses(t, there)
		}
		if n > 2000 {
			t.Fatalf("never ends: %v", err)
		}
	}
	if cuts < 10 {
		t.Errorf("cut short %d times", cuts)
	}
	report, err := w.audited(t, there)
	if err != nil || report.Entries != m.Entries || report.Credits != 1 {
		t.Fatalf("%+v, %v, want %d entries", report, err, m.Entries)
	}
	w.goesOn(t, there, aMinuteOn, report)
}
