package auditor

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/tiles"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/claim"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
	"rawstone/pkg/wire"
)

var setup = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "auditor"); err == nil {
		_, err = claim.Setup(dir)
	}
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := setup(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// A world is a ledger on disk with what an auditor is given.
type world struct {
	t        *testing.T
	c        Config
	policy   *ecdsa.PrivateKey
	program  wire.Hash
	lock     claim.Lock
	entries  [][]byte
	openings opening.Set
	signer   note.Signer
	verifier string
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) newKey() (*ecdsa.PrivateKey, wire.PublicKey) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	p, err := wire.NewPublicKey(k.Public())
	w.must(err)
	return k, p
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := setup()
	w := &world{t: t}
	w.must(err)
	w.lock, err = claim.ReadLock(dir)
	w.must(err)
	tmp := t.TempDir()
	w.c = Config{Ledger: filepath.Join(tmp, "ledger"), Root: filepath.Join(tmp, "root.pub"), Openings: filepath.Join(tmp, "openings.json"),
		Claims: filepath.Join(tmp, "claims"), Keys: []string{dir}}
	w.must(os.Mkdir(w.c.Claims, 0o700))
	root, rootPub := w.newKey()
	w.must(os.WriteFile(w.c.Root, []byte(hex.EncodeToString(rootPub[:])), 0o600))
	var policyPub wire.PublicKey
	w.policy, policyPub = w.newKey()
	_, receiptPub := w.newKey()
	board, boardPub := w.newKey()
	var secret string
	secret, w.verifier, err = tlog.GenerateKey("log.example")
	w.must(err)
	w.signer, err = note.NewSigner(secret)
	w.must(err)
	v, err := ledger.GenerateValidatorKey("validator.example")
	w.must(err)
	p := &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: terms.Timing{GenesisS: 100, DayS: 40, DropS: 10},
		Receipt: wire.KeySet{receiptPub}, Policy: wire.KeySet{policyPub}, Board: wire.KeySet{boardPub}, BoardQuorum: 1, Quorum: 1, LogKey: w.verifier,
		Validators: []terms.Validator{v.Public()}}
	signed, err := terms.SealProgram(root, p)
	w.must(err)
	w.program = wire.ID(signed)
	w.add(ledger.TypeProgram, signed)
	charter, err := terms.SealCharter([]crypto.Signer{board}, &terms.Charter{Version: wire.Version, Program: w.program, Serial: 1, Kinds: []string{"feature/eco", terms.KindMileage, terms.KindSafe},
		TierRatioMilli: 1100, Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52}})
	w.must(err)
	w.add(ledger.TypeCharter, charter)
	row := wire.Row{B: 10_000}
	row.A[wire.OdometerM] = 1
	mileage := &terms.Policy{Version: wire.Version, Program: w.program, Serial: 1, Kind: terms.KindMileage, ToDay: 1000, CapKm: 100, Circuit: w.lock.Circuit,
		ProvingKey: w.lock.ProvingKey, VerifyingKey: w.lock.VerifyingKey, Lock: w.lock.ID(), Tiers: []terms.Tier{{Km: 10, Rows: []wire.Row{row}}}}
	signed, err = terms.SealPolicy(w.policy, mileage)
	w.must(err)
	w.add(ledger.TypePolicy, signed)
	return w
}

func (w *world) number() uint64 { return uint64(len(w.entries)) }

func (w *world) add(t ledger.Type, body []byte) {
	e := ledger.Entry{Number: w.number(), Type: t, Body: body}
	b, err := e.Encode()
	w.must(err)
	w.entries = append(w.entries, b)
}

func (w *world) blinded(t ledger.Type, body any) {
	b, err := codec.Encode(body)
	w.must(err)
	w.add(t, b)
}

// drive binds a key and credits two claims of it, which it returns with the numbers of their credits.
func (w *world) drive() (claims [2]*wire.Claim, credits [2]uint64) {
	w.t.Helper()
	key, pub := w.newKey()
	prover, err := claim.OpenProver(w.c.Keys[0], w.lock)
	w.must(err)
	var s [3]wire.Snapshot
	var o [3]wire.Opening
	for i := range s {
		o[i].Counters[wire.OdometerM] = uint32(15_000 * i)
		rand.Read(o[i].Salt[:])
		s[i], err = attest.Sign(key, w.program, uint64(i), uint32(10+i), claim.Commit(o[i]))
		w.must(err)
	}
	w.openings.AddAccount("a", [32]byte{1})
	binding := ledger.BindingOpening{Vehicle: fmt.Sprintf("CAR%d", w.number()), Account: "a", ECU: pub, Head: s[0].Head(), Signature: s[0].Signature}
	blind, err := binding.Blind()
	w.must(err)
	w.openings.AddBinding(w.number(), binding)
	w.blinded(ledger.TypeBinding, ledger.Binding{Blind: blind})
	for i := range claims {
		row := wire.Row{B: 10_000}
		row.A[wire.OdometerM] = 1
		statement := claim.Statement{From: s[i].Commitment, To: s[i+1].Commitment, Rows: [wire.RowsPerStatement]wire.Row{row}}
		p, err := prover.Prove(statement, o[i], o[i+1])
		w.must(err)
		claims[i] = &wire.Claim{Version: wire.Version, ECU: pub.ID(), From: wire.NewOrigin(s[i]), To: s[i+1], Proofs: []wire.ClaimProof{{Policy: 1, Proof: p}}}
		credit := ledger.CreditOpening{Account: "a", ECU: pub.ID(), ToSeq: s[i+1].Seq, Kind: terms.KindMileage}
		blind, err := credit.Blind()
		w.must(err)
		credits[i] = w.number()
		w.openings.AddCredit(credits[i], credit)
		w.blinded(ledger.TypeCredit, ledger.Credit{Blind: blind, Km: 10, Effective: 3})
		w.keep(claims[i])
	}
	return claims, credits
}

// keep archives a claim and returns its file.
func (w *world) keep(c *wire.Claim) string {
	b, err := c.Encode()
	w.must(err)
	path := filepath.Join(w.c.Claims, wire.ID(b).String()+extension)
	w.must(os.WriteFile(path, b, 0o600))
	return path
}

// write writes ledger and openings.
func (w *world) write() {
	w.t.Helper()
	l, err := tlog.Open(w.t.Context(), tlog.Config{Dir: w.c.Ledger, Signer: w.signer, Verifier: w.verifier, Logger: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.must(l.Append(w.t.Context(), 0, w.entries...))
	w.must(l.Close())
	f, err := os.Create(w.c.Openings)
	w.must(err)
	w.must(w.openings.Write(f))
	w.must(f.Close())
}

// serve hands the ledger out and returns the URL.
func serve(t *testing.T, dir string) string {
	t.Helper()
	h, err := tiles.New(tiles.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestAudit(t *testing.T) {
	w := newWorld(t)
	w.drive()
	w.drive()
	w.write()
	url := serve(t, w.c.Ledger)
	for _, c := range []struct {
		name   string
		config func(*Config)
		want   string
	}{
		{"stranger", func(c *Config) { c.Openings, c.Claims, c.Keys = "", "", nil }, "ledger is right: 9 entries, 4 credits, 0 blocks, "},
		{"openings", func(c *Config) { c.Claims, c.Keys = "", nil }, "ledger is right: 9 entries, 4 credits, 0 blocks, "},
		{"claims", func(c *Config) {}, "; the claims behind 4 credits hold"},
	} {
		here, there := w.c, w.c
		there.Ledger = url
		c.config(&here)
		c.config(&there)
		a, err := Audit(t.Context(), here)
		if err != nil || !strings.Contains(a.String(), c.want) {
			t.Errorf("%s: %s, %v", c.name, a, err)
		}
		b, err := Audit(t.Context(), there)
		if err != nil || a.String() != b.String() {
			t.Errorf("%s: %s from the directory, %s from the server, %v", c.name, a, b, err)
		}
	}
}

// TestErased: a credit whose opening was destroyed is counted as such, not as proven.
func TestErased(t *testing.T) {
	w := newWorld(t)
	w.drive()
	_, gone := w.drive()
	all := w.openings
	w.openings = opening.Set{}
	w.openings.AddAccount("a", [32]byte{1})
	for n := range w.number() {
		if n >= gone[0]-1 {
			w.openings.AddErased(n)
		} else if o, ok := all.Binding(n); ok {
			w.openings.AddBinding(n, o)
		} else if o, ok := all.Credit(n); ok {
			w.openings.AddCredit(n, o)
		}
	}
	w.write()
	r, err := Audit(t.Context(), w.c)
	if err != nil || r.Proven != 2 || r.CreditsErased != uint64(len(gone)) || !strings.HasSuffix(r.String(), "; the claims behind 2 credits hold, 2 were erased") {
		t.Errorf("%s, %v", r, err)
	}
}

// TestOldOpenings holds that openings need not reach beyond the day that is asked for, and what helps when they do not reach far enough.
func TestOldOpenings(t *testing.T) {
	w := newWorld(t)
	w.drive()
	w.write()
	w.must(os.WriteFile(w.c.Openings, nil, 0o600))
	f, err := os.Create(w.c.Openings)
	w.must(err)
	w.must(new(opening.Set).Write(f))
	w.must(f.Close())
	c := w.c
	c.Claims = ""
	if _, err := Audit(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "cannot use verifying keys without claims: ") {
		t.Errorf("keys without claims: %v", err)
	}
	c.Keys = nil
	if _, err := Audit(t.Context(), c); !errors.Is(err, audit.ErrNoOpening) || !strings.HasSuffix(err.Error(), "or audit a copy of the ledger taken before them") {
		t.Errorf("openings of nothing: %v", err)
	}
	c.Day = 1 // the program begins on day 2
	if r, err := Audit(t.Context(), c); err != nil || r.AtDay == nil || len(r.AtDay) != 0 || r.Entries != 1 {
		t.Errorf("a day that is over before them: %+v, %v", r, err)
	}
	c.Day++
	if _, err := Audit(t.Context(), c); !errors.Is(err, audit.ErrNoOpening) {
		t.Errorf("a day that is not over: %v", err)
	}
	c.Day--
	tiles, err := filepath.Glob(filepath.Join(c.Ledger, "tile", "entries", "000.p", "*"))
	if err != nil || len(tiles) == 0 {
		t.Fatal(tiles, err)
	}
	for _, path := range tiles {
		b, err := os.ReadFile(path)
		w.must(err)
		b[len(b)-3] ^= 1
		w.must(os.WriteFile(path, b, 0o600))
	}
	if _, err := Audit(t.Context(), c); err == nil || !strings.HasSuffix(err.Error(), "; fetch the ledger again, or from a mirror") {
		t.Errorf("a bit of a later entry: %v", err)
	}
}

// TestClaims takes claims away and changes them.
func TestClaims(t *testing.T) {
	w := newWorld(t)
	claims, credits := w.drive()
	w.write()
	path := w.keep(claims[1])
	good, err := os.ReadFile(path)
	w.must(err)
	fails := func(what string, c Config, want ...string) {
		t.Helper()
		r, err := Audit(t.Context(), c)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %s, %v, want %q", what, r, err, part)
			}
		}
	}
	w.must(os.Remove(path))
	fails("a missing claim", w.c, fmt.Sprintf("cannot accept entry %d: credit of key %s for snapshot 2", credits[1], claims[1].ECU), "no claim stands behind it", "collector claim export")
	if _, err := Audit(t.Context(), w.c); !errors.Is(err, proof.ErrNoClaim) {
		t.Errorf("a missing claim is %v", err)
	}
	flipped := append([]byte(nil), good...)
	flipped[100] ^= 1
	w.must(os.WriteFile(path, flipped, 0o600))
	fails("a flipped bit", w.c, path, "restore it")
	w.must(os.WriteFile(path, good[:100], 0o600))
	fails("a shortened claim", w.c, path, "restore it")
	w.must(os.Remove(path))
	other := *claims[1]
	other.Proofs = []wire.ClaimProof{{Policy: 1, Proof: claims[0].Proofs[0].Proof}}
	bad := w.keep(&other)
	fails("a false proof", w.c, fmt.Sprintf("cannot accept entry %d: ", credits[1]), "does not prove the statement")
	w.must(os.Remove(bad))
	w.must(os.WriteFile(path, good, 0o600))
	w.must(os.WriteFile(filepath.Join(w.c.Claims, "README"), []byte("not a claim"), 0o600))
	if r, err := Audit(t.Context(), w.c); err != nil || r.Proven != 2 {
		t.Errorf("%s, %v", r, err)
	}
	junk := []byte("junk")
	name := filepath.Join(w.c.Claims, wire.ID(junk).String()+extension)
	w.must(os.WriteFile(name, junk, 0o600))
	fails("a claim that is none", w.c, name)
	w.must(os.Remove(name))

	c := w.c
	c.Openings = ""
	fails("no openings", c, "collector openings")
	c = w.c
	c.Keys = nil
	fails("no keys", c, "verifying keys")
	c = w.c
	c.Claims += "x"
	fails("no directory", c, "collector claim export")
	c = w.c
	c.Ledger += "x"
	fails("no ledger", c, "state_dir")
	c.Ledger = t.TempDir()
	fails("an empty directory", c, "holds no entry", "state_dir")
	c = w.c
	c.Openings += "x"
	fails("no file of openings", c, "collector openings")
}

// TestBatches checks more entries than one batch holds.
func TestBatches(t *testing.T) {
	w := newWorld(t)
	w.write()
	root, err := terms.LoadRoot(w.c.Root)
	w.must(err)
	c, err := openClaims(w.c, root, &w.openings)
	w.must(err)
	first, err := ledger.DecodeEntry(w.entries[0])
	w.must(err)
	w.must(c.add(t.Context(), first))
	const n = 2*proof.MaxItems + 10
	for i := range uint64(n) {
		w.must(c.add(t.Context(), &ledger.Entry{Number: i + 1, Type: ledger.TypeBlock}))
	}
	w.must(c.flush(t.Context()))
	if c.checker.Next() != n+1 {
		t.Errorf("%d entries were checked, want %d", c.checker.Next(), n+1)
	}
}

// TestArchive finds all claims over one span.
func TestArchive(t *testing.T) {
	w := newWorld(t)
	claims, _ := w.drive()
	other := *claims[1]
	other.Proofs = []wire.ClaimProof{{Policy: 2}}
	w.keep(&other)
	a, err := openArchive(w.c.Claims)
	w.must(err)
	for i, want := range []int{1, 2} {
		if all, err := a.of(claims[i].ECU, claims[i].To.Seq); err != nil || len(all) != want {
			t.Errorf("%d claims end at snapshot %d, want %d: %v", len(all), claims[i].To.Seq, want, err)
		}
	}
}

// TestDamage flips bits of, shortens and removes every public file of a ledger: each is found and named, in a directory and from a server.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	for i := range 600 {
		w.blinded(ledger.TypeCredit, ledger.Credit{Blind: wire.ID([]byte{byte(i), byte(i >> 8)}), Km: 1, Effective: 3})
	}
	w.write()
	var files []string
	w.must(fs.WalkDir(os.DirFS(w.c.Ledger), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(name, ".") {
			files = append(files, name)
		}
		return err
	}))
	if len(files) < 9 {
		t.Fatalf("the ledger's files are %v", files)
	}
	url := serve(t, w.c.Ledger)
	server, err := remote.New(remote.Config{URL: url, Pause: func(context.Context, time.Duration) error { return nil }})
	w.must(err)
	c := Config{Root: w.c.Root}
	covered := 0
	for _, file := range files {
		path := filepath.Join(w.c.Ledger, file)
		good, err := os.ReadFile(path)
		w.must(err)
		if superseded(file) {
			continue
		}
		covered++
		damages := map[string]func() error{
			"removed":   func() error { return os.Remove(path) },
			"emptied":   func() error { return os.WriteFile(path, nil, 0o600) },
			"shortened": func() error { return os.WriteFile(path, good[:len(good)-1], 0o600) },
		}
		for _, at := range []int{0, 1, len(good) / 3, len(good) / 2, len(good) - 2, len(good) - 1} {
			damages[fmt.Sprintf("flipped at %d", at)] = func() error {
				b := append([]byte(nil), good...)
				b[at] ^= 0x08
				return os.WriteFile(path, b, 0o600)
			}
		}
		for what, damage := range damages {
			w.must(damage())
			for _, source := range []tlog.Source{tlog.Dir(w.c.Ledger), server} {
				_, err := auditFrom(t.Context(), source, c)
				// What is hashed is named by its entry where the file's hash is not at hand to say so.
				if err == nil || !strings.Contains(err.Error(), file) && !strings.Contains(err.Error(), "entry ") {
					t.Errorf("%s %s, read from %s: %v", file, what, source, err)
				}
			}
			w.must(os.WriteFile(path, good, 0o600))
		}
	}
	if covered != 8 {
		t.Errorf("%d files were damaged of %v", covered, files)
	}
	if _, err := auditFrom(t.Context(), server, c); err != nil {
		t.Error(err)
	}
}

// superseded says that a file was of a smaller tree: the checkpoint over 603 entries asks for others.
func superseded(file string) bool {
	switch file {
	case "checkpoint", "tile/entries/000", "tile/entries/001", "tile/entries/002.p/91", "tile/0/000", "tile/0/001", "tile/0/002.p/91", "tile/1/000.p/2":
		return false
	}
	return true
}
