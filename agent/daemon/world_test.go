package daemon

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rawstone/agent/internal/status"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// setupDir is where claimKeys makes one development setup for all tests.
var setupDir string

var claimKeys = sync.OnceValue(func() string {
	must(claim.Setup(setupDir))
	return setupDir
})

func TestMain(m *testing.M) {
	setupDir = must(os.MkdirTemp("", "claim-keys"))
	code := m.Run()
	if err := os.RemoveAll(setupDir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// A world is a program's documents, an ECU and an agent's configuration file in one directory.
type world struct {
	t       *testing.T
	dir     string
	program wire.Hash
	timing  terms.Timing
	ecu     *ecdsa.PrivateKey
	notice  []byte // of one policy under claimKeys
	usage   terms.Usage
	ahead   atomic.Int64 // of the host's clock, in nanoseconds
	log     logged
}

const firstDay = 20_000

// busURL is a bus on which nobody speaks.
const busURL = "udp://239.64.144.1:41099"

// agentYAML is a configuration that a world can run with.
const agentYAML = `environment: development
vehicle: CAR1
state_dir: state
device_key: device.key
program:
  root: root.pub
  file: program.cose
  charter: charter.cose
buses:
  - {name: can0, url: "` + busURL + `"}
vehicle_map: car.yaml
ecu: {bus: can0, identity: ecu.pem, answer_wait: 100ms}
dispatch: {max_delay: 1s}
mqtt: {url: "ssl://127.0.0.1:1"}
collector_url: https://127.0.0.1:1
`

// carYAML is the vehicle map that it names.
const carYAML = `vss: "6.0"
buses: [{name: can0, dbc: car.dbc}]
signals:
- {path: Vehicle.TraveledDistance, bus: can0, dbc: Odometer.Odometer, unit: m}
- {path: Vehicle.Speed, bus: can0, dbc: Motion.Speed, unit: km/h}
`

// newWorld makes everything that agentYAML names.
func newWorld(t *testing.T, env wire.Environment) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), timing: terms.Timing{DayS: 86400, DropS: 600}}
	w.setDay(firstDay)
	validator := must(ledger.GenerateValidatorKey("v"))
	keys := make(map[string]*ecdsa.PrivateKey)
	public := make(map[string]wire.PublicKey)
	for _, name := range []string{"root", "receipt", "policy", "board", "ecu"} {
		keys[name] = must(keyfile.Create(w.path(name + ".key")))
		public[name] = must(wire.NewPublicKey(keys[name].Public()))
	}
	root := public["root"]
	w.write("root.pub", hex.EncodeToString(root[:]))
	signed := must(terms.SealProgram(keys["root"], &terms.Program{
		Version: wire.Version, Name: "test", Environment: env, Timing: w.timing,
		Receipt: wire.KeySet{public["receipt"]}, Policy: wire.KeySet{public["policy"]}, Board: wire.KeySet{public["board"]}, BoardQuorum: 1,
		Validators: []terms.Validator{validator.Public()}, Quorum: 1, LogKey: "log",
	}))
	w.write("program.cose", string(signed))
	w.program = wire.ID(signed)
	w.usage = terms.Usage{Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 10, 1, 1}, YearlyDispatches: 52}
	w.write("charter.cose", string(must(terms.SealCharter([]crypto.Signer{keys["board"]}, &terms.Charter{
		Version: wire.Version, Program: w.program, Serial: 1, Kinds: []string{terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200, Usage: w.usage,
	}))))
	lock := must(claim.ReadLock(claimKeys()))
	row := wire.Row{B: 1000}
	row.A[wire.OdometerM] = 1
	policy := must(terms.SealPolicy(keys["policy"], &terms.Policy{
		Version: wire.Version, Program: w.program, Serial: 1, Kind: terms.KindMileage, ToDay: 1 << 30, CapKm: 5000,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
		Tiers: []terms.Tier{{Km: 1, Rows: []wire.Row{row}}},
	}))
	block := must(ledger.EncodePayload(&ledger.Block{Drop: 1, Program: w.program, Policies: ledger.ChainPolicy(wire.Hash{}, policy), Proofs: []ledger.Proof{{}}}))
	sealed := ledger.Sealed{Payload: block, Cosignatures: []ledger.Cosignature{validator.Cosign(0, w.program, ledger.TypeBlock, block)}}
	w.notice = must((&notice.Notice{Version: notice.Version, Block: must(sealed.Encode()), Documents: [][]byte{policy}}).Encode())
	w.write("car.dbc", "BO_ 6 Odometer: 8 X\n SG_ Odometer : 0|32@1+ (1,0) [0|4294967294] \"m\" X\n"+
		"BO_ 7 Motion: 8 X\n SG_ Speed : 0|16@1+ (0.01,0) [0|400] \"km/h\" X\n")
	w.write("car.yaml", carYAML)
	w.ecu = keys["ecu"]
	birth := w.message(0).Snapshot
	w.write("ecu.pem", string(must(attest.EncodeIdentity(attest.Identity{Key: public["ecu"], Program: w.program, Snapshot: birth}))))
	w.write("agent.yaml", agentYAML)
	must(keyfile.Create(w.path("device.key")))
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// keys returns the files that policies name, as a collector serves them.
func keys() map[wire.Hash][]byte {
	m := make(map[wire.Hash][]byte)
	for _, name := range []string{"lock.json", "circuit.cs", "proving.key"} {
		b := must(os.ReadFile(filepath.Join(claimKeys(), name)))
		m[wire.ID(b)] = b
	}
	return m
}

// fetched puts what an earlier run fetched where the agent keeps it.
func (w *world) fetched() {
	w.t.Helper()
	if err := os.MkdirAll(w.path("state/keys"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	for h, b := range keys() {
		w.write("state/keys/"+h.String(), string(b))
	}
}

// load returns the configuration with each old text replaced by the new one.
func (w *world) load(oldnew ...string) *Config {
	w.t.Helper()
	c, err := Load(w.write("agent.yaml", strings.NewReplacer(oldnew...).Replace(agentYAML)))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// setDay moves the host's clock to the noon of a program day; it runs on from there.
func (w *world) setDay(day uint32) {
	w.ahead.Store(int64(time.Until(w.timing.DayStart(day).Add(12 * time.Hour))))
}

// message is the ECU's on the nth day of a car that drives 10 km a day.
func (w *world) message(n uint32) attest.Message {
	w.t.Helper()
	m := attest.Message{}
	m.Opening.Counters[wire.OdometerM], m.Opening.Salt[0] = 10_000*n, byte(n)
	m.Snapshot = must(attest.Sign(w.ecu, w.program, uint64(n), firstDay+n, claim.Commit(m.Opening)))
	return m
}

// deps are Run's, with a log that the test reads.
func (w *world) deps() Deps {
	return Deps{Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }}
}

// logged keeps what was logged.
type logged struct {
	mu    sync.Mutex
	b     bytes.Buffer
	heard map[string]func()
}

// on has f called for each line that holds text.
func (l *logged) on(text string, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = map[string]func(){text: f}
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for text, f := range l.heard {
		if bytes.Contains(b, []byte(text)) {
			f()
		}
	}
	return l.b.Write(b)
}

// snapshot is what the status page shows.
func (a *agent) snapshot() status.Snapshot { return a.rooms().Snapshot() }

// decide decides as the driver, while no agent runs: names are turned on, and the car speaks every day.
func (w *world) decide(names ...string) {
	w.t.Helper()
	desk, closer, err := Desk(w.t.Context(), w.load(), w.deps())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		must(desk.Turn(w.t.Context(), name, true))
	}
	must(desk.SetCadence(w.t.Context(), "daily"))
	if err := closer.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// lines returns the lines that hold text.
func (l *logged) lines(text string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}
