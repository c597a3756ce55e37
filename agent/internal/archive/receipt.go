package archive

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/wire"
)

// freeAtOnce bounds the snapshots that one transaction frees.
const freeAtOnce = 32

// A Receipt is the collector's signed word that it accepted a claim. It is kept until a proof holds that the log has its credits.
type Receipt = record.Receipt

// CommitReceipt does what CommitOf does for the key of an accepted claim and, in the same step, keeps its receipt.
func (a *Archive) CommitReceipt(r Receipt, change func(*State)) error {
	b, err := r.Encode()
	if err != nil {
		return err
	}
	return a.Commit(func(st *State) { st.of(r.ECU, change) }, func(txn *badger.Txn) error { return txn.Set(r.Key(receiptPrefix), b) })
}

// Receipts returns the receipts that no proof has freed, those that came first before the others, of all ECU keys.
func (a *Archive) Receipts() ([]Receipt, error) {
	var list []Receipt
	err := a.eachReceipt([]byte(receiptPrefix), func(r Receipt, damage error) {
		if damage != nil {
			a.cfg.Damaged(damage)
			return
		}
		list = append(list, r)
	})
	slices.SortStableFunc(list, func(x, y Receipt) int { return cmp.Or(x.Came.Compare(y.Came), cmp.Compare(x.Seq, y.Seq)) })
	return list, err
}

// eachReceipt yields the receipts under a prefix of keys, each with what is wrong with it.
func (a *Archive) eachReceipt(under []byte, yield func(Receipt, error)) error {
	err := a.cfg.DB.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchSize = under, 16
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			var r Receipt
			if !r.ReadKey(it.Item().Key()[len(receiptPrefix):]) {
				continue // not a key of this package
			}
			yield(r, it.Item().Value(r.Decode))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot read receipts: %w", err)
	}
	return nil
}

// Refute keeps a proof that did not hold beside its receipt and says whether it is the first one; later ones are not kept.
func (a *Archive) Refute(r Receipt, answer []byte) (first bool, err error) {
	if r.False != nil {
		return false, nil
	}
	r.False = answer
	b, err := r.Encode()
	if err == nil {
		err = a.cfg.DB.Update(func(txn *badger.Txn) error { return txn.Set(r.Key(receiptPrefix), b) })
	}
	if err != nil {
		return false, fmt.Errorf("cannot keep evidence: %w", err)
	}
	return true, nil
}

// Free frees a receipt whose credits are proven to be in the log, and the snapshots of its key before the one that its claim ends with:
// nothing will be claimed from them any more. It keeps those from the head on, and all of them while an earlier claim of the key waits
// for its proof. Of the salts hashes stay, so that one that is used again is still noticed.
func (a *Archive) Free(r Receipt) error {
	if err := a.free(r); err != nil {
		return fmt.Errorf("cannot free receipt: %w", err)
	}
	return nil
}

func (a *Archive) free(r Receipt) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := r.Seq
	for _, st := range a.state.Claimants() {
		if st.ECU == r.ECU && st.Head != nil {
			before = min(before, st.Head.Seq)
		}
	}
	// A damaged one counts: its claim may yet be disputed.
	err := a.eachReceipt(record.Prefix(receiptPrefix, r.ECU), func(other Receipt, _ error) {
		if other.Claim != r.Claim && other.Seq <= r.Seq {
			before = 0
		}
	})
	if err != nil {
		return err
	}
	for more := before > 0; more; {
		if more, err = a.freeSnapshots(r.ECU, before); err != nil {
			return err
		}
	}
	next := a.state
	next.of(r.ECU, func(st *State) { st.Spent = max(st.Spent, before) })
	err = writeState(a.cfg.DB, next, func(txn *badger.Txn) error { return txn.Delete(r.Key(receiptPrefix)) })
	if err == nil {
		a.state = next
	}
	return err
}

// freeSnapshots frees some of a key's snapshots before a number, and says whether there may be more. The caller holds mu.
func (a *Archive) freeSnapshots(ecu wire.KeyID, before uint64) (more bool, err error) {
	var gone []uint64
	err = a.cfg.DB.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchValues = record.Prefix(snapshotPrefix, ecu), false
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid() && len(gone) < freeAtOnce; it.Next() {
			k := it.Item().Key()
			if len(k) != len(opts.Prefix)+8 {
				continue // not a key of this package
			}
			seq := binary.BigEndian.Uint64(k[len(opts.Prefix):])
			if seq >= before {
				break
			}
			gone = append(gone, seq)
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return false, err
	}
	err = a.cfg.DB.Update(func(txn *badger.Txn) error {
		for _, seq := range gone {
			if err := txn.Delete(record.Key(snapshotPrefix, ecu, seq)); err != nil {
				return err
			}
			if salt, ok := a.salts[seq]; ok && ecu == a.cfg.ECU {
				if err := txn.Set(a.key(saltPrefix, seq), record.WithSum(salt[:])); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if ecu == a.cfg.ECU {
		a.seqs = slices.DeleteFunc(a.seqs, func(seq uint64) bool { return slices.Contains(gone, seq) })
		err = a.forgetSalts()
	}
	return len(gone) == freeAtOnce, err
}

// forgetSalts keeps the salts of freed snapshots within Config.Max: the lowest go. The caller holds mu.
func (a *Archive) forgetSalts() error {
	var spent []uint64
	for seq := range a.salts {
		if _, held := slices.BinarySearch(a.seqs, seq); !held {
			spent = append(spent, seq)
		}
	}
	if len(spent) <= a.cfg.Max {
		return nil
	}
	slices.Sort(spent)
	surplus := spent[:len(spent)-a.cfg.Max]
	err := a.cfg.DB.Update(func(txn *badger.Txn) error {
		for _, seq := range surplus {
			if err := txn.Delete(a.key(saltPrefix, seq)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		for _, seq := range surplus {
			delete(a.salts, seq)
		}
	}
	return err
}

// loadSalts reads the salts of freed snapshots.
func (a *Archive) loadSalts() error {
	return a.cfg.DB.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = a.prefix(saltPrefix)
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != len(opts.Prefix)+8 {
				continue // not a key of this package
			}
			var salt record.Salt
			if err := it.Item().Value(salt.Decode); err != nil {
				a.cfg.Damaged(err)
				continue
			}
			a.salts[binary.BigEndian.Uint64(k[len(opts.Prefix):])] = salt
		}
		return nil
	})
}
