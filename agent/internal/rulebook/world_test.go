package rulebook

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

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

var scratch string

func TestMain(m *testing.M) {
	scratch = must(os.MkdirTemp("", "rulebook"))
	code := m.Run()
	if err := os.RemoveAll(scratch); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// A setup is the files of one setup.
type setup struct {
	lock  claim.Lock
	dir   string
	files map[wire.Hash][]byte
}

// setups makes three setups once for all tests. The second and third share the first's circuit, as a new ceremony does.
var setups = sync.OnceValue(func() (list []setup) {
	for i := range 3 {
		dir := filepath.Join(scratch, fmt.Sprint(i))
		s := setup{must(claim.Setup(dir)), dir, make(map[wire.Hash][]byte)}
		for _, name := range []string{"lock.json", "circuit.cs", "proving.key"} {
			b := must(os.ReadFile(filepath.Join(dir, name)))
			s.files[wire.ID(b)] = b
		}
		list = append(list, s)
	}
	return list
})

// production returns a setup whose lock says that a ceremony made it.
func production() setup {
	s := setups()[0]
	dir := filepath.Join(scratch, "production")
	f := claim.Files{}
	for name, b := range map[string]*[]byte{"circuit.cs": &f.Circuit, "proving.key": &f.ProvingKey, "verifying.key": &f.VerifyingKey} {
		*b = must(os.ReadFile(filepath.Join(s.dir, name)))
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		must(f.Write(dir, wire.Hash{7}))
	}
	text := must(os.ReadFile(filepath.Join(dir, "lock.json")))
	s.lock, s.dir = must(claim.ParseLock(text)), dir
	s.files = map[wire.Hash][]byte{wire.ID(text): text, wire.ID(f.Circuit): f.Circuit, wire.ID(f.ProvingKey): f.ProvingKey}
	return s
}

// A flashBlobs is a server of files and the flash behind it, in memory.
type flashBlobs struct {
	mu     sync.Mutex
	served map[wire.Hash][]byte
	flash  map[wire.Hash][]byte
	fail   error // what the network says
	asked  []wire.Hash
	kept   int
}

func newBlobs(setups ...setup) *flashBlobs {
	f := &flashBlobs{served: make(map[wire.Hash][]byte), flash: make(map[wire.Hash][]byte)}
	for _, s := range setups {
		for h, b := range s.files {
			f.served[h] = b
		}
	}
	return f
}

func (f *flashBlobs) Load(hash wire.Hash, limit int64) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, ok := f.flash[hash]
	if !ok || int64(len(b)) > limit || wire.ID(b) != hash {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (f *flashBlobs) Get(ctx context.Context, hash wire.Hash, limit int64) ([]byte, error) {
	if b, err := f.Load(hash, limit); err == nil {
		return b, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, hash)
	b, ok := f.served[hash]
	if f.fail != nil || !ok || ctx.Err() != nil {
		return nil, errors.Join(f.fail, ctx.Err(), fs.ErrNotExist)
	}
	f.flash[hash] = bytes.Clone(b)
	return b, nil
}

func (f *flashBlobs) Keep(hashes ...wire.Hash) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept++
	for h := range f.flash {
		if !slices.Contains(hashes, h) {
			delete(f.flash, h)
		}
	}
	return nil
}

func (f *flashBlobs) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// A world is a program and who signs in it.
type world struct {
	root      crypto.Signer
	program   *terms.Program
	id        wire.Hash
	charter   *terms.Charter
	key       crypto.Signer
	validator *ledger.ValidatorKey
	day       uint32 // of blocks
}

func newWorld(env wire.Environment) *world {
	w := &world{validator: must(ledger.GenerateValidatorKey("v")), day: 9}
	dir := must(os.MkdirTemp(scratch, "keys"))
	public := make(map[string]wire.PublicKey)
	keys := make(map[string]crypto.Signer)
	for _, name := range []string{"root", "receipt", "policy", "board"} {
		k := must(keyfile.Create(filepath.Join(dir, name)))
		keys[name], public[name] = k, must(wire.NewPublicKey(k.Public()))
	}
	w.key, w.root = keys["policy"], keys["root"]
	w.program = &terms.Program{
		Version: wire.Version, Name: "test", Environment: env, Timing: terms.Timing{DayS: 86400, DropS: 600},
		Receipt: wire.KeySet{public["receipt"]}, Policy: wire.KeySet{public["policy"]}, Board: wire.KeySet{public["board"]}, BoardQuorum: 1,
		Validators: []terms.Validator{w.validator.Public()}, Quorum: 1, LogKey: "log",
	}
	w.id = wire.ID(must(terms.SealProgram(keys["root"], w.program)))
	w.charter = &terms.Charter{Version: wire.Version, Program: w.id, Serial: 1, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200}
	return w
}

// policy returns a signed policy under a setup's keys.
func (w *world) policy(serial uint16, lock claim.Lock, edit func(*terms.Policy)) []byte {
	row := wire.Row{B: 1000}
	row.A[wire.OdometerM] = 1
	p := &terms.Policy{
		Version: wire.Version, Program: w.id, Serial: serial, Kind: terms.KindMileage, FromDay: uint32(serial), ToDay: 1 << 30, CapKm: 5000,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
		Tiers: []terms.Tier{{Km: 1, Rows: []wire.Row{row}}},
	}
	if edit != nil {
		edit(p)
	}
	return must(terms.SealPolicy(w.key, p))
}

// notice returns that of a drop over policies, of which it leaves out the first.
func (w *world) notice(drop uint64, out int, policies ...[]byte) []byte {
	n := &notice.Notice{Version: notice.Version, Documents: policies[out:]}
	var chain wire.Hash
	for i, p := range policies {
		if i == out {
			n.Before = chain
		}
		chain = ledger.ChainPolicy(chain, p)
	}
	if out == len(policies) {
		n.Before = chain
	}
	payload := must(ledger.EncodePayload(&ledger.Block{Drop: drop, Day: w.day, Program: w.id, Policies: chain, Proofs: []ledger.Proof{{}}}))
	sealed := ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{w.validator.Cosign(0, w.id, ledger.TypeBlock, payload)}}
	n.Block = must(sealed.Encode())
	return must(n.Encode())
}

func (w *world) config(dir string, blobs Blobs) Config {
	return Config{
		Dir: dir, Blobs: blobs, Environment: w.program.Environment, Root: must(wire.NewPublicKey(w.root.Public())), Program: w.program, ProgramID: w.id, Charter: w.charter, AgentVersion: "1.0.0",
		Now: time.Now, Changed: func() {}, Logger: slog.New(slog.DiscardHandler),
	}
}

// open opens a book in a new directory.
func (w *world) open(t *testing.T, blobs Blobs) *Book {
	t.Helper()
	return must(Open(w.config(filepath.Join(t.TempDir(), "rules"), blobs)))
}

// again opens the book of the same directory, as after a restart.
func (w *world) again(b *Book, blobs Blobs) *Book { return must(Open(w.config(b.cfg.Dir, blobs))) }

// serials returns those of the rules, and whether each can be proven now.
func serials(b *Book) (list []string) {
	for _, p := range b.Rules().Policies {
		_, ok := b.Prover(p)
		list = append(list, fmt.Sprint(p.Serial, " ", ok))
	}
	return list
}

// proves makes a proof under a policy and checks it.
func proves(t *testing.T, b *Book, p *terms.Policy, dir string) {
	t.Helper()
	prover, ok := b.Prover(p)
	if !ok {
		t.Fatalf("no prover for policy %d", p.Serial)
	}
	var from, to wire.Opening
	to.Counters[wire.OdometerM], to.Salt[0] = 2000, 1
	s := claim.Statement{From: claim.Commit(from), To: claim.Commit(to), Rows: p.Statement(0)}
	proof, err := prover.Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := must(claim.OpenVerifier(dir, must(claim.ReadLock(dir)))).Verify(s, proof); err != nil {
		t.Errorf("policy %d: %v", p.Serial, err)
	}
}

func claimOf(p *terms.Policy) claim.Statement { return claim.Statement{Rows: p.Statement(0)} }

func testContext(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
