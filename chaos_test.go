package rawstone_test

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/terms"
)

// A chaosForm says how much befalls the processes.
type chaosForm struct {
	dayS, cars                                               int
	agentKills, collectorKills, restarts, tunnels, fullDisks int
	// machines says that the faults befall emulated machines, elsewhere.
	machines bool
	// calm bounds the time between two faults, hold the time that a tunnel or a full disk lasts.
	calm, hold time.Duration
}

// TestChaos runs a collector, three cars and their agents as real processes and has random faults befall them: kill -9, restarts, a network that
// cuts, delays, falls silent and alters, and full disks. Then every credit is compared with the ECUs' own counters. The long form is
// `make chaos`; RAWSTONE_CHAOS_SEED repeats the faults of a run, though not the moments at which the processes meet them.
func TestChaos(t *testing.T) {
	form := chaosForm{dayS: 2, cars: 3, agentKills: 9, collectorKills: 4, restarts: 2, tunnels: 1, fullDisks: 1, calm: time.Second, hold: 3 * time.Second}
	if os.Getenv("RAWSTONE_CHAOS") == "long" {
		form = chaosForm{dayS: 3, cars: 3, agentKills: 200, collectorKills: 50, restarts: 15, tunnels: 20, fullDisks: 10, calm: 2500 * time.Millisecond, hold: 8 * time.Second}
	}
	seed := rand.Uint64N(1 << 32)
	if text := os.Getenv("RAWSTONE_CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("RAWSTONE_CHAOS_SEED: %v", err)
		}
	}
	t.Logf("seed %d", seed)
	dir, err := os.MkdirTemp(os.Getenv("RAWSTONE_CHAOS_DIR"), "rawstone-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with RAWSTONE_CHAOS_SEED=%d; logs and states are kept in %s", seed, dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// Children get a death signal when the thread that started them ends: keep it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := &campaign{t: t, form: form, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), dir: dir, faults: make(map[string]int)}
	if err := errors.Join(os.Mkdir(c.path("logs"), 0o755), os.Mkdir(c.path("bin"), 0o755)); err != nil {
		t.Fatal(err)
	}
	defer c.end()
	c.bin = programs(t, c.path("bin"))
	c.prepare()
	c.play()
	c.torment()
	c.settle()
	c.judge()
}

// TestChaosMachines is the two ends of a campaign of .ci/chaos, whose faults are power cuts and clocks of emulated machines that jump. Told
// to prepare, it makes a world in a directory; told to judge, it lets the world that the machines left live on, without faults, and compares.
func TestChaosMachines(t *testing.T) {
	dir, phase := os.Getenv("RAWSTONE_CHAOS_WORLD"), os.Getenv("RAWSTONE_CHAOS_PHASE")
	if dir == "" {
		t.Skip("make chaos runs this on the disks of emulated machines")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := &campaign{t: t, form: chaosForm{dayS: 20, cars: 1, machines: true}, dir: dir, bin: os.Getenv("RAWSTONE_BIN"), faults: make(map[string]int)}
	defer c.end()
	if phase == "prepare" {
		if err := os.Mkdir(c.path("logs"), 0o755); err != nil {
			t.Fatal(err)
		}
		c.prepare()
		c.collector.stop(t)
		c.validator.stop(t)
		return
	}
	c.vehicles = []string{"CAR1"}
	c.attach()
	c.validator.start(t)
	c.collector.start(t)
	c.play()
	c.settle()
	c.judge()
}

// A campaign is one run.
type campaign struct {
	t        *testing.T
	form     chaosForm
	seed     uint64
	rng      *rand.Rand
	dir, bin string

	vehicles     []string
	services     []*service
	collector    *service
	validator    *service
	cars, agents []*service
	disks        []*smallDisk
	proxies      []*faultyProxy
	faults       map[string]int
	policies     []*terms.Policy
}

// end leaves no process behind, however the test ends.
func (c *campaign) end() {
	for _, s := range c.services {
		if s.cmd != nil {
			s.cmd.Process.Kill()
			<-s.done
		}
	}
}

// pause lets the processes work, and starts again what ends by itself.
func (c *campaign) pause(d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		for _, s := range c.services {
			s.tend(c.t)
		}
		if !time.Now().Before(end) {
			return
		}
	}
}

func (c *campaign) upTo(d time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(d))) }

// await pauses until a condition comes true.
func (c *campaign) await(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); !cond(); c.pause(200 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// torment deals out the faults in an order of chance.
func (c *campaign) torment() {
	var deck []func()
	add := func(n int, fault func()) {
		for range n {
			deck = append(deck, fault)
		}
	}
	add(c.form.agentKills, func() { c.kill("kill -9 of an agent", c.agents[c.rng.IntN(len(c.agents))]) })
	add(c.form.collectorKills, func() { c.kill("kill -9 of the collector", c.collector) })
	add(c.form.collectorKills, func() { c.kill("kill -9 of the validator", c.validator) })
	add(c.form.restarts, func() {
		c.faults["collector and broker restarted"]++
		c.collector.stop(c.t)
		c.collector.start(c.t)
	})
	add(c.form.tunnels, func() {
		c.faults["tunnels"]++
		leave := c.proxies[0].tunnel()
		c.pause(c.upTo(c.form.hold))
		leave()
	})
	if c.disks[0].there {
		add(c.form.fullDisks, c.fillDisk)
	}
	c.rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	began := time.Now()
	for i, fault := range deck {
		c.pause(c.upTo(c.form.calm))
		fault()
		if c.form.agentKills >= 100 && i%50 == 49 {
			c.t.Logf("%d of %d faults after %.0f s", i+1, len(deck), time.Since(began).Seconds())
		}
	}
}

func (c *campaign) kill(what string, s *service) {
	c.faults[what]++
	s.kill(c.t)
	// One in two is up again at once, the others leave the rest alone for a while.
	if c.rng.IntN(2) == 0 {
		cmd := s.cmd
		s.cmd = nil
		c.pause(c.upTo(c.form.calm))
		s.cmd = cmd
	}
	s.start(c.t)
}

// fillDisk fills an agent's disk, now and then with a kill on top, and frees it.
func (c *campaign) fillDisk() {
	i := c.rng.IntN(len(c.disks))
	c.faults["full disks"]++
	c.disks[i].fill(c.t)
	c.pause(c.form.hold/2 + c.upTo(c.form.hold/2))
	if c.rng.IntN(2) == 0 {
		c.faults["kill -9 of an agent on a full disk"]++
		c.agents[i].kill(c.t)
		c.agents[i].start(c.t)
		c.pause(time.Second)
	}
	c.disks[i].free(c.t)
}

// settle ends the faults and waits until the cars hold credits for all that they had driven by then; then the cars stop, and agents and
// collector finish what they have begun.
func (c *campaign) settle() {
	for _, p := range c.proxies {
		p.settle()
	}
	if err := c.loadPolicies(); err != nil {
		c.t.Fatal(err)
	}
	marks := make([][]sim.Truth, len(c.vehicles))
	for i, id := range c.vehicles {
		marks[i] = c.truth(id)
	}
	var late []string
	if !c.await(5*time.Minute, func() bool {
		late = nil
		cars, _, err := c.records(false)
		if err != nil {
			late = append(late, err.Error())
		}
		for i := range cars {
			if text := behind(c.policies, &cars[i], marks[i]); text != "" {
				late = append(late, text)
			}
		}
		return len(late) == 0
	}) {
		c.t.Errorf("not claimed 5 minutes after the last fault: %s", strings.Join(late, "; "))
	}
	for _, car := range c.cars {
		car.stop(c.t)
	}
	c.await(5*time.Minute, func() bool { // judge says what is not as it should be
		cars, credits, err := c.records(true)
		return err == nil && len(reckon(c.policies, cars, credits).faults) == 0
	})
	c.pause(time.Duration(2*c.form.dayS) * time.Second) // what is credited twice would come now
}

// judge compares, audits and prints.
func (c *campaign) judge() {
	cars, credits, err := c.records(true)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range append(slices.Clone(c.agents), c.collector, c.validator) {
		s.stop(c.t)
	}
	r := reckon(c.policies, cars, credits)
	for _, fault := range r.faults {
		c.t.Error(fault)
	}
	report, err := c.try("collector", "audit", "--ledger", c.path("collector/ledger"), "--root", c.path("program/root.pub"), "--openings", c.path("openings.json"))
	if err != nil {
		c.t.Error(err)
	}
	for _, p := range c.proxies {
		for what, n := range p.figures() {
			c.faults["network: "+what] += n
		}
	}
	ended := 0
	for _, s := range c.agents {
		ended += s.ended
	}
	if ended > 0 {
		c.faults["agents that ended by themselves on a full disk"] = ended
	}
	for _, what := range slices.Sorted(maps.Keys(c.faults)) {
		c.t.Logf("%6d  %s", c.faults[what], what)
	}
	sent := c.logged(c.agents, "claim sent") + c.logged(c.agents, "report sent")
	accepted := r.claims + r.reports
	c.t.Logf("%6d  messages sent, %d accepted (%d claims, %d reports), %d refused, %d sent again, %d receipts heard",
		sent, accepted, r.claims, r.reports, r.refused, sent-accepted-r.refused, c.logged(c.agents, "receipt received"))
	c.t.Logf("%6d  m counted by the ECUs of %d cars in %d snapshots; %d km credited, %d km due; %d lost, %d doubled", r.metres, len(cars), r.snapshots, r.km, r.owed, r.lost, r.doubled)
	c.t.Log(report)
	if r.claims == 0 || r.km == 0 || r.reports == 0 {
		c.t.Error("nothing was credited: the comparison proves nothing")
	}
}

// logged counts the lines of logs that have a message.
func (c *campaign) logged(services []*service, msg string) (n int) {
	for _, s := range services {
		b, err := os.ReadFile(s.log)
		if err != nil {
			c.t.Fatal(err)
		}
		n += bytes.Count(b, []byte(`"msg":"`+msg+`"`))
	}
	return n
}
