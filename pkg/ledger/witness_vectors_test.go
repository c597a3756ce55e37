package ledger

import (
	"bytes"
	"encoding/pem"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// witnessVectors is testdata/witness.json; the README beside it says what the fields are.
type witnessVectors struct {
	Comment string            `json:"comment"`
	Secret  vectortest.Octets `json:"private_key"`
	Root    vectortest.Octets `json:"public_key"`
	Program vectortest.Octets `json:"program"`
	Quorum  uint8             `json:"quorum"`
	Changes []witnessVector   `json:"changes"`
	Refused []refusedWitness  `json:"refused"`
}

type witnessVector struct {
	Version    uint8             `json:"version"`
	Serial     uint16            `json:"serial"`
	FromDay    uint32            `json:"from_day"`
	Validators []validatorVector `json:"validators"`
	Payload    vectortest.Octets `json:"payload"`
	Bytes      vectortest.Octets `json:"bytes"`
}

type validatorVector struct {
	Name string            `json:"name"`
	Key  vectortest.Octets `json:"key"`
	VRF  vectortest.Octets `json:"vrf"`
}

type refusedWitness struct {
	Why   string            `json:"why"`
	Bytes vectortest.Octets `json:"bytes"`
}

// vectorValidator is a validator whose secrets follow from its name.
func vectorValidator(t *testing.T, name string) terms.Validator {
	t.Helper()
	cosign, vrf := vectortest.Hash(name+" cosign"), vectortest.Hash(name+" vrf")
	k, err := ParseValidatorKey(pem.EncodeToMemory(&pem.Block{Type: validatorBlock, Headers: map[string]string{nameHeader: name}, Bytes: append(cosign[:], vrf[:]...)}))
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

// vectorProgram is the program to which the vectors' changes belong: their quorum is its own.
func vectorProgram(t *testing.T, quorum uint8) *terms.Program {
	t.Helper()
	key, err := wire.NewPublicKey(vectortest.Key(t, "policy").Public())
	if err != nil {
		t.Fatal(err)
	}
	keys := wire.KeySet{key}
	p := &terms.Program{Version: wire.Version, Name: "vectors", Environment: wire.Development, Timing: terms.Timing{DayS: 86400, DropS: 600},
		Receipt: keys, Policy: keys, Board: keys, BoardQuorum: 1, Quorum: quorum, LogKey: "log"}
	for _, name := range []string{"a", "b", "c"} {
		p.Validators = append(p.Validators, vectorValidator(t, name))
	}
	return p
}

func (v witnessVector) witness(program wire.Hash) *Witness {
	w := &Witness{Version: v.Version, Program: program, Serial: v.Serial, FromDay: v.FromDay}
	for _, x := range v.Validators {
		w.Validators = append(w.Validators, terms.Validator{Name: x.Name, Key: [32]byte(x.Key), VRF: [32]byte(x.VRF)})
	}
	return w
}

func makeWitnessVectors(t *testing.T) witnessVectors {
	t.Helper()
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	root, program := vectortest.Key(t, "root"), wire.Hash(vectortest.Hash("program"))
	public, err := wire.NewPublicKey(root.Public())
	if err != nil {
		t.Fatal(err)
	}
	v := witnessVectors{
		Comment: "Signed changes of validators of version 1: inputs and their exact bytes. See README.md.",
		Secret:  root.Secret, Root: public[:], Program: program[:], Quorum: 3,
	}
	change := func(serial uint16, day uint32, names ...string) witnessVector {
		c := witnessVector{Version: 1, Serial: serial, FromDay: day}
		for _, name := range names {
			x := vectorValidator(t, name)
			c.Validators = append(c.Validators, validatorVector{name, x.Key[:], x.VRF[:]})
		}
		return c
	}
	most := make([]string, 5)
	for i := range most {
		most[i] = "validator " + string(rune('a'+i))
	}
	for _, c := range []witnessVector{
		change(1, 20_801, "maker.example/validator", "auditor.example/validator", "bank.example/validator", "車主協會"),
		change(65_535, terms.MaxDay, most...),
		change(2, 1, "a", "b", "c"),
	} {
		w := c.witness(program)
		c.Payload, c.Bytes = must(wire.Marshal(w)), must(SealWitness(root, w))
		v.Changes = append(v.Changes, c)
	}

	// Signed by the root, and still to be refused.
	refused := func(why string, spoil func(*Witness)) {
		w := v.Changes[0].witness(program)
		spoil(w)
		v.Refused = append(v.Refused, refusedWitness{why, must(wire.Seal(root, contextWitness, must(codec.Encode(w))))})
	}
	refused("six validators, of whom three are a quorum", func(w *Witness) {
		w.Validators = nil
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			w.Validators = append(w.Validators, vectorValidator(t, name))
		}
	})
	refused("version 2", func(w *Witness) { w.Version = 2 })
	refused("another program", func(w *Witness) { w.Program[0] ^= 1 })
	refused("no program", func(w *Witness) { w.Program = wire.Hash{} })
	refused("serial 0", func(w *Witness) { w.Serial = 0 })
	refused("day 0", func(w *Witness) { w.FromDay = 0 })
	refused("a day beyond 2^31 - 1", func(w *Witness) { w.FromDay = terms.MaxDay + 1 })
	refused("no validators", func(w *Witness) { w.Validators = nil })
	refused("fewer validators than the quorum", func(w *Witness) { w.Validators = w.Validators[:2] })
	refused("17 validators", func(w *Witness) {
		for i := range 13 {
			w.Validators = append(w.Validators, vectorValidator(t, "further "+string(rune('a'+i))))
		}
	})
	refused("a name twice", func(w *Witness) { w.Validators[1].Name = w.Validators[0].Name })
	refused("a cosignature key twice", func(w *Witness) { w.Validators[1].Key = w.Validators[0].Key })
	refused("a VRF key twice", func(w *Witness) { w.Validators[1].VRF = w.Validators[0].VRF })
	refused("a validator without name", func(w *Witness) { w.Validators[2].Name = "" })
	refused("a name of 65 bytes", func(w *Witness) { w.Validators[2].Name = string(bytes.Repeat([]byte("x"), 65)) })
	refused("a VRF key of small order", func(w *Witness) { w.Validators[3].VRF = [32]byte{1} })
	refused("a VRF key that is no point", func(w *Witness) { w.Validators[3].VRF = [32]byte{2} })
	refused("a VRF key that is not canonical", func(w *Witness) {
		for i := range w.Validators[3].VRF {
			w.Validators[3].VRF[i] = 0xff
		}
	})
	payload, good := []byte(v.Changes[0].Payload), v.Changes[0].Bytes
	v.Refused = append(v.Refused,
		refusedWitness{"trailing byte", append(slices.Clone(good), 0)},
		refusedWitness{"trailing byte in the payload, signed", must(wire.Seal(root, contextWitness, append(slices.Clone(payload), 0)))},
		refusedWitness{"signed as a program", must(wire.Seal(root, "rawstone/program/v1", payload))},
		refusedWitness{"signed by a policy key", must(wire.Seal(vectortest.Key(t, "policy"), contextWitness, payload))},
	)
	return v
}

// TestWitnessVectors holds the stored vectors to what this package makes of their inputs, and opens the stored bytes.
func TestWitnessVectors(t *testing.T) {
	path := filepath.Join("testdata", "witness.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeWitnessVectors(t))
	}
	var want witnessVectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, makeWitnessVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	root, program, p := wire.PublicKey(want.Root), wire.Hash(want.Program), vectorProgram(t, want.Quorum)
	for _, v := range want.Changes {
		w, err := OpenWitness(root, p, program, v.Bytes)
		if err != nil {
			t.Errorf("%d: %v", v.Serial, err)
			continue
		}
		if d := cmp.Diff(v.witness(program), w); d != "" {
			t.Errorf("%d (-inputs +opened):\n%s", v.Serial, d)
		}
		if !bytes.Contains(v.Bytes, v.Payload) {
			t.Errorf("%d: another payload", v.Serial)
		}
	}
	for _, v := range want.Refused {
		if _, err := OpenWitness(root, p, program, v.Bytes); err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
}
