package holding

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"rawstone/pkg/ledger"
)

const maxSigned = 64 << 10

// memory is what the file of package validator holds.
type memory struct {
	Validator string                 `json:"validator"`
	Signed    map[ledger.Type]signed `json:"signed"`
}

// signed is a payload: of a block its drop, of leaves and order their day, and its hash.
type signed struct {
	At   uint64 `json:"at"`
	Hash string `json:"hash"`
}

// signed returns what counts as signed by whoever follows the records: the last payload of each type, the draft's too, which is the only
// one that can still be offered.
func (h *Holding) signed() (map[ledger.Type]signed, error) {
	out := make(map[ledger.Type]signed)
	put := func(t ledger.Type, payload []byte) error {
		at, err := height(t, payload)
		if err == nil {
			out[t] = signed{at, ledger.PayloadHash(t, payload).String()}
		}
		return err
	}
	for _, t := range []ledger.Type{ledger.TypeLeaves, ledger.TypeDay, ledger.TypeBlock} {
		e := h.last[t]
		if e == nil {
			continue
		}
		sealed, err := e.Sealed()
		if err != nil {
			return nil, err
		}
		if err := put(t, sealed.Payload); err != nil {
			return nil, err
		}
	}
	if d := h.draft; d != nil {
		if err := put(d.Type, d.Payload); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func height(t ledger.Type, payload []byte) (uint64, error) {
	switch t {
	case ledger.TypeLeaves:
		l, err := ledger.DecodeLeaves(payload)
		return uint64(l.Day), err
	case ledger.TypeDay:
		d, err := ledger.DecodeDay(payload)
		return uint64(d.Day), err
	case ledger.TypeBlock:
		b, err := ledger.DecodeBlock(payload)
		return b.Drop, err
	}
	return 0, fmt.Errorf("nobody signs an entry of type %s", t)
}

// Remember returns the file of the validator with that key: what the records hold, once all that the file in place says is among it.
func (h *Holding) Remember(path, validator string) ([]byte, error) {
	held, err := h.signed()
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return json.Marshal(memory{validator, held})
	case err != nil:
		return nil, err
	case info.Size() > maxSigned:
		return nil, fmt.Errorf("%s has %d bytes and is no validator's; move it away", path, info.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var own memory
	if err := json.Unmarshal(text, &own); err != nil || own.Signed == nil {
		return nil, fmt.Errorf("%s is damaged, and it alone knows what the validator has signed; move it away only when you know that the backup holds all of it", path)
	}
	if own.Validator != validator {
		return nil, fmt.Errorf("%s belongs to another validator; move it away", path)
	}
	for _, t := range slices.Sorted(maps.Keys(own.Signed)) {
		s := own.Signed[t]
		switch have, any := held[t]; {
		case !any || s.At > have.At:
			return nil, fmt.Errorf("%w: by %s the validator has signed %s %d and the backup ends before it; restore a newer backup", ErrBehind, path, t, s.At)
		case s.At == have.At && s.Hash != have.Hash:
			return nil, fmt.Errorf("by %s the validator has signed another %s %d than the one in the backup; restore the backup that belongs to it", path, t, s.At)
		}
	}
	return json.Marshal(memory{validator, held})
}
