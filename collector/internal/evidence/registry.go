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
	key         wire.PublicKey
	certificate []byte // in PEM; empty for a key that was registered without one
	revoked     bool
	bindings    []binding
}

// A binding holds for what lies behind its first head and, when it is closed, not behind its cut.
type binding struct {
	vehicle     string
	first, head wire.Head
	closed      bool
	cut         uint64
}

// The file is JSON with bytes in hexadecimal.
type (
	registryFile struct {
		Program string    `json:"program"`
		ECUs    []ecuFile `json:"ecus"`
	}
	ecuFile struct {
		Key         string        `json:"key"`
		Certificate string        `json:"certificate,omitempty"` // in PEM
		Revoked     bool          `json:"revoked"`
		Bindings    []bindingFile `json:"bindings"`
	}
	bindingFile struct {
		Vehicle string   `json:"vehicle"`
		First   headFile `json:"first"`
		Head    headFile `json:"head"`
		Cut     *uint64  `json:"cut,omitempty"` // of a closed binding
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

// ExportRegistry writes the registry in a collector's records, which are opened for the role Audit, in the order of the keys' identifiers.
func ExportRegistry(ctx context.Context, records store.Config, program wire.Hash, w io.Writer) (err error) {
	db, err := store.Open(ctx, records)
	if err != nil {
		return fmt.Errorf("cannot export registry: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	f := registryFile{Program: program.String(), ECUs: []ecuFile{}}
	err = db.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Bindings(ctx)
		if err != nil {
			return err
		}
		for _, b := range all {
			key := hex.EncodeToString(b.ECU[:])
			if n := len(f.ECUs); n == 0 || f.ECUs[n-1].Key != key {
				e, err := tx.ECU(ctx, b.ECU.ID())
				if err != nil {
					return err
				}
				f.ECUs = append(f.ECUs, ecuFile{Key: key, Certificate: string(e.Certificate), Revoked: b.Revoked})
			}
			one := bindingFile{Vehicle: b.Vehicle, First: spell(b.First), Head: spell(b.Head)}
			if b.Closed {
				one.Cut = &b.Cut
			}
			e := &f.ECUs[len(f.ECUs)-1]
			e.Bindings = append(e.Bindings, one)
		}
		return nil
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

// ReadRegistry reads what ExportRegistry wrote, at most 1 GiB. Unknown keys, a key named twice, bindings of a key that overlap and an open one of
// a revoked key are refused.
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
	e := ecu{certificate: []byte(f.Certificate), revoked: f.Revoked}
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
	for i, b := range f.Bindings {
		if err := wire.CheckVehicle(b.Vehicle); err != nil {
			return err
		}
		one := binding{vehicle: b.Vehicle, closed: b.Cut != nil}
		var err error
		if one.first, err = b.First.head(); err != nil {
			return err
		}
		if one.head, err = b.Head.head(); err != nil {
			return err
		}
		if one.closed {
			one.cut = *b.Cut
		}
		switch {
		case one.head.Seq < one.first.Seq || one.closed && one.cut < one.head.Seq:
			return fmt.Errorf("binding %d's snapshots are not in order", i)
		case i > 0 && (!e.bindings[i-1].closed || one.first.Seq < e.bindings[i-1].cut):
			return fmt.Errorf("binding %d begins before the end of the one before it", i)
		case e.revoked && !one.closed:
			return fmt.Errorf("binding %d is open and its key is revoked", i)
		}
		e.bindings = append(e.bindings, one)
	}
	r.ecus[e.key.ID()] = e
	return nil
}
