package daemon

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/link"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A world is a folder with a program document in it.
type world struct {
	dir string
	url string
}

func newWorld(t *testing.T, dayS uint32) world {
	t.Helper()
	dir := t.TempDir()
	root, err := keyfile.Create(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(root.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys := wire.KeySet{pub}
	doc, err := terms.SealProgram(root, &terms.Program{
		Version: wire.Version, Name: "test", Environment: wire.Development,
		Timing:  terms.Timing{GenesisS: time.Now().Unix(), DayS: dayS, DropS: 1},
		Receipt: keys, Policy: keys, Board: keys, BoardQuorum: 1,
		Validators: []terms.Validator{{Name: "v", Key: [32]byte{1}, VRF: [32]byte{2}}}, Quorum: 1, LogKey: "log",
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"program.cose": doc, "root.pub": []byte(hex.EncodeToString(pub[:]) + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return world{dir, groupURL(t)}
}

// groupURL returns a multicast group of the test's own.
func groupURL(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	port := c.LocalAddr().(*net.UDPAddr).Port
	return fmt.Sprintf("udp://239.64.%d.%d:%d", os.Getpid()%250+1, port%250+1, port)
}

func (w world) load(t *testing.T, rest string) *Config {
	t.Helper()
	text := fmt.Sprintf("program: {file: program.cose, root: root.pub}\nstate: ecu\nhistory: true\nbuses:\n  - {name: can2, url: \"%s\"}\n%s", w.url, rest)
	path := filepath.Join(w.dir, "sim.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A listener is an agent's end of the bus.
type listener struct {
	conn     *link.Conn
	tp       *isotp.Conn
	messages chan attest.Message
	odometer chan odometer
	done     chan struct{}
}

// An odometer is what the bus showed at a frame time.
type odometer struct {
	at     time.Time
	metres uint32
}

func listen(t *testing.T, url string) *listener {
	t.Helper()
	conn, err := link.Open(link.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{conn: conn, messages: make(chan attest.Message, 1000), odometer: make(chan odometer, 1_000_000), done: make(chan struct{})}
	l.tp, err = isotp.New(isotp.Config{
		Tx: attest.RxID, Rx: attest.TxID, Padding: true, MaxLen: attest.MaxMessageLen, Send: conn.Send,
		Deliver: func(b []byte) {
			m, err := attest.DecodeMessage(b)
			if err != nil {
				t.Error(err)
				return
			}
			l.messages <- *m
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(l.done)
		var f can.Frame
		var last int64
		for conn.Receive(ctx, &f) == nil {
			if f.Time < last {
				t.Errorf("frame %s is %v before the one it follows", f.ID, time.Duration(last-f.Time))
			}
			last = f.Time
			if f.ID == 0x320 {
				l.odometer <- odometer{time.Unix(0, f.Time).UTC(), binary.LittleEndian.Uint32(f.Data[:])}
			}
			if err := l.tp.Handle(ctx, &f); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-l.done
		conn.Close()
	})
	return l
}

// next returns the next snapshot from the bus; the test's own time limit is the only one.
func (l *listener) next(t *testing.T) attest.Message {
	t.Helper()
	select {
	case m := <-l.messages:
		return m
	case <-t.Context().Done():
		t.Fatal("no snapshot came")
	}
	return attest.Message{}
}

func (l *listener) request(t *testing.T, last uint8) {
	t.Helper()
	b, err := attest.Request{Last: last}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.tp.Write(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// start runs the car and returns how to stop it.
func start(t *testing.T, cfg *Config, deps Deps) (stop func()) {
	t.Helper()
	deps.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, deps) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func birth(t *testing.T, cfg *Config) *attest.Identity {
	t.Helper()
	text, err := Init(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := attest.ParseIdentity(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestDrivenCar runs a car on a real bus twice: an agent gets each day's snapshot, asks for the last again, and each one opens,
// verifies and follows from the one before.
func TestDrivenCar(t *testing.T) {
	w := newWorld(t, 2)
	cfg := w.load(t, "drive: {profile: longhaul, step_ms: 2000}\n")
	id := birth(t, cfg)
	pub, err := id.Key.Key()
	if err != nil {
		t.Fatal(err)
	}
	agent := listen(t, w.url)
	stop := start(t, cfg, Deps{Registerer: prometheus.NewRegistry()})
	var got []attest.Message
	for len(got) < 3 {
		got = append(got, agent.next(t))
	}
	stop()
	stop = start(t, cfg, Deps{})
	for len(got) < 5 {
		got = append(got, agent.next(t))
	}
	agent.request(t, attest.MaxLast)
	var resent []attest.Message
	for len(resent) == 0 || resent[len(resent)-1].Snapshot.Seq < got[len(got)-1].Snapshot.Seq {
		if m := agent.next(t); len(resent) > 0 || m.Snapshot.Seq == 0 {
			resent = append(resent, m)
		} else {
			got = append(got, m) // the next day began in between
		}
	}
	stop()

	truth, err := GroundTruth(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if resent[0].Snapshot != id.Snapshot {
		t.Error("the first resent snapshot is not the ECU's birth")
	}
	for i, m := range resent {
		if m.Snapshot.Seq != uint64(i) {
			t.Fatalf("resent %d as number %d", m.Snapshot.Seq, i)
		}
		if err := attest.Verify(pub, id.Program, m.Snapshot); err != nil {
			t.Error(err)
		}
		if claim.Commit(m.Opening) != m.Snapshot.Commitment {
			t.Errorf("snapshot %d does not open", i)
		}
		if d := cmp.Diff(truth[i].Opening, m.Opening); d != "" {
			t.Errorf("snapshot %d differs from the truth:\n%s", i, d)
		}
		if slices.ContainsFunc(got, func(g attest.Message) bool { return g.Snapshot.Seq == m.Snapshot.Seq && g != m }) {
			t.Errorf("snapshot %d was resent differently", i)
		}
	}
	// The bus shows the same distance as the last snapshot, and whole days lie between snapshots.
	last := truth[len(truth)-1].Opening.Counters[wire.OdometerM]
	seen := <-agent.odometer
	first := seen.at
	for len(agent.odometer) > 0 {
		v := <-agent.odometer
		if v.metres < seen.metres {
			t.Fatalf("odometer on the bus fell from %d to %d", seen.metres, v.metres)
		}
		seen = v
	}
	if last == 0 || seen.metres < last {
		t.Errorf("last snapshot %d m, bus %d m", last, seen.metres)
	}
	if simulated := seen.at.Sub(first); simulated < 72*time.Hour {
		t.Errorf("frames of more than three days span %v", simulated)
	}
	whole := 0
	for i := 1; i < len(truth); i++ {
		if m := truth[i].Opening.Counters[wire.OdometerM] - truth[i-1].Opening.Counters[wire.OdometerM]; m >= 500_000 && m <= 720_000 {
			whole++
		}
	}
	if whole == 0 {
		t.Errorf("no snapshot covers a whole day of 500 to 720 km: %v", truth)
	}
}

// TestStalledHost jumps more than a day ahead in the middle of one: the car makes up for it, and its ECU still signs at midnight.
func TestStalledHost(t *testing.T) {
	w := newWorld(t, 60)
	cfg := w.load(t, "drive: {profile: longhaul, step_ms: 2000}\n")
	begin := time.Now()
	noon := time.Unix(begin.Unix()/60*60+30, 0)
	var stalled atomic.Bool
	now := func() time.Time {
		at := noon.Add(time.Since(begin))
		if stalled.Load() {
			at = at.Add(55 * time.Second)
		}
		return at
	}
	if _, err := Init(cfg, now); err != nil {
		t.Fatal(err)
	}
	agent := listen(t, w.url)
	stop := start(t, cfg, Deps{Now: now})
	seen := []odometer{<-agent.odometer}
	stalled.Store(true)
	m := agent.next(t)
	stop()
	for len(agent.odometer) > 0 {
		seen = append(seen, <-agent.odometer)
	}
	i := slices.IndexFunc(seen, func(o odometer) bool { return o.at.Equal(o.at.Truncate(24 * time.Hour)) })
	if i < 1 {
		t.Fatalf("no midnight among %d readings", len(seen))
	}
	if got := m.Opening.Counters[wire.OdometerM]; got != seen[i].metres || got <= seen[0].metres { // how far it drives after noon is the day's
		t.Errorf("signed %d m, but at midnight it was %d", got, seen[i].metres)
	}
}

const replayYAML = `mode: replay
ecu: {standstill_kmh: 1}
replay:
  capture: capture.log
  dbc: capture.dbc
  speed: 100
  sensors:
    odometer: {signal: Trip}
    speed: {signal: Speed}
`

func TestReplayedCar(t *testing.T) {
	w := newWorld(t, 1)
	cfg := w.load(t, replayYAML)
	var log strings.Builder
	for i := range 100 {
		fmt.Fprintf(&log, "(%d.000000) can2 006#%02X%02X102700000000\n(%d.000000) can9 007#\n", 1_627_274_000+i, byte(i*30), byte(i*30>>8), 1_627_274_000+i)
	}
	for name, text := range map[string]string{
		"capture.log": log.String(),
		"capture.dbc": "BO_ 6 Odo: 8 X\n SG_ Trip : 0|16@1+ (1,0) [0|65534] \"m\" X\n SG_ Speed : 16|16@1+ (0.01,0) [0|400] \"km/h\" X\n",
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	birth(t, cfg)
	agent := listen(t, w.url)
	finished := make(chan struct{})
	stop := start(t, cfg, Deps{OnReplayDone: func() { close(finished) }})
	<-finished
	// The car stands still and its ECU lives on: the next day's snapshot holds the whole drive, at half past four.
	today := uint32(time.Now().Unix()) // days take a second
	m := agent.next(t)
	for m.Snapshot.Day <= today {
		m = agent.next(t)
	}
	want := wire.Counters{wire.OdometerM: 99 * 30, wire.DriveTimeS: 99, wire.NightTimeS: 99}
	if d := cmp.Diff(want, m.Opening.Counters); d != "" {
		t.Errorf("counters (-want +got):\n%s", d)
	}
	stop()
}
