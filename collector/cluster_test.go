package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/queue"
	"rawstone/collector/internal/role"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

const hang = 5 * time.Minute

// A cluster is the processes of configs/cluster on this machine, under addresses of its own.
type cluster struct {
	t    *testing.T
	dir  string
	bin  string
	conn *pgx.Conn
	addr map[string]string // by those of the example
	live map[string]*process
}

type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// held is what a vehicle or account has.
type held struct {
	Km     uint64 `json:"km"`
	Claims int    `json:"claims"`
}

// TestCluster: three brokers, three workers, two settlers of which one waits, PostgreSQL, and a fleet that claims. While it does, a broker, a worker and
// the settler are killed, and the broker comes back. In the end credits, receipts and ledger are exactly what the vehicles have proven.
// RAWSTONE_CLUSTER=VEHICLESxDAYS@RATE makes it larger.
func TestCluster(t *testing.T) {
	vehicles, days, rate := 40, 6, 16
	if s := os.Getenv("RAWSTONE_CLUSTER"); s != "" {
		if _, err := fmt.Sscanf(s, "%dx%d@%d", &vehicles, &days, &rate); err != nil {
			t.Fatalf("RAWSTONE_CLUSTER=%s is not VEHICLESxDAYS@RATE", s)
		}
	}
	if testing.Short() {
		t.Skip("a minute's work")
	}
	c := newCluster(t)
	for _, name := range []string{"b1", "b2", "b3"} { // each waits for the others
		c.start(name, "broker", name+".yaml")
	}
	for _, name := range []string{"i1", "i2", "i3"} {
		c.start(name, "ingest", name+".yaml")
	}
	c.live["validator"] = c.run("validator", "collector", "validator", "--config", "validator.yaml")
	c.says("validator", "validator ready")
	c.start("settle", "settle", "settle.yaml")
	c.start("web", "web", "web.yaml")
	for _, name := range []string{"b1", "b2", "b3", "i1", "i2", "i3", "settle", "web"} {
		c.says(name, `"collector ready"`)
	}
	c.start("standby", "settle", "settle.yaml")
	c.says("standby", "another collector settles")

	all := vehicles * days
	fleet := c.run("fleet", "firmware-sim", "fleet", "--vehicles", strconv.Itoa(vehicles), "--days", strconv.Itoa(days), "--rate", strconv.Itoa(rate),
		"--connections", strconv.Itoa(vehicles), "--collector", c.path("web.yaml"), "--bin", c.bin, "--dir", c.path("fleet"),
		"--mqtt", "ssl://"+c.addr["10.0.0.1:8883"]+",ssl://"+c.addr["10.0.0.2:8883"]+",ssl://"+c.addr["10.0.0.3:8883"],
		"--https", "https://"+c.addr["10.0.0.1:8443"])
	c.credited(all/8, fleet)
	leader := c.leader() // the broker that hurts most
	c.kill(leader)
	c.kill("i2")
	c.credited(all/3, fleet)
	c.kill("settle")
	c.says("standby", `"collector ready"`)
	again := leader + " again"
	c.start(again, "broker", leader+".yaml")
	c.says(again, `"collector ready"`)
	c.ends(fleet)
	t.Log(c.tail(fleet, 3))

	var truth map[string]held
	c.must(json.Unmarshal(c.read("fleet/truth.json"), &truth))
	total := held{}
	for _, h := range truth {
		total.Km, total.Claims = total.Km+h.Km, total.Claims+h.Claims
	}
	if len(truth) != vehicles || total.Claims != all || total.Km == 0 {
		t.Fatalf("%d vehicles proved %d claims of %d km, want %d claims of %d", len(truth), total.Claims, total.Km, all, vehicles)
	}
	if d := cmp.Diff(truth, c.query(`SELECT vehicle, sum(km)::bigint, count(*) FROM credits GROUP BY vehicle`)); d != "" {
		t.Errorf("credits are not what was proven (-proven +credited):\n%s", d)
	}
	if d := cmp.Diff(truth, c.query(`SELECT vehicle, sum(km)::bigint, count(*) FROM submissions WHERE kind = 'claim' AND accepted = 1 GROUP BY vehicle`)); d != "" {
		t.Errorf("receipts are not what was proven (-proven +signed):\n%s", d)
	}
	for end := time.Now().Add(hang); ; time.Sleep(time.Second) {
		report, byAccount := c.audit()
		if report.Credits >= uint64(all) {
			accounts := c.query(`SELECT v.account, sum(c.km)::bigint, count(*) FROM credits c JOIN vehicles v ON v.id = c.vehicle GROUP BY v.account`)
			if d := cmp.Diff(accounts, byAccount); d != "" || report.Credits != uint64(all) {
				t.Errorf("the ledger has %d credits of %d (-credited +in the ledger):\n%s", report.Credits, all, d)
			}
			t.Log(report)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the ledger has %d credits of %d", report.Credits, all)
		}
	}
	for _, name := range []string{"i1", "i3", "standby", "web", "b1", "b2", "b3", again, "validator"} {
		if name != leader {
			c.stop(name)
		}
	}
}

// leader returns which broker leads the queue of claims, which all three hold.
func (c *cluster) leader() string {
	c.t.Helper()
	own, err := peer.Open(peer.Config{
		CA: c.path("ca/internal-ca.pem"), Certificate: c.path("nodes/probe.pem"), Key: c.path("nodes/probe.key"),
	}, role.Ingest, slog.New(slog.DiscardHandler))
	c.must(err)
	conn, err := queue.Connect(c.t.Context(), queue.Config{
		Servers: []string{c.addr["10.0.0.1:4222"]}, TLS: own.Client(role.Broker), Name: own.Name, Roles: role.Ingest, Logger: slog.New(slog.DiscardHandler),
	})
	c.must(err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	c.must(err)
	s, err := js.Stream(c.t.Context(), queue.Claims)
	c.must(err)
	info := s.CachedInfo()
	if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		c.t.Fatalf("the claims are held %d times, want 3 times", info.Config.Replicas)
	}
	return info.Cluster.Leader
}

func newCluster(t *testing.T) *cluster {
	pg := server.New(t, firewall.Owner)
	c := &cluster{t: t, dir: t.TempDir(), addr: make(map[string]string), live: make(map[string]*process)}
	c.bin = c.path("bin")
	c.conn = pg.As(t, "postgres")
	build := exec.Command("go", "build", "-o", c.bin+"/", "./collector", "./firmware-sim")
	build.Dir, build.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// One validator is enough here: four are package daemon's test.
	demo, err := filepath.Abs("../configs/demo")
	c.must(err)
	source, err := os.ReadFile(demo + "/program.yaml")
	c.must(err)
	source = []byte(strings.NewReplacer("[operator, auditor, bank, owners]", "[operator]", "quorum: 3", "quorum: 1", "charter.yaml", demo+"/charter.yaml", "../policies", demo+"/../policies", "../offers", demo+"/../offers").Replace(string(source)))
	c.must(os.WriteFile(c.path("program.yaml"), source, 0o600))
	c.collector("init", "--source", "program.yaml", "--dir", "program")
	c.collector("ca", "init", "--dir", "ca")
	c.collector("ca", "server", "--dir", "ca", "--host", "127.0.0.1", "--out", "server.pem", "--out-key", "server.key")
	for name, role := range map[string]string{"b1": "broker", "b2": "broker", "b3": "broker", "i1": "ingest", "i2": "ingest", "i3": "ingest", "probe": "ingest", "web": "web", "settle": "settle", "operator": "validator"} {
		args := []string{"ca", "node", "--dir", "ca", "--name", name, "--role", role, "--out", "nodes"}
		if role == "broker" || role == "validator" {
			args = append(args, "--host", "127.0.0.1")
		}
		c.collector(args...)
	}
	c.must(os.WriteFile(c.path("records.url"), []byte(pg.URL()+"\n"), 0o600))
	for _, name := range []string{"b1", "b2", "b3", "ingest", "settle", "web", "validator"} {
		c.config(name, name)
	}
	for _, name := range []string{"i1", "i2", "i3"} {
		c.config("ingest", name, "/var/lib/rawstone/i1", c.path("state/"+name), "nodes/i1", "nodes/"+name)
	}
	c.collector("migrate", "--config", "settle.yaml")
	return c
}

func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) read(name string) []byte {
	c.t.Helper()
	b, err := os.ReadFile(c.path(name))
	c.must(err)
	return b
}

// config writes a file of the example with this machine's addresses.
func (c *cluster) config(from, to string, replace ...string) {
	c.t.Helper()
	text, err := os.ReadFile("../configs/cluster/" + from + ".yaml")
	c.must(err)
	for n := range 3 {
		for _, port := range []string{"8883", "6222", "4222", "8443"} {
			at := fmt.Sprintf("10.0.0.%d:%s", n+1, port)
			if c.addr[at] == "" {
				c.addr[at] = c.quiet()
			}
			replace = append(replace, at, c.addr[at])
		}
	}
	if c.addr["10.0.0.4:9443"] == "" {
		c.addr["10.0.0.4:9443"] = c.quiet()
	}
	text = regexp.MustCompile(`(?m)^  - \{name: rawstone/(auditor|bank|owners), .*\n`).ReplaceAll(text, nil)
	replace = append(replace, "10.0.0.4:9443", c.addr["10.0.0.4:9443"], "rawstone/operator", "demo/operator", "127.0.0.1:8090", "127.0.0.1:0")
	for n := range 6 {
		replace = append(replace, fmt.Sprint("127.0.0.1:808", n+1), "127.0.0.1:0")
	}
	replace = append(replace, "environment: production", "environment: development", "/var/lib/rawstone", c.path("state"))
	text = []byte(strings.NewReplacer(replace...).Replace(string(text)))
	c.must(os.WriteFile(c.path(to+".yaml"), text, 0o600))
}

// quiet returns an address that is free now, below the ports that the kernel gives away by itself.
func (c *cluster) quiet() string {
	for range 1000 {
		addr := fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	c.t.Fatal("no port is free")
	return ""
}

// collector runs a command to its end.
func (c *cluster) collector(args ...string) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, "collector"), args...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("collector %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (c *cluster) start(name, role, config string) {
	c.t.Helper()
	c.live[name] = c.run(name, "collector", "serve", "--config", c.path(config), "--role", role)
}

func (c *cluster) run(name, program string, args ...string) *process {
	c.t.Helper()
	p := &process{name: name, cmd: exec.Command(filepath.Join(c.bin, program), args...), log: c.path(name + ".log"), done: make(chan struct{})}
	log, err := os.Create(p.log)
	c.must(err)
	defer log.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.dir, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.must(p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // how it ended is asked for by whoever expects an end
		close(p.done)
	}()
	c.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if c.t.Failed() {
			c.t.Logf("%s said:\n%s", name, c.tail(p, 15))
		}
	})
	return p
}

// wait waits until a process has ended.
func (p *process) wait() *os.ProcessState {
	<-p.done
	return p.cmd.ProcessState
}

// gone reports whether it has.
func (p *process) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (c *cluster) tail(p *process, n int) string {
	b, err := os.ReadFile(p.log)
	c.must(err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// says waits until a process has logged something.
func (c *cluster) says(name, what string) {
	c.t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(50 * time.Millisecond) {
		if bytes.Contains(c.read(name+".log"), []byte(what)) {
			return
		}
		if c.live[name].gone() || time.Now().After(end) {
			c.t.Fatalf("%s does not say %s", name, what)
		}
	}
}

// credited waits until so many claims are credited, while the fleet goes on.
func (c *cluster) credited(n int, fleet *process) {
	c.t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		var got int
		c.must(c.conn.QueryRow(c.t.Context(), `SELECT count(*) FROM credits`).Scan(&got))
		if got >= n {
			return
		}
		if fleet.gone() || time.Now().After(end) {
			c.t.Fatalf("%d claims are credited, want %d", got, n)
		}
	}
}

func (c *cluster) kill(name string) {
	c.t.Helper()
	p := c.live[name]
	c.must(p.cmd.Process.Kill())
	if status := p.wait().Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		c.t.Fatalf("%s ended by itself", name)
	}
}

func (c *cluster) stop(name string) {
	c.t.Helper()
	c.must(c.live[name].cmd.Process.Signal(syscall.SIGTERM))
	c.ends(c.live[name])
}

// ends waits until a process ends, and well.
func (c *cluster) ends(p *process) {
	c.t.Helper()
	stuck := time.AfterFunc(hang, func() { _ = p.cmd.Process.Kill() })
	defer stuck.Stop()
	if state := p.wait(); !state.Success() {
		c.t.Fatalf("%s: %s", p.name, state)
	}
}

// query returns what the records say of vehicles or accounts.
func (c *cluster) query(sql string) map[string]held {
	c.t.Helper()
	rows, err := c.conn.Query(c.t.Context(), sql)
	c.must(err)
	defer rows.Close()
	all := make(map[string]held)
	for rows.Next() {
		var who string
		var h held
		c.must(rows.Scan(&who, &h.Km, &h.Claims))
		all[who] = h
	}
	c.must(rows.Err())
	return all
}

// audit replays the ledger with openings and returns what it credits to each account.
func (c *cluster) audit() (report audit.Report, byAccount map[string]held) {
	c.t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(time.Second) {
		os.Remove(c.path("openings.json"))
		c.collector("openings", "--config", "settle.yaml", "--out", "openings.json")
		cmd := exec.Command(filepath.Join(c.bin, "collector"), "audit", "--ledger", "state/ledger", "--root", "program/root.pub", "--openings", "openings.json", "--json")
		cmd.Dir = c.dir
		out, err := cmd.Output()
		if err == nil {
			c.must(json.Unmarshal(out, &report))
			break
		}
		if time.Now().After(end) { // what was logged since the openings were written has none
			c.t.Fatalf("the audit fails: %v\n%s", err, out)
		}
	}
	openings, err := opening.Read(bytes.NewReader(c.read("openings.json")))
	c.must(err)
	root, err := terms.LoadRoot(c.path("program/root.pub"))
	c.must(err)
	byAccount = make(map[string]held)
	number := uint64(0)
	c.must(audit.Read(c.t.Context(), c.path("state/ledger"), root, func(e *ledger.Entry) error {
		defer func() { number++ }()
		if e.Type != ledger.TypeCredit {
			return nil
		}
		credit, err := e.Credit()
		if err != nil {
			return err
		}
		o, ok := openings.Credit(number)
		if !ok {
			return nil // later than the openings
		}
		h := byAccount[o.Account]
		byAccount[o.Account] = held{h.Km + uint64(credit.Km), h.Claims + 1}
		return nil
	}))
	return report, maps.Clone(byAccount)
}
