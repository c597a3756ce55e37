package inclusion

import (
	"encoding/pem"
	"fmt"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"rawstone/pkg/codec"
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

// A world is a program with its keys and a log of 11 entries, the same each time.
type world struct {
	program    *terms.Program
	signed     []byte // the program document
	id         wire.Hash
	validators []*ledger.ValidatorKey
	entries    [][]byte
	ecu        wire.KeyID
}

const (
	toSeq   = 9
	account = "00112233445566778899aabbccddeeff"
)

// promised are the credits of the car's claim: the entries 4 and 6.
func (w *world) promised() Promised {
	return Promised{
		ECU: w.ecu, ToSeq: toSeq, Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 22}, {Policy: 3, Effective: 22}},
		Kinds: []string{terms.KindMileage, terms.KindSafe},
	}
}

func salt(n uint64) [32]byte { return vectortest.Hash(fmt.Sprintf("salt %d", n)) }

// credit is the entry of a credit.
func credit(number uint64, o ledger.CreditOpening, km, effective uint32) []byte {
	o.Salt = salt(number)
	body := must(codec.Encode(&ledger.Credit{Blind: must(o.Blind()), Km: km, Effective: effective}))
	return must((&ledger.Entry{Number: number, Type: ledger.TypeCredit, Body: body}).Encode())
}

func newWorld(t testing.TB) *world {
	t.Helper()
	key := func(name string) wire.PublicKey { return public(vectortest.Key(t, name)) }
	w := &world{ecu: key("ecu").ID(), program: &terms.Program{
		Version: wire.Version, Name: "vector", Environment: wire.Development,
		Timing:  terms.Timing{GenesisS: 1_700_000_000, DayS: 20, DropS: 2},
		Receipt: wire.KeySet{key("receipt")}, Policy: wire.KeySet{key("policy")},
		Board: wire.KeySet{key("board-1")}, BoardQuorum: 1, Quorum: 2, LogKey: "vector/ledger+00+key",
	}}
	for i := range 3 {
		name := fmt.Sprintf("validator-%d", i)
		c, v := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
		k := must(ledger.ParseValidatorKey(pem.EncodeToMemory(&pem.Block{
			Type: "RAWSTONE VALIDATOR KEY", Headers: map[string]string{"Name": name}, Bytes: slices.Concat(c[:], v[:]),
		})))
		w.validators, w.program.Validators = append(w.validators, k), append(w.program.Validators, k.Public())
	}
	w.signed = must(terms.SealProgram(vectortest.Key(t, "root"), w.program))
	w.id = wire.ID(w.signed)
	for n := range uint64(11) {
		w.entries = append(w.entries, fmt.Appendf(nil, "entry %d", n))
	}
	own := ledger.CreditOpening{Account: account, ECU: w.ecu, ToSeq: toSeq}
	mileage, safe, fewer, earlier, foreign := own, own, own, own, own
	mileage.Kind, safe.Kind, fewer.Kind, earlier.Kind, foreign.Kind = terms.KindMileage, terms.KindSafe, terms.KindMileage, terms.KindMileage, terms.KindMileage
	earlier.ToSeq, foreign.ECU = toSeq-1, key("another ecu").ID()
	w.entries[4] = credit(4, mileage, 40, 22)
	w.entries[5] = credit(5, fewer, 39, 22)
	w.entries[6] = credit(6, safe, 0, 22)
	w.entries[7] = credit(7, earlier, 40, 22)
	w.entries[8] = credit(8, foreign, 40, 22)
	w.entries[9] = credit(9, mileage, 40, 23)
	w.entries[10] = credit(10, safe, 40, 22)
	return w
}

// root returns the hash of the tree of the first size entries.
func (w *world) root(size int) wire.Hash {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for _, e := range w.entries[:size] {
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
			panic(err)
		}
	}
	return wire.Hash(must(tree.GetRootHash(nil)))
}

// path proves an entry in the tree of the first size entries.
func (w *world) path(number, size uint64) (path []wire.Hash) {
	nodes := must(proof.Inclusion(number, size))
	var hashes [][]byte
	for _, id := range nodes.IDs {
		begin, end := id.Coverage()
		tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
		for _, e := range w.entries[begin:end] {
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(e), nil); err != nil {
				panic(err)
			}
		}
		hashes = append(hashes, must(tree.GetRootHash(nil)))
	}
	for _, h := range must(nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)) {
		path = append(path, wire.Hash(h))
	}
	return path
}

func (w *world) block(size int) *ledger.Block {
	b := &ledger.Block{
		Drop: 7, Time: 1_700_000_014, Previous: wire.ID([]byte("previous")), Program: w.id, Policies: wire.ID([]byte("policies")), Day: 21,
		Root: wire.ID([]byte("root")), Size: uint64(size), LogRoot: w.root(size), Seed: wire.ID([]byte("seed")),
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

// item is what an answer says of an entry.
func (w *world) item(policy uint16, number uint64, kind string, size uint64) Credit {
	return Credit{Policy: policy, Number: number, Salt: salt(number), Account: account, Kind: kind, Path: w.path(number, size)}
}

// answer is a good one, under a block that covers size entries.
func (w *world) answer(size int) *Answer {
	return &Answer{Version: Version, Block: w.cosign(w.block(size), 0, 2), Credits: []Credit{
		w.item(1, 4, terms.KindMileage, uint64(size)), w.item(3, 6, terms.KindSafe, uint64(size)),
	}}
}
