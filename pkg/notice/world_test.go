package notice

import (
	"crypto"
	"encoding/pem"
	"fmt"
	"slices"
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func public(k vectortest.Signer) wire.PublicKey { return must(wire.NewPublicKey(k.Public())) }

// validator returns the validator whose two secrets are those of its name with " cosign" and " vrf".
func validator(name string) *ledger.ValidatorKey {
	c, v := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
	return must(ledger.ParseValidatorKey(pem.EncodeToMemory(&pem.Block{
		Type: "RAWSTONE VALIDATOR KEY", Headers: map[string]string{"Name": name}, Bytes: slices.Concat(c[:], v[:]),
	})))
}

// A world is a program with its keys, the same each time.
type world struct {
	t          testing.TB
	program    *terms.Program
	root       wire.PublicKey
	signed     []byte // the program document
	id         wire.Hash
	validators []*ledger.ValidatorKey
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key := func(name string) wire.PublicKey { return public(vectortest.Key(t, name)) }
	w := &world{t: t, root: key("root"), program: &terms.Program{
		Version: wire.Version, Name: "vector", Environment: wire.Development,
		Timing:  terms.Timing{GenesisS: 1_700_000_000, DayS: 20, DropS: 2},
		Receipt: wire.KeySet{key("receipt")}, Policy: wire.KeySet{key("policy")},
		Board: wire.KeySet{key("board-1"), key("board-2")}, BoardQuorum: 2, Quorum: 2, LogKey: "vector/ledger+00+key",
	}}
	for i := range 3 {
		v := validator(fmt.Sprintf("validator-%d", i))
		w.validators, w.program.Validators = append(w.validators, v), append(w.program.Validators, v.Public())
	}
	w.signed = must(terms.SealProgram(vectortest.Key(t, "root"), w.program))
	w.id = wire.ID(w.signed)
	return w
}

// charter is a signed charter.
func (w *world) charter(serial uint16) []byte {
	return must(terms.SealCharter([]crypto.Signer{vectortest.Key(w.t, "board-1"), vectortest.Key(w.t, "board-2")}, &terms.Charter{
		Version: wire.Version, Program: w.id, Serial: serial, Kinds: []string{terms.KindMileage, terms.KindSafe}, TierRatioMilli: 1200,
		Usage: terms.Usage{
			Families: wire.AllFamilies, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 10,
			Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 12,
		},
	}))
}

func (w *world) policy(serial uint16, kind string, from, to uint32) *terms.Policy {
	p := &terms.Policy{
		Version: wire.Version, Program: w.id, Serial: serial, Kind: kind, FromDay: from, ToDay: to,
		Circuit: wire.ID([]byte("circuit")), ProvingKey: wire.ID([]byte("proving key")), VerifyingKey: wire.ID([]byte("verifying key")),
		Lock: wire.ID([]byte("lock")),
	}
	row := wire.Row{B: 5000}
	row.A[wire.OdometerM] = 1
	p.Tiers = []terms.Tier{{Rows: []wire.Row{row}}}
	if kind == terms.KindMileage {
		p.CapKm, p.Tiers[0].Km = 1500, 5
	}
	return p
}

func (w *world) seal(p *terms.Policy) []byte {
	return must(terms.SealPolicy(vectortest.Key(w.t, "policy"), p))
}

func (w *world) stop(serial uint16, kind string, from, to uint32) []byte {
	p := w.policy(serial, kind, from, to)
	p.Stop = true
	return w.seal(p)
}

// log is the usual one: a charter, two policies, a stop of the first, and its successor.
func (w *world) log() [][]byte {
	return [][]byte{
		w.charter(1), w.seal(w.policy(1, terms.KindMileage, 10, 99)), w.seal(w.policy(2, terms.KindSafe, 10, 99)),
		w.stop(3, terms.KindMileage, 20, 99), w.seal(w.policy(4, terms.KindMileage, 30, 99)),
	}
}

func chain(documents ...[]byte) (h wire.Hash) {
	for _, d := range documents {
		h = ledger.ChainPolicy(h, d)
	}
	return h
}

// block is one that stands on a chain of documents, on day 21.
func (w *world) block(policies wire.Hash) *ledger.Block {
	b := &ledger.Block{
		Drop: 7, Time: 1_700_000_014, Previous: wire.ID([]byte("previous")), Program: w.id, Policies: policies, Day: 21,
		Root: wire.ID([]byte("root")), Size: 12, LogRoot: wire.ID([]byte("log")), Seed: wire.ID([]byte("seed")),
	}
	for i, v := range w.validators {
		b.Proofs = append(b.Proofs, v.Prove(uint8(i), ledger.DrawAlpha(b.Root, b.Drop)))
	}
	return b
}

// cosign returns the body of a block's entry with the cosignatures of some validators.
func (w *world) cosign(b *ledger.Block, signers ...int) []byte {
	payload := must(ledger.EncodePayload(b))
	s := ledger.Sealed{Payload: payload}
	for _, i := range signers {
		s.Cosignatures = append(s.Cosignatures, w.validators[i].Cosign(uint8(i), b.Program, ledger.TypeBlock, payload))
	}
	return must(s.Encode())
}

// notice is that of some documents, of which the first left ones are left out.
func (w *world) notice(left int, documents ...[]byte) *Notice {
	return &Notice{
		Version: Version, Block: w.cosign(w.block(chain(documents...)), 0, 2), Before: chain(documents[:left]...), Documents: documents[left:],
	}
}

func size(t testing.TB, n *Notice) int {
	t.Helper()
	b, err := n.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return len(b)
}
