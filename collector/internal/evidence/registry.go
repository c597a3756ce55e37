package evidence

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// maxRegistryLen bounds a registry's file in bytes.
const maxRegistryLen = 1 << 30

// A Registry says which ECU keys spoke for which vehicles. It holds no secret, but it tells whose keys they are.
type Registry struct {
	// Program is the program that the keys sign for.
	Program wire.Hash
	ecus    map[wire.KeyID]ecu
}

// An ecu is a key with its bindings in the order in which they were made.
type ecu struct {
	key      wire.PublicKey
	revoked  bool
	head     wire.Head
	bindings []binding
}

// A binding holds for what lies behind its first head and, when it has a successor, not behind that one's.
type binding struct {
	vehicle string
	first   wire.Head
}

// The file is JSON with bytes in hexadecimal.
type (
	registryFile struct {
		Program string    `json:"program"`
		ECUs    []ecuFile `json:"ecus"`
	}
	ecuFile struct {
		Key      string        `json:"key"`
		Revoked  bool          `json:"revoked"`
		Head     headFile      `json:"head"`
		Bindings []bindingFile `json:"bindings"`
	}
	bindingFile struct {
		Vehicle string   `json:"vehicle"`
		First   headFile `json:"first"`
	}
	headFile struct {
		Seq        uint64 `json:"seq"`
		Day        uint32 `json:"day"`
		Commitment string `json:"commitment"`
	}
)

func spell(h wire.Head) headFile {
	return headFile{h.Seq, h.Day, hex.EncodeToString(h.Commitment[:])}
}

func (f headFile) head() (h wire.Head, err error) {
	h.Seq, h.Day = f.Seq, f.Day
	return h, fill(h.Commitment[:], "a commitment", f.Commitment)
}

// fill reads bytes in hexadecimal that must fill to.
func fill(to []byte, what, text string) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(to) {
		return fmt.Errorf("%s is not %d bytes in hexadecimal", what, len(to))
	}
	copy(to, b)
	return nil
}

// Export writes the registry in a collector's records, in the order of the keys' identifiers.
func Export(ctx context.Context, records string, program wire.Hash, w io.Writer) (err error) {
	db, err := store.Open(ctx, store.Config{Path: records})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f := registryFile{Program: program.String(), ECUs: []ecuFile{}}
	err = db.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Bindings(ctx)
		for _, b := range all {
			key := hex.EncodeToString(b.ECU[:])
			if n := len(f.ECUs); n == 0 || f.ECUs[n-1].Key != key {
				f.ECUs = append(f.ECUs, ecuFile{Key: key, Revoked: b.Revoked, Head: spell(b.Head)})
			}
			e := &f.ECUs[len(f.ECUs)-1]
			e.Bindings = append(e.Bindings, bindingFile{b.Vehicle, spell(b.First)})
		}
		return err
	})
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("cannot write registry: %w", err)
	}
	return nil
}

// ReadRegistry reads what Export wrote, at most 1 GiB. Unknown keys, a key named twice and a binding that begins before the one before
// it are refused.
func ReadRegistry(r io.Reader) (*Registry, error) {
	var f registryFile
	dec := json.NewDecoder(io.LimitReader(r, maxRegistryLen))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("cannot read registry: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("cannot read registry: something follows it")
	}
	reg := &Registry{ecus: make(map[wire.KeyID]ecu)}
	if err := fill(reg.Program[:], "the program", f.Program); err != nil {
		return nil, fmt.Errorf("cannot read registry: %w", err)
	}
	for i, e := range f.ECUs {
		if err := reg.add(e); err != nil {
			return nil, fmt.Errorf("cannot read registry: ECU %d: %w", i, err)
		}
	}
	return reg, nil
}

func (r *Registry) add(f ecuFile) error {
	e := ecu{revoked: f.Revoked}
	if err := fill(e.key[:], "its key", f.Key); err != nil {
		return err
	}
	if _, err := e.key.Key(); err != nil {
		return err
	}
	if _, twice := r.ecus[e.key.ID()]; twice {
		return errors.New("its key stands twice")
	}
	if len(f.Bindings) == 0 {
		return errors.New("it is bound to no vehicle")
	}
	var err error
	if e.head, err = f.Head.head(); err != nil {
		return err
	}
	for i, b := range f.Bindings {
		if err := wire.CheckVehicle(b.Vehicle); err != nil {
			return err
		}
		first, err := b.First.head()
		if err != nil {
			return err
		}
		if first.Seq > e.head.Seq || i > 0 && first.Seq < e.bindings[i-1].first.Seq {
			return fmt.Errorf("binding %d does not begin between the one before it and the key's head", i)
		}
		e.bindings = append(e.bindings, binding{b.Vehicle, first})
	}
	r.ecus[e.key.ID()] = e
	return nil
}
