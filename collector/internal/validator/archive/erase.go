package archive

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/erasure"
	"rawstone/pkg/durable"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const (
	// erasingFile holds an erasure from its beginning to its end. What is in it stays known anyway.
	erasingFile = "erasing.json"
	// maxChanges bounds the changes of one transaction, beside those of the last span in it.
	maxChanges = 1000
)

// An Erasure is what Erase destroys, and what stays in its place.
type Erasure struct {
	// Numbers are the entries', all of them on disk. All credits of a span are among them, or none.
	Numbers []uint64           `json:"numbers"`
	Leaves  []erasure.Leaf     `json:"leaves"`
	Keys    []ledger.ErasedKey `json:"keys"`
}

// Erase destroys what is behind entries that are on disk, and keeps leaves and keys in their place. That a claim was credited by an entry stays
// known to who has the claim; whose it was, of which key and span, does not. It is on disk when it returns; the database's files are rid of
// what was there before when the copy is closed the next time.
//
// An erasure that has begun is finished by the next Open if it was not before. Then the error is disclosure.ErrStale.
func (a *Archive) Erase(e Erasure) error {
	text, err := json.Marshal(e)
	if err == nil {
		err = Keep(filepath.Join(a.c.Dir, erasingFile), text)
	}
	if err != nil {
		return fmt.Errorf("cannot erase %d entries of the copy in %s: %w", len(e.Numbers), a.c.Dir, err)
	}
	if err := a.finish(&e); err != nil {
		return errors.Join(disclosure.ErrStale, err)
	}
	return nil
}

// resume finishes an erasure that had begun.
func (a *Archive) resume() error {
	text, err := os.ReadFile(filepath.Join(a.c.Dir, erasingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var e Erasure
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err != nil {
		return fmt.Errorf("cannot finish erasure of the copy in %s: %w", a.c.Dir, err)
	}
	return a.finish(&e)
}

// finish does what is left to do of an erasure. Doing any of it again changes nothing.
func (a *Archive) finish(e *Erasure) error {
	err := a.keepErased(e)
	if err == nil {
		err = a.destroy(e.Numbers)
	}
	if err == nil {
		err = a.db.Flatten(1)
	}
	if err == nil {
		err = os.Remove(filepath.Join(a.c.Dir, erasingFile))
	}
	if err == nil {
		err = durable.SyncDir(a.c.Dir)
	}
	if err != nil {
		return fmt.Errorf("cannot finish erasing %d entries of the copy in %s: %w", len(e.Numbers), a.c.Dir, err)
	}
	return nil
}

// destroy replaces the entries that are still there. Those of a span are replaced together: which credits it has is known from then on by the
// claims over it.
func (a *Archive) destroy(numbers []uint64) error {
	var groups [][]uint64
	spans := make(map[string]int) // places in groups
	for _, n := range numbers {
		e, err := a.Entry(n)
		if err != nil {
			return err
		}
		if e.Erased {
			continue
		}
		op, ok := disclosure.Opened[ledger.CreditOpening](&e, ledger.TypeCredit)
		if !ok {
			groups = append(groups, []uint64{n})
			continue
		}
		k := string(spanKey(op.ECU, op.ToSeq))
		if at, known := spans[k]; known {
			groups[at] = append(groups[at], n)
			continue
		}
		spans[k] = len(groups)
		groups = append(groups, []uint64{n})
	}
	for len(groups) > 0 {
		done := 0
		err := a.db.Update(func(txn *badger.Txn) error {
			for changes := 0; done < len(groups) && changes < maxChanges; done++ {
				n, err := a.replace(txn, groups[done])
				if err != nil {
					return err
				}
				changes += n
			}
			return nil
		})
		if err != nil {
			return err
		}
		groups = groups[done:]
	}
	return nil
}

// replace replaces entries, of one span when there are several, and returns how many changes that makes.
func (a *Archive) replace(txn *badger.Txn, numbers []uint64) (changes int, err error) {
	set := func(key, value []byte) error {
		changes++
		return txn.Set(key, value)
	}
	for _, n := range numbers {
		e, err := a.Entry(n)
		if err != nil {
			return 0, err
		}
		if op, ok := disclosure.Opened[ledger.CreditOpening](&e, ledger.TypeCredit); ok {
			changes++
			if err := txn.Delete(binary.BigEndian.AppendUint64(spanKey(op.ECU, op.ToSeq), n)); err != nil {
				return 0, err
			}
			for _, other := range numbers {
				if err := set(binary.BigEndian.AppendUint64(claimKey(wire.ID(e.Claim)), other), nil); err != nil {
					return 0, err
				}
			}
		}
		gone := e.Erase()
		b, err := gone.Encode()
		if err == nil {
			err = set(entryKey(n), b)
		}
		if err != nil {
			return 0, err
		}
	}
	return changes, nil
}
