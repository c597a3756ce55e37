// Package device holds the car's device key, ECDSA on P-256: what signs its usage reports, asks for its client certificate and proves
// in each TLS handshake that the certificate is its own.
//
// The key is either a file that its owner alone may read, or an object that a TPM 2.0 made and that no other TPM can load, at a
// persistent handle. Invariants: the package never replaces a key, because a replaced key is a lost identity; it never hands out a private
// half; and of a TPM it uses only a key that the TPM made itself and never lets go, so that whoever copies the flash has not got it.
// Whoever is root on the running car can have either key sign.
//
// Beside the key, a TPM can keep a counter, by which the car's budget ledger notices that an older copy of the flash took its place.
//
// It refuses keys on other curves, hashes other than SHA-256, and handles and indices outside of those that are the owner's.
package device

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"rawstone/pkg/keyfile"
)

// The persistent handles that are the owner's to give away (TCG PC Client Platform TPM Profile, and TPM 2.0 Library Part 2 §7.5).
const (
	firstHandle = 0x81000000
	lastHandle  = 0x817fffff
)

// scheme begins the place of a key in a TPM.
const scheme = "tpm:"

// A place says where a key or a counter is.
type place struct {
	path   string
	handle uint32 // 0 for a file
}

// errPlace is a place that is not in the form of one in a TPM.
var errPlace = errors.New("not a place in a TPM")

// parse reads FILE or tpm://PATH?handle=HANDLE.
func parse(where string) (place, error) {
	if where == "" {
		return place{}, errors.New("no place of the device key given")
	}
	if InFile(where) {
		return place{path: where}, nil
	}
	p, err := parseTPM(where, "handle", firstHandle, lastHandle)
	if errors.Is(err, errPlace) {
		return place{}, fmt.Errorf("%q is neither a file nor tpm:///DEVICE?handle=0x81010001", where)
	}
	return p, err
}

// parseTPM reads tpm://PATH?NAME=HANDLE with a handle from first to last. The error is errPlace where it has another form.
func parseTPM(where, name string, first, last uint64) (place, error) {
	u, err := url.Parse(where)
	if err != nil || InFile(where) || u.Host != "" || u.User != nil || u.Fragment != "" || !filepath.IsAbs(u.Path) {
		return place{}, errPlace
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(query) != 1 || len(query[name]) != 1 {
		return place{}, errPlace
	}
	handle, err := strconv.ParseUint(query.Get(name), 0, 32)
	if err != nil || handle < first || handle > last {
		return place{}, fmt.Errorf("%q: the %s is not one of the owner's, %#x to %#x", where, name, first, last)
	}
	return place{path: u.Path, handle: uint32(handle)}, nil
}

// InFile reports whether a place is a file's path rather than a TPM's.
func InFile(where string) bool { return !strings.HasPrefix(where, scheme) }

// Check says whether where can be the place of a key: a file's path, or tpm:///DEVICE?handle=HANDLE with a TPM's device file, better
// the one behind the kernel's resource manager (/dev/tpmrm0), or an emulator's Unix socket.
func Check(where string) error {
	_, err := parse(where)
	return err
}

// Open returns the key at a place. The error wraps fs.ErrNotExist where there is none.
func Open(where string) (crypto.Signer, error) {
	p, err := parse(where)
	if err != nil {
		return nil, fmt.Errorf("cannot open device key: %w", err)
	}
	if p.handle == 0 {
		return keyfile.Load(p.path)
	}
	key, err := openTPM(p)
	if err != nil {
		return nil, fmt.Errorf("cannot open device key in TPM %s: %w", p.path, err)
	}
	return key, nil
}

// Create makes a key at a place where there is none. It is durable when Create returns.
func Create(where string) (crypto.Signer, error) {
	p, err := parse(where)
	if err != nil {
		return nil, fmt.Errorf("cannot make device key: %w", err)
	}
	if p.handle == 0 {
		if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make directory of the device key: %w", err)
		}
		return keyfile.Create(p.path)
	}
	key, err := createTPM(p)
	if err != nil {
		return nil, fmt.Errorf("cannot make device key in TPM %s: %w", p.path, err)
	}
	return key, nil
}

// OpenOrCreate returns the key at a place, a new one where there was none: an enrolment that failed half-way is repeated with the key
// that it made.
func OpenOrCreate(where string) (crypto.Signer, error) {
	key, err := Open(where)
	if errors.Is(err, fs.ErrNotExist) {
		return Create(where)
	}
	return key, err
}
