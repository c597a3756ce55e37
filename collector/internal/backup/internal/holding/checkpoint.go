package holding

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/wire"
)

const maxCheckpoint = 1 << 20 // with the signatures of many witnesses

// ErrBehind says that others have seen the ledger further than a backup goes.
var ErrBehind = errors.New("the backup is behind what others have seen")

// Seen checks a checkpoint of the same log, as a witness or an auditor has it, against the records.
func (h *Holding) Seen(path, verifier string) error {
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot read checkpoint: %w", err)
	}
	if info.Size() > maxCheckpoint {
		return fmt.Errorf("cannot read checkpoint %s: %d bytes, at most %d allowed", path, info.Size(), maxCheckpoint)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read checkpoint: %w", err)
	}
	p, _, _, err := log.ParseCheckpoint(text, v.Name(), v)
	if err != nil {
		return fmt.Errorf("cannot use checkpoint %s: it is not one of this ledger: %w", path, err)
	}
	if have := uint64(len(h.leaves)); p.Size > have {
		return fmt.Errorf("%w: checkpoint %s is of %d entries and the backup holds %d, so that %d are missing; restore a newer backup",
			ErrBehind, path, p.Size, have, p.Size-have)
	}
	root, err := rootOf(h.leaves[:p.Size])
	if err != nil {
		return err
	}
	if !bytes.Equal(root, p.Hash) {
		return fmt.Errorf("checkpoint %s is of another history: its first %d entries are not those of the backup; keep both, they prove that one key signed two", path, p.Size)
	}
	return nil
}

// rootOf returns the Merkle root of leaves (RFC 6962 §2.1).
func rootOf(leaves []wire.Hash) ([]byte, error) {
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for i := range leaves {
		if err := tree.Append(leaves[i][:], nil); err != nil {
			return nil, err
		}
	}
	if len(leaves) == 0 {
		return rfc6962.DefaultHasher.EmptyRoot(), nil
	}
	return tree.GetRootHash(nil)
}
