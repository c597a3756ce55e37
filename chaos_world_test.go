package rawstone_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Real processes of the real programs, as a service manager runs them: what ends by itself is started again, and that is noted.

// stopLimit is how long a process may take to end when it is asked to.
const stopLimit = 30 * time.Second

// A service is one process of the campaign. All its methods are called from the campaign's goroutine, whose thread stays, so that the
// death signal comes when the test binary goes and not before.
type service struct {
	name string
	argv []string
	log  string
	// excused says whether it may end by itself, having been started at that time; nil means never.
	excused func(started time.Time) bool

	cmd     *exec.Cmd
	started time.Time
	done    chan struct{} // closed when cmd has ended
	err     error         // of cmd, once done is closed
	again   time.Time     // not to be started before
	// ended counts the ends by itself that were excused.
	ended int
}

func (s *service) start(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(s.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd, done := exec.Command(s.argv[0], s.argv[1:]...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.cmd, s.done, s.started = cmd, done, time.Now()
	go func() {
		defer close(done)
		s.err = cmd.Wait()
	}()
}

// tend starts the process again when it has ended by itself.
func (s *service) tend(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	select {
	case <-s.done:
	default:
		return
	}
	if s.again.IsZero() {
		s.again = time.Now().Add(500 * time.Millisecond)
		if s.excused != nil && s.excused(s.started) {
			s.ended++
		} else {
			t.Errorf("%s ended by itself: %v\n%s", s.name, s.err, tail(s.log))
		}
	}
	if time.Now().After(s.again) {
		s.again = time.Time{}
		s.start(t)
	}
}

// kill ends the process without warning.
func (s *service) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%s: %v", s.name, err)
	}
	<-s.done
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); (!ok || status.Signal() != syscall.SIGKILL) && s.again.IsZero() {
		if s.excused != nil && s.excused(s.started) {
			s.ended++
		} else {
			t.Errorf("%s had ended by itself: %v\n%s", s.name, s.err, tail(s.log))
		}
	}
	s.again = time.Time{}
}

// stop ends the process in order.
func (s *service) stop(t *testing.T) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("%s: %v", s.name, err)
	}
	select {
	case <-s.done:
		if s.err != nil {
			t.Errorf("%s did not stop well: %v\n%s", s.name, s.err, tail(s.log))
		}
	case <-time.After(stopLimit):
		t.Errorf("%s did not stop within %v\n%s", s.name, stopLimit, tail(s.log))
		s.cmd.Process.Kill()
		<-s.done
	}
	s.cmd = nil
}

// tail returns the last lines of a log.
func tail(path string) string {
	b, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// programs builds the three programs into dir as the Makefile does, or takes those in RAWSTONE_BIN.
func programs(t *testing.T, dir string) string {
	t.Helper()
	if bin := os.Getenv("RAWSTONE_BIN"); bin != "" {
		return bin
	}
	for _, args := range [][]string{{"-tags", "nethttpomithttp2", "./agent"}, {"./collector", "./firmware-sim"}} {
		cmd := exec.Command("go", append([]string{"build", "-o", dir + "/"}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("cannot build the programs: %v\n%s", err, out)
		}
	}
	return dir
}

// must runs a command of a program to its end and returns what it printed.
func (c *campaign) must(argv ...string) string {
	c.t.Helper()
	out, err := c.try(argv...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func (c *campaign) try(argv ...string) (string, error) {
	cmd := exec.Command(filepath.Join(c.bin, argv[0]), argv[1:]...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (c *campaign) path(name string) string { return filepath.Join(c.dir, name) }

func (c *campaign) write(name, text string) string {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Dir(c.path(name)), 0o755); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(c.path(name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return c.path(name)
}

// prepare makes a program, a collector and cars as the demo has them, with places and ports of their own, and enrols the cars.
func (c *campaign) prepare() {
	t := c.t
	mqtt, https := "127.0.0.1:"+strconv.Itoa(freePort(t)), "127.0.0.1:"+strconv.Itoa(freePort(t))
	// A drop a day: a machine that needs longer for a drop than there is between two falls behind for good.
	source := c.write("program.yaml", fmt.Sprintf("name: chaos\nday_s: %[1]d\ndrop_s: %[1]d\noffset_s: 28800\nvalidators: [operator]\nboard_keys: 3\nboard_quorum: 2\ncharter: %[2]q\npolicies: [%[3]q, %[4]q]\n",
		c.form.dayS, config("demo/charter.yaml"), config("policies/mileage.yaml"), config("policies/safe.yaml")))
	c.must("collector", "init", "--source", source, "--dir", c.path("program"))
	c.must("collector", "ca", "init", "--dir", c.path("ca"))
	seat := "127.0.0.1:" + strconv.Itoa(freePort(t))
	const internal = "internal: {ca: ca/internal-ca.pem, certificate: nodes/NODE.pem, key: nodes/NODE.key}\n"
	for node, roles := range map[string]string{"collector": "broker,ingest,settle,web", "validator": "validator"} {
		c.must("collector", "ca", "node", "--dir", c.path("ca"), "--name", node, "--role", roles, "--host", "127.0.0.1", "--out", c.path("nodes"))
	}
	c.write("validator.yaml", "environment: development\nstate_dir: validator\nroot: program/root.pub\nkey: program/validator-operator.key\nclaim_keys: [program/claim]\n"+
		"listen: "+seat+"\nweb: 127.0.0.1:0\n"+strings.ReplaceAll(internal, "NODE", "validator"))
	// Machines reach each other's host as 10.0.2.2.
	c.must("collector", "ca", "server", "--dir", c.path("ca"), "--host", "127.0.0.1,10.0.2.2", "--out", c.path("ca/server.pem"), "--out-key", c.path("ca/server.key"))
	const documents = "  root: program/root.pub\n  file: program/program.cose\n"
	const charter = "  charter: program/charter.cose\n"
	c.write("collector.yaml", "environment: development\nstate_dir: collector\nprogram:\n"+documents+charter+
		"  policies: [program/policies/1.cose, program/policies/2.cose]\n  claim_keys: program/claim\n  ecu_ca: ca/ecu-ca.pem\n"+
		"  receipt_key: program/receipt.key\n  log_key: program/log.key\n"+
		"validators: [{name: chaos/operator, url: \"https://"+seat+"\"}]\n"+strings.ReplaceAll(internal, "NODE", "collector")+
		"vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}\n"+
		"mqtt: {listen: "+mqtt+"}\nhttps: {listen: "+https+", certificate: ca/server.pem, key: ca/server.key}\nweb: 127.0.0.1:0\n")
	if err := os.CopyFS(c.path("vehicles"), os.DirFS(config("vehicles"))); err != nil { // so that the world can move to another machine
		t.Fatal(err)
	}
	if !c.form.machines {
		c.proxies = []*faultyProxy{
			newFaultyProxy(t, "127.0.0.1:0", mqtt, c.seed, 20_000),
			// A proving key is some megabytes.
			newFaultyProxy(t, "127.0.0.1:0", https, c.seed+1, 4<<20),
		}
		for _, p := range c.proxies {
			p.calm.Store(true)
		}
		mqtt, https = c.proxies[0].l.Addr().String(), c.proxies[1].l.Addr().String()
	}
	for i, profile := range []string{"commuter", "longhaul", "commuter"}[:c.form.cars] {
		id := "CAR" + strconv.Itoa(i+1)
		bus := busURL(t)
		c.write(id+"/sim.yaml", "program:\n  root: ../program/root.pub\n  file: ../program/program.cose\nstate: ecu\nhistory: true\n"+
			fmt.Sprintf("buses: [{name: can0, url: %q}]\ndrive: {profile: %s, seed: %d, step_ms: 2000}\n", bus, profile, c.seed%1000+uint64(i)))
		c.write(id+"/agent.yaml", "environment: development\nvehicle: "+id+"\nstate_dir: state/agent\ndevice_key: device.key\nprogram:\n  root: ../program/root.pub\n"+
			"  file: ../program/program.cose\n  charter: ../program/charter.cose\n"+
			"collector_url: https://"+https+"\ncollector_ca: ../ca/server-ca.pem\nnews_every: 2s\n"+
			fmt.Sprintf("buses:\n- {name: can0, url: %q}\nvehicle_map: ../vehicles/sim.yaml\n", bus)+
			"ecu: {bus: can0, identity: identity.pem, answer_wait: 500ms}\n"+
			"dispatch: {max_delay: 100ms, retry_after: 1s}\n"+
			"mqtt: {url: \"ssl://"+mqtt+"\", retry_min: 50ms, retry_max: 500ms, receipt_wait: 1s}\n"+
			"status: 127.0.0.1:"+strconv.Itoa(freePort(t))+"\n")
		c.must("firmware-sim", "ecu", "init", "--config", c.path(id+"/sim.yaml"), "--out", c.path(id+"/identity.pem"))
		c.must("collector", "ca", "ecu", "--dir", c.path("ca"), "--ecu-key", c.path(id+"/identity.pem"), "--out", c.path(id+"/ecu.pem"))
		token := c.must("collector", "vehicle", "add", "--config", c.path("collector.yaml"), "--id", id,
			"--ecu-key", c.path(id+"/identity.pem"), "--ecu-cert", c.path(id+"/ecu.pem"))
		c.write(id+"/token", token+"\n")
		c.vehicles = append(c.vehicles, id)
		c.disks = append(c.disks, newSmallDisk(c, id))
	}
	c.attach()
	c.validator.start(t)
	c.collector.start(t)
	for _, id := range c.vehicles {
		until(t, time.Minute, "enrolment of "+id, func() bool {
			_, err := c.try("agent", "enroll", "--config", c.path(id+"/agent.yaml"), "--token-file", c.path(id+"/token"))
			return err == nil
		})
		for _, name := range []string{"hours", "trips", "safe"} {
			c.must("agent", "consent", "--config", c.path(id+"/agent.yaml"), name, "on")
		}
		c.must("agent", "cadence", "--config", c.path(id+"/agent.yaml"), "daily")
	}
}

// attach names the processes of the world that is in dir.
func (c *campaign) attach() {
	c.validator = c.service("validator", "collector", "validator", "--config", c.path("validator.yaml"))
	c.collector = c.service("collector", "collector", "serve", "--config", c.path("collector.yaml"))
	for i, id := range c.vehicles {
		c.cars = append(c.cars, c.service(id+"-car", "firmware-sim", "drive", "--config", c.path(id+"/sim.yaml")))
		c.agents = append(c.agents, c.service(id+"-agent", "agent", "run", "--config", c.path(id+"/agent.yaml")))
		if i < len(c.disks) {
			c.agents[i].excused = c.disks[i].excuses
		}
	}
}

// play starts the cars, their agents, and what befalls the network.
func (c *campaign) play() {
	for _, p := range c.proxies {
		p.calm.Store(false)
	}
	for i := range c.vehicles {
		c.cars[i].start(c.t)
		c.agents[i].start(c.t)
	}
}

func (c *campaign) service(name, program string, args ...string) *service {
	s := &service{name: name, argv: append(append([]string{filepath.Join(c.bin, program)}, args...), "--log-format", "json"), log: c.path("logs/" + name + ".log")}
	c.services = append(c.services, s)
	return s
}

// journal asks a running agent what it told the driver.
func (c *campaign) journal(id string) (list []journalEntry, err error) {
	text, err := c.try("agent", "journal", "--config", c.path(id+"/agent.yaml"))
	if err != nil {
		return nil, err
	}
	return list, json.Unmarshal([]byte(text), &list)
}

// A smallDisk is the file system of one agent's state, which can be filled. Without the right to mount one there is none.
type smallDisk struct {
	dir    string
	filler string
	there  bool
	// full tells that it is full, freed when it was last freed.
	full  bool
	freed time.Time
}

// diskSize is what a small head unit might leave for the agent: the store, its reserve, and some room.
const diskSize = "96m"

func newSmallDisk(c *campaign, id string) *smallDisk {
	d := &smallDisk{dir: c.path(id + "/state")}
	d.filler = filepath.Join(d.dir, "filler")
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	if c.form.machines {
		return d
	}
	if err := syscall.Mount("rawstone-chaos", d.dir, "tmpfs", 0, "size="+diskSize); err != nil {
		c.t.Logf("skipped: full disks; mounting a tmpfs needs root (%v)", err)
		return d
	}
	d.there = true
	c.t.Cleanup(func() {
		if c.t.Failed() { // what is on it goes with it
			if err := os.CopyFS(d.dir+"-kept", os.DirFS(d.dir)); err != nil {
				c.t.Log(err)
			}
		}
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			c.t.Error(err)
		}
	})
	return d
}

// fill leaves no byte free.
func (d *smallDisk) fill(t *testing.T) {
	t.Helper()
	d.full = true
	f, err := os.Create(d.filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for piece := make([]byte, 64<<10); len(piece) > 0; {
		if _, err = f.Write(piece); err != nil {
			piece = piece[:len(piece)/2] // the last piece may be a small one
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

func (d *smallDisk) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(d.filler); err != nil {
		t.Fatal(err)
	}
	d.full, d.freed = false, time.Now()
}

// excuses says whether a process that was started then may have ended for want of room.
func (d *smallDisk) excuses(started time.Time) bool { return d.full || !started.After(d.freed) }
