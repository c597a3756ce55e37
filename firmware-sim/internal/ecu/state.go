package ecu

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"rawstone/pkg/attest"
	"rawstone/pkg/codec"
	"rawstone/pkg/durable"
	"rawstone/pkg/wire"
)

const (
	keyFile   = "hsm.pem"
	stateFile = "state"

	stateVersion = 1
	maxStateLen  = 64 << 10
)

// A state is everything that the ECU must not forget. The file is the SHA-256 of the payload and the payload.
type state struct {
	Version uint8      `cbor:"0,keyasint"`
	Key     wire.KeyID `cbor:"1,keyasint"`
	Program wire.Hash  `cbor:"2,keyasint"`
	Total   total      `cbor:"3,keyasint"`
	// Messages are the last snapshots, oldest first, at least one; the last holds the current seq and day.
	Messages []attest.Message `cbor:"4,keyasint"`
}

func (s *state) last() *attest.Message { return &s.Messages[len(s.Messages)-1] }

func (s *state) validate() error {
	if s.Version != stateVersion {
		return fmt.Errorf("version %d, want %d", s.Version, stateVersion)
	}
	if n := len(s.Messages); n < 1 || n > attest.MaxLast {
		return fmt.Errorf("%d snapshots, want 1 to %d", n, attest.MaxLast)
	}
	for i := 1; i < len(s.Messages); i++ {
		if s.Messages[i].Snapshot.Seq != s.Messages[i-1].Snapshot.Seq+1 {
			return errors.New("its snapshots are not in sequence")
		}
	}
	for i, c := range s.last().Opening.Counters {
		if s.Total.Counters[i] < c {
			return errors.New("a counter is below its last snapshot's")
		}
	}
	return nil
}

// push appends a snapshot and forgets the oldest beyond those that can be asked for.
func (s *state) push(m attest.Message) {
	if len(s.Messages) == attest.MaxLast {
		s.Messages = slices.Delete(s.Messages, 0, 1)
	}
	s.Messages = append(s.Messages, m)
}

// write replaces the file atomically; it is on disk when write returns.
func (s *state) write(dir string) error {
	payload, err := codec.Encode(s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(payload)
	if err := replaceFile(filepath.Join(dir, stateFile), append(sum[:], payload...)); err != nil {
		return fmt.Errorf("cannot write ECU state: %w", err)
	}
	return nil
}

func replaceFile(path string, b []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// errNoState is returned by readState for a directory that holds none.
var errNoState = errors.New("no ECU state")

func readState(dir string) (*state, error) {
	path := filepath.Join(dir, stateFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read %s: %w", path, errNoState)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read ECU state: %w", err)
	}
	if info.Size() > maxStateLen {
		return nil, damaged(path, fmt.Errorf("%d bytes is too long", info.Size()))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read ECU state: %w", err)
	}
	if len(b) < sha256.Size {
		return nil, damaged(path, errors.New("it is cut short"))
	}
	if sum := sha256.Sum256(b[sha256.Size:]); sum != [sha256.Size]byte(b) {
		return nil, damaged(path, errors.New("its checksum does not match"))
	}
	s, err := decodeState(b[sha256.Size:])
	if err != nil {
		return nil, damaged(path, err)
	}
	return s, nil
}

func decodeState(payload []byte) (*state, error) {
	var s state
	if err := codec.Decode(payload, &s, maxStateLen); err != nil {
		return nil, err
	}
	return &s, s.validate()
}

// damaged says why a state is refused. It is never begun anew: a sequence number given twice or a counter that falls is what the
// collector exists to refuse.
func damaged(path string, why error) error {
	return fmt.Errorf("cannot use ECU state %s: %w; an older copy would sign numbers again that it has used; make a new ECU in another directory with `firmware-sim ecu init` and register that", path, why)
}

// lockDir keeps a second process away from the directory until the file is closed: two would sign the same sequence number twice.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another process; stop that one first", dir)
		}
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	return f, nil
}
