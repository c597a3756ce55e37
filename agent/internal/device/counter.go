package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// The indices of non-volatile memory that are the owner's to give away (TCG Registry of Reserved TPM 2.0 Handles and Localities).
const (
	firstIndex = 0x01800000
	lastIndex  = 0x01bfffff
)

// counterSize is a counter's size in bytes (TPM 2.0 Library Part 1 §37.2.5).
const counterSize = 8

// errNoCounter is what a TPM that has nothing at an index comes down to.
var errNoCounter = errors.New("there is no counter at this index")

// Counter is a monotone counter in the non-volatile memory of a TPM: it outlives power cuts, counts up by one, and no copy of the flash
// brings it along. Whoever is root can remove it; a new one then begins above every one that the TPM ever had (TPM 2.0 Library Part 1
// §37.2.5), and says that it is fresh. It is safe for concurrent use.
type Counter struct {
	place place
	turn  sync.Mutex // held while the TPM is open
}

// CheckCounter says whether where can be the place of a counter: tpm:///DEVICE?index=0x01810010, with a TPM as for Check.
func CheckCounter(where string) error {
	_, err := parseCounter(where)
	return err
}

func parseCounter(where string) (place, error) {
	p, err := parseTPM(where, "index", firstIndex, lastIndex)
	if errors.Is(err, errPlace) {
		return place{}, fmt.Errorf("%q is not tpm:///DEVICE?index=0x01810010", where)
	}
	return p, err
}

// OpenCounter returns the counter at a place, a new one where there was none. What others keep at the index is neither used nor
// replaced.
func OpenCounter(where string) (*Counter, error) {
	p, err := parseCounter(where)
	if err != nil {
		return nil, fmt.Errorf("cannot open counter: %w", err)
	}
	c := &Counter{place: p}
	err = c.with(func(t transport.TPM) error {
		_, _, err := c.read(t)
		if errors.Is(err, errNoCounter) {
			return define(t, p.handle)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open counter in TPM %s: %w", p.path, err)
	}
	return c, nil
}

// Value returns the count. fresh says that it was never incremented since it was made; n is 0 then, and above every count of a counter
// that the TPM had before as soon as it is incremented.
func (c *Counter) Value() (n uint64, fresh bool, err error) {
	err = c.with(func(t transport.TPM) error {
		index, written, err := c.read(t)
		if err != nil || !written {
			fresh = err == nil
			return err
		}
		r, err := tpm2.NVRead{AuthHandle: index, NVIndex: named(index), Size: counterSize}.Execute(t)
		if err != nil {
			return err
		}
		if len(r.Data.Buffer) != counterSize {
			return fmt.Errorf("the count has %d bytes", len(r.Data.Buffer))
		}
		n = binary.BigEndian.Uint64(r.Data.Buffer)
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("cannot read counter in TPM %s: %w", c.place.path, err)
	}
	return n, fresh, nil
}

// Increment adds one. It is durable when it returns nil; after an error it may have been added or not.
func (c *Counter) Increment() error {
	err := c.with(func(t transport.TPM) error {
		index, _, err := c.read(t)
		if err != nil {
			return err
		}
		_, err = tpm2.NVIncrement{AuthHandle: index, NVIndex: named(index)}.Execute(t)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot increment counter in TPM %s: %w", c.place.path, err)
	}
	return nil
}

// with opens the TPM for one piece of work: others need it too, and one that was reset in between is no trouble.
func (c *Counter) with(work func(transport.TPM) error) (err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	t, err := connect(c.place.path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return work(t)
}

// read returns the counter at the index and whether it was ever incremented, after checking that it is one that define makes.
func (c *Counter) read(t transport.TPM) (index tpm2.AuthHandle, written bool, err error) {
	handle := tpm2.TPMHandle(c.place.handle)
	r, err := tpm2.NVReadPublic{NVIndex: handle}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return tpm2.AuthHandle{}, false, errNoCounter
	}
	if err != nil {
		return tpm2.AuthHandle{}, false, err
	}
	public, err := r.NVPublic.Contents()
	if err != nil {
		return tpm2.AuthHandle{}, false, err
	}
	attributes := public.Attributes
	written, attributes.Written = attributes.Written, false
	if want := counterAt(c.place.handle); attributes != want.Attributes || public.DataSize != want.DataSize {
		return tpm2.AuthHandle{}, false, fmt.Errorf("what is at index %#x is not a counter of reports; choose another index", c.place.handle)
	}
	return tpm2.AuthHandle{Handle: handle, Name: r.NVName, Auth: tpm2.PasswordAuth(nil)}, written, nil
}

func named(index tpm2.AuthHandle) *tpm2.NamedHandle {
	return &tpm2.NamedHandle{Handle: index.Handle, Name: index.Name}
}

// counterAt describes the counter that is made: read and incremented without a password, written through at each increment (it is not
// an orderly one, which the TPM may keep in memory), and never locked.
func counterAt(index uint32) tpm2.TPMSNVPublic {
	return tpm2.TPMSNVPublic{
		NVIndex: tpm2.TPMHandle(index), NameAlg: tpm2.TPMAlgSHA256, DataSize: counterSize,
		Attributes: tpm2.TPMANV{NT: tpm2.TPMNTCounter, AuthRead: true, AuthWrite: true, NoDA: true},
	}
}

// define makes the counter. As for a key, the owner's hierarchy must have no password.
func define(t transport.TPM, index uint32) error {
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(counterAt(index))}).Execute(t); err != nil {
		return fmt.Errorf("cannot make it: %w; does the owner's hierarchy have a password?", err)
	}
	return nil
}
