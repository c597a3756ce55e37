package rawstone_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	collector "rawstone/collector/daemon"
)

// The load of `make bench-intake`.
const (
	benchConnections = 1000
	benchDays        = 20      // claims of each of so many vehicles, flat out
	benchRegistered  = 100_000 // vehicles of the second form, of whom each sends one claim
	benchBatch       = 256
)

// TestIntakeRate measures the intake with real processes: the collector, and the fleet as the load, both on this machine. Everything is a
// ratio within this run. It does not run by itself: `make bench-intake`.
func TestIntakeRate(t *testing.T) {
	bin := os.Getenv("RAWSTONE_BENCH_INTAKE")
	if bin == "" {
		t.Skip("runs by `make bench-intake`")
	}
	registered := benchRegistered
	if text := os.Getenv("RAWSTONE_BENCH_VEHICLES"); text != "" {
		var err error
		if registered, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	batch := verificationAlone(t)
	t.Logf("batch verification alone (a proof and two signatures a claim, batches of %d, all cores): %.0f claims/s", benchBatch, batch)
	t.Logf("a consumer that acknowledges and discards: %.0f claims/s", discarding(t))

	connections := min(benchConnections, registered)
	lite := newBench(t, bin)
	stop := lite.serve(t, "")
	flat := lite.fleet(t, "flat", connections, benchDays, 0)
	t.Logf("SQLite, flat out:     %s; %.2f of verification alone", flat, flat.PerSecond/batch)
	half := flat.PerSecond / 2
	many := lite.fleet(t, "many", registered, 1, half)
	t.Logf("SQLite, half of that: %s; %d vehicles registered", many, registered)
	stop()

	pg := lite.postgres(t)
	if pg == "" {
		t.Log("no PostgreSQL here: its ratio is not measured")
		return
	}
	stop = lite.serve(t, pg)
	other := lite.fleet(t, "postgres", connections, benchDays, 0)
	stop()
	t.Logf("PostgreSQL, flat out: %s; %.2f of SQLite", other, other.PerSecond/flat.PerSecond)
}

// verificationAlone runs the judge's benchmark.
func verificationAlone(t *testing.T) float64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "test", "-run", "^$", "-bench", "^BenchmarkJudge$", "-benchtime", "5x", "./collector/internal/credit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := regexp.MustCompile(`([0-9.]+) claims/s\s`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("the benchmark says no claims/s:\n%s", out)
	}
	rate, err := strconv.ParseFloat(string(m[1]), 64)
	return must(t, rate, err)
}

// discarding fills a work queue like the collector's and measures how fast it can be emptied in batches.
func discarding(t *testing.T) float64 {
	t.Helper()
	const messages = 20_000
	s, err := server.NewServer(&server.Options{DontListen: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	conn, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(benchBatch))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CLAIMS", Subjects: []string{"claims.*"}, Retention: jetstream.WorkQueuePolicy}); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		if _, err := js.PublishAsync("claims."+strconv.Itoa(i%1000), make([]byte, 410)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	consumer, err := js.CreateConsumer(t.Context(), "CLAIMS", jetstream.ConsumerConfig{Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 4 * benchBatch})
	if err != nil {
		t.Fatal(err)
	}
	began, taken := time.Now(), 0
	for taken < messages {
		batch, err := consumer.FetchNoWait(benchBatch)
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
			taken++
		}
	}
	if err := conn.FlushTimeout(time.Minute); err != nil {
		t.Fatal(err)
	}
	return messages / time.Since(began).Seconds()
}

// A bench is a program and the binaries that it is measured with.
type bench struct {
	*world
	bin  string
	pid  int
	urls string // the SQL server's address, for records.postgres
}

func newBench(t *testing.T, bin string) *bench {
	t.Helper()
	b := &bench{world: &world{dir: t.TempDir(), now: time.Now}, bin: bin}
	source := b.write(t, "program.yaml", fmt.Sprintf("name: bench\nday_s: 86400\ndrop_s: 600\nvalidators: [operator]\ncharter: %q\npolicies: [%q]\n", config("charter.yaml"), config("policies/mileage.yaml")))
	if _, err := collector.Init(source, b.path("program"), b.now); err != nil {
		t.Fatal(err)
	}
	if err := collector.InitCA(b.path("ca"), []string{"127.0.0.1"}, b.now()); err != nil {
		t.Fatal(err)
	}
	return b
}

// serve runs the collector as a process of its own, on SQLite's file or a server's database, until stop.
func (b *bench) serve(t *testing.T, urls string) (stop func()) {
	t.Helper()
	state, records := "lite", ""
	if b.urls = urls; urls != "" {
		state, records = "pg", "records: {postgres: {url_file: "+urls+"}}\n"
	}
	config := b.write(t, "collector.yaml", fmt.Sprintf("environment: development\nstate_dir: %s\n%sprogram:\n  root: program/root.pub\n  file: program/program.cose\n"+
		"  charter: program/charter.cose\n  policies: [program/policies/1.cose]\n  claim_keys: program/claim\n  ecu_ca: ca/ecu-ca.pem\n"+
		"  receipt_key: program/receipt.key\n  log_key: program/log.key\n%s"+
		"vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}\nmqtt: {listen: 127.0.0.1:%d}\n"+
		"https: {listen: 127.0.0.1:%d, certificate: ca/server.pem, key: ca/server.key}\nweb: 127.0.0.1:0\n", state, records, b.validator(t, "bench", "program"), freePort(t), freePort(t)))
	if urls != "" {
		if out, err := exec.Command(filepath.Join(b.bin, "collector"), "migrate", "--config", config).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	if err := os.RemoveAll(b.path("validator-bench")); err != nil { // other records are another ledger
		t.Fatal(err)
	}
	stopValidator := b.validate(t, "bench")
	cmd := exec.Command(filepath.Join(b.bin, "collector"), "serve", "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b.pid = cmd.Process.Pid
	ready, done := make(chan struct{}), make(chan error, 1)
	var last string
	go func() {
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if strings.Contains(lines.Text(), "collector ready") {
				close(ready)
			}
			if !strings.Contains(lines.Text(), `"INFO"`) {
				last = lines.Text()
			}
		}
		done <- cmd.Wait()
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the collector ended: %v: %s", err, last)
	}
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("the collector ended with %v: %s", err, last)
		}
		stopValidator()
	}
}

// played is what the fleet and the system say about one run.
type played struct {
	Accepted   int     `json:"accepted"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"claims_per_s"`
	P50MS      float64 `json:"receipt_p50_ms"`
	P99MS      float64 `json:"receipt_p99_ms"`
	CPUSeconds float64 `json:"generator_cpu_s"`

	cpu  float64 // of the collector, while claims were played
	peak int     // its largest resident memory in MiB
}

func (p played) String() string {
	return fmt.Sprintf("%.0f claims/s (%d in %.1f s), receipt p50 %.0f ms, p99 %.0f ms; CPU per claim: collector %.2f ms, generator %.2f ms; collector's peak RSS %d MiB",
		p.PerSecond, p.Accepted, p.Seconds, p.P50MS, p.P99MS, 1000*p.cpu/float64(p.Accepted), 1000*p.CPUSeconds/float64(p.Accepted), p.peak)
}

// fleet plays a fleet. The generator gives way to the collector: it is niced.
func (b *bench) fleet(t *testing.T, name string, vehicles, days int, rate float64) (p played) {
	t.Helper()
	dir, proofs := b.path(name), b.path("proofs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(proofs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(proofs, filepath.Join(dir, "proofs")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "nice", "-n", "5", filepath.Join(b.bin, "firmware-sim"), "fleet", "--vehicles", strconv.Itoa(vehicles), "--days", strconv.Itoa(days),
		"--connections", strconv.Itoa(benchConnections), "--rate", strconv.FormatFloat(rate, 'f', 1, 64), "--collector", b.path("collector.yaml"), "--bin", b.bin, "--dir", dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var before float64
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "playing ") {
			before = b.cpu(t)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	p.cpu = b.cpu(t) - before
	p.peak = b.status(t, "VmHWM") / 1024
	if p.Accepted != vehicles*days {
		t.Errorf("%d claims accepted, want %d\n%s", p.Accepted, vehicles*days, said.String())
	}
	return p
}

// cpu returns the CPU time that the collector has taken, in seconds (proc(5); a tick is 10 ms).
func (b *bench) cpu(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks float64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100
}

// status returns a field of the collector's status in KiB.
func (b *bench) status(t *testing.T, field string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(field + `:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no %s", field)
	}
	n, err := strconv.Atoi(string(m[1]))
	return must(t, n, err)
}

// postgres starts a server that keeps its word: fsync is on. It returns the file with the address of an empty database, or nothing where
// there is no PostgreSQL.
func (b *bench) postgres(t *testing.T) (urls string) {
	t.Helper()
	bin := os.Getenv("RAWSTONE_POSTGRES_BIN")
	if bin == "" {
		found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
		if err != nil || len(found) == 0 {
			return ""
		}
		bin = found[len(found)-1]
	}
	dir, err := os.MkdirTemp("", "rawstone-bench-postgres") // outside of the test's own, which others may not enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT}
	files := map[string]string{"server.pem": b.path("ca/server.pem"), "server.key": b.path("ca/server.key"), "ca.pem": b.path("ca/server-ca.pem")}
	for name, from := range files {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return ""
		}
		uid, err := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		attributes.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		for _, name := range []string{"", "server.pem", "server.key"} {
			if err := os.Chown(filepath.Join(dir, name), uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	data, port := filepath.Join(dir, "data"), strconv.Itoa(freePort(t))
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
	initdb.SysProcAttr, initdb.Dir = attributes, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("hostssl all all 127.0.0.1/32 trust\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pg := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir, "-c", "ssl=on",
		"-c", "ssl_cert_file="+filepath.Join(dir, "server.pem"), "-c", "ssl_key_file="+filepath.Join(dir, "server.key"))
	var log bytes.Buffer
	pg.SysProcAttr, pg.Dir, pg.Stderr = attributes, dir, &log
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Process.Signal(syscall.SIGINT); _ = pg.Wait() })
	u := url.URL{Scheme: "postgres", Host: net.JoinHostPort("127.0.0.1", port), Path: "bench",
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {filepath.Join(dir, "ca.pem")}}.Encode()}
	admin := u
	admin.Path, admin.User = "postgres", url.User("postgres")
	var conn *pgx.Conn
	until(t, time.Minute, "start of PostgreSQL", func() bool { conn, err = pgx.Connect(t.Context(), admin.String()); return err == nil })
	for _, sql := range []string{"CREATE ROLE rawstone_owner LOGIN CREATEROLE", "CREATE DATABASE bench OWNER rawstone_owner"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
	}
	if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	admin.Path = "bench"
	if conn, err = pgx.Connect(t.Context(), admin.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "ALTER SCHEMA public OWNER TO rawstone_owner"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	b.write(t, "records.url", u.String()+"\n")
	return b.path("records.url")
}
