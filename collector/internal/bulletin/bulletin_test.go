package bulletin

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A rig is records, the keys of a program, and what was published.
type rig struct {
	db       *store.DB
	root     wire.PublicKey
	program  *terms.Program
	id       wire.Hash
	policy   *ecdsa.PrivateKey
	board    *ecdsa.PrivateKey
	operator *ledger.ValidatorKey

	mu     sync.Mutex // of what Run's goroutine reads
	today  uint32
	drop   uint64
	chain  wire.Hash
	broken error // what the publisher answers
	got    [][]byte
	tries  int
	log    bytes.Buffer
	reg    *prometheus.Registry
}

func (r *rig) Retain(_ context.Context, payload []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tries++
	if r.broken == nil {
		r.got = append(r.got, payload)
	}
	return r.broken
}

// count returns how often a notice was to be published, and how often it was.
func (r *rig) count() (tries, published int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries, len(r.got)
}

func key(t *testing.T) (*ecdsa.PrivateKey, wire.KeySet) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, wire.KeySet{p}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{program: &terms.Program{Quorum: 1, BoardQuorum: 1}, id: wire.Hash{1}, today: 20, reg: prometheus.NewRegistry()}
	r.policy, r.program.Policy = key(t)
	r.board, r.program.Board = key(t)
	var err error
	if r.operator, err = ledger.GenerateValidatorKey("operator.example"); err != nil {
		t.Fatal(err)
	}
	r.program.Validators = []terms.Validator{r.operator.Public()}
	if r.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	r.log1(t, ledger.TypeProgram, []byte("program"))
	return r
}

func (r *rig) bulletin(t *testing.T) *Bulletin {
	t.Helper()
	b, err := New(Config{
		Store: r.db, Publisher: r, Root: r.root, Program: r.program, ProgramID: r.id, Today: func() uint32 { r.mu.Lock(); defer r.mu.Unlock(); return r.today },
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Registerer: r.reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// log1 gives an entry the next number.
func (r *rig) log1(t *testing.T, typ ledger.Type, body []byte) {
	t.Helper()
	err := r.db.Update(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.AddEntry(t.Context(), typ, body); err != nil {
			return err
		}
		return tx.NumberEntries(t.Context(), 10)
	})
	if err != nil {
		t.Fatal(err)
	}
	if typ == ledger.TypeCharter || typ == ledger.TypePolicy || typ == ledger.TypeWitness {
		r.chain = ledger.ChainPolicy(r.chain, body)
	}
}

func (r *rig) addCharter(t *testing.T, serial uint16) {
	t.Helper()
	b, err := terms.SealCharter([]crypto.Signer{r.board}, &terms.Charter{
		Version: wire.Version, Program: r.id, Serial: serial, Kinds: []string{terms.KindSafe}, TierRatioMilli: 1200,
		Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1, Clip: 10, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 12},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.log1(t, ledger.TypeCharter, b)
}

func (r *rig) addPolicy(t *testing.T, serial uint16, key crypto.Signer) {
	t.Helper()
	h := wire.Hash{7}
	p := &terms.Policy{
		Version: wire.Version, Program: r.id, Serial: serial, Kind: terms.KindSafe, FromDay: 1, ToDay: 1000,
		Circuit: h, ProvingKey: h, VerifyingKey: h, Lock: h, Tiers: []terms.Tier{{Rows: []wire.Row{{B: 5000}}}},
	}
	p.Tiers[0].Rows[0].A[wire.OdometerM] = 1
	b, err := terms.SealPolicy(key, p)
	if err != nil {
		t.Fatal(err)
	}
	r.log1(t, ledger.TypePolicy, b)
}

// draw logs the block of the next drop.
func (r *rig) draw(t *testing.T) {
	t.Helper()
	b := &ledger.Block{Drop: r.drop, Program: r.id, Policies: r.chain, Day: r.today, Proofs: []ledger.Proof{{}}}
	payload, err := ledger.EncodePayload(b)
	if err != nil {
		t.Fatal(err)
	}
	s := ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{r.operator.Cosign(0, r.id, ledger.TypeBlock, payload)}}
	body, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.log1(t, ledger.TypeBlock, body)
	r.drop++
}

// step expects a step to publish serials, or nothing when there are none.
func (r *rig) step(t *testing.T, b *Bulletin, name string, want ...uint16) {
	t.Helper()
	before := len(r.got)
	published, err := b.Step(t.Context())
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if published != (want != nil) || len(r.got)-before != map[bool]int{true: 1}[published] {
		t.Errorf("%s: published %t, %d notices", name, published, len(r.got)-before)
		return
	}
	if !published {
		return
	}
	n, err := notice.Decode(r.got[before])
	if err != nil {
		t.Fatal(err)
	}
	o, err := n.Open(r.root, r.program, r.id)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint16
	for _, p := range o.Policies {
		got = append(got, p.Serial)
	}
	if d := cmp.Diff(want, got); d != "" || o.Drop != r.drop-1 {
		t.Errorf("%s: drop %d, policies (-want +got):\n%s", name, o.Drop, d)
	}
}

func TestWhenNoticesGoOut(t *testing.T) {
	r := newRig(t)
	b := r.bulletin(t)
	r.step(t, b, "no block yet")
	r.addCharter(t, 1)
	r.addPolicy(t, 1, r.policy)
	r.step(t, b, "still no block")
	r.draw(t)
	r.step(t, b, "the first block", 1)
	r.step(t, b, "nothing new")
	r.draw(t)
	r.step(t, b, "a block of the same day")
	r.addPolicy(t, 2, r.policy)
	r.step(t, b, "a policy without a block")
	r.draw(t)
	r.step(t, b, "a policy with its block", 1, 2)
	r.addCharter(t, 2)
	r.draw(t)
	r.step(t, b, "a charter with its block", 1, 2)
	r.today++
	r.step(t, b, "a new day without a block")
	r.draw(t)
	r.step(t, b, "a new day", 1, 2)

	r.reg = prometheus.NewRegistry()
	again := r.bulletin(t)
	r.step(t, again, "another process", 1, 2)
	r.step(t, again, "another process, nothing new")

	r.reg = prometheus.NewRegistry()
	r.addPolicy(t, 3, r.policy)
	late := r.bulletin(t)
	r.step(t, late, "a process that begins before the block")
	r.draw(t)
	r.step(t, late, "and then has it", 1, 2, 3)
	want := `
# HELP rawstone_bulletin_documents Charters, policies and changes of validators behind the notice that was published last: given in it, or left out.
# TYPE rawstone_bulletin_documents gauge
rawstone_bulletin_documents{how="given"} 4
rawstone_bulletin_documents{how="left_out"} 1
# HELP rawstone_bulletin_drop Drop of the notice of policies that was published last.
# TYPE rawstone_bulletin_drop gauge
rawstone_bulletin_drop 5
# HELP rawstone_bulletin_failures_total Notices of policies that could not be made or published.
# TYPE rawstone_bulletin_failures_total counter
rawstone_bulletin_failures_total 0
# HELP rawstone_bulletin_published_total Notices of policies published.
# TYPE rawstone_bulletin_published_total counter
rawstone_bulletin_published_total 1
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// TestNothingFalseGoesOut: what a vehicle would refuse is not published.
func TestNothingFalseGoesOut(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *rig)
		want  string
	}{
		"a policy under a wrong key": {func(r *rig) { r.addPolicy(t, 1, r.board) }, "may not sign this"},
		"serials that fall":          {func(r *rig) { r.addPolicy(t, 2, r.policy); r.addPolicy(t, 1, r.policy) }, "comes after"},
		"a block over other policies": {func(r *rig) {
			r.addPolicy(t, 1, r.policy)
			r.chain[0] ^= 1
		}, "not those that its block stands on"},
		"a block without a quorum": {func(r *rig) { r.program.Quorum = 2 }, "at least 2"},
	} {
		r := newRig(t)
		r.addCharter(t, 1)
		c.spoil(r)
		r.draw(t)
		b := r.bulletin(t)
		for range 2 {
			if _, err := b.Step(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q in it", name, err, c.want)
			}
		}
		if n := testutil.ToFloat64(b.failures); r.tries != 0 || n != 2 {
			t.Errorf("%s: %d attempts to publish, %v failures counted", name, r.tries, n)
		}
	}
}

// TestRunBacksOff: a broker that takes nothing is asked less and less often, is said to fail once, and gets the notice when it does.
func TestRunBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.draw(t)
		b := r.bulletin(t)
		r.broken = errors.New("broker is away")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.Run(ctx) }()
		passed := time.Duration(0)
		for _, c := range []struct {
			at    time.Duration // since the beginning
			tries int
		}{
			{500 * time.Millisecond, 1}, {1500 * time.Millisecond, 2}, {3500 * time.Millisecond, 3}, {7500 * time.Millisecond, 4},
			{255500 * time.Millisecond, 9}, {510500 * time.Millisecond, 9}, {511500 * time.Millisecond, 10}, {810500 * time.Millisecond, 10}, {811500 * time.Millisecond, 11},
		} {
			time.Sleep(c.at - passed)
			passed = c.at
			synctest.Wait()
			if tries, _ := r.count(); tries != c.tries {
				t.Errorf("after %s: %d attempts, want %d", c.at, tries, c.tries)
			}
		}
		r.mu.Lock()
		r.broken = nil
		r.mu.Unlock()
		time.Sleep(maxBackoff)
		synctest.Wait()
		if _, n := r.count(); n != 1 {
			t.Errorf("%d notices published", n)
		}
		r.mu.Lock()
		r.today++
		r.mu.Unlock()
		r.draw(t)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, n := r.count(); n != 2 {
			t.Errorf("%d notices published, want the next day's soon", n)
		}
		cancel()
		<-done
		r.db.Close()
		text := r.log.String()
		if strings.Count(text, "level=ERROR") != 1 || !strings.Contains(text, "broker is away") || strings.Count(text, "published again") != 1 {
			t.Errorf("logged\n%s", text)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration is accepted")
	}
}
