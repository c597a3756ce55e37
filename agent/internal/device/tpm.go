package device

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

// errNoKey is what a TPM that has no such handle comes down to.
var errNoKey = fmt.Errorf("there is no key at this handle: %w", fs.ErrNotExist)

// tpmKey is a key in a TPM. Each signature opens the TPM anew: others need it too, and a TPM that was reset in between, as after
// suspend, is no trouble.
type tpmKey struct {
	place  place
	name   tpm2.TPM2BName
	public *ecdsa.PublicKey
	turn   sync.Mutex // held while the TPM is open
}

// connect opens the TPM's device file or an emulator's socket.
func connect(path string) (transport.TPMCloser, error) {
	info, err := os.Stat(path)
	if err != nil {
		// Not wrapped: a TPM that is not there yet must not pass for one without the key.
		return nil, fmt.Errorf("cannot reach it: %v", err)
	}
	if info.Mode()&os.ModeSocket != 0 {
		return linuxudstpm.Open(path)
	}
	return linuxtpm.Open(path)
}

func openTPM(p place) (_ *tpmKey, err error) {
	t, err := connect(p.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return read(t, p)
}

// read returns the key at a handle after checking that it is one that createTPM makes.
func read(t transport.TPM, p place) (*tpmKey, error) {
	r, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(p.handle)}.Execute(t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, errNoKey
	}
	if err != nil {
		return nil, err
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	key, err := checkPublic(public)
	if err != nil {
		return nil, fmt.Errorf("what is at handle %#x is no device key: %w; choose another handle", p.handle, err)
	}
	return &tpmKey{place: p, name: r.Name, public: key}, nil
}

// template is the key that is asked for: it signs SHA-256 digests with ECDSA and nothing else, needs no password, and never leaves.
// unique makes it another one each time, where the TPM would derive the same key from the same template.
func template(unique []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})},
			CurveID: tpm2.TPMECCNistP256,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: unique}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}}),
	}
}

// checkPublic returns the public key of an object that the TPM made and keeps to itself.
func checkPublic(p *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	want := template(nil)
	switch {
	case p.Type != tpm2.TPMAlgECC:
		return nil, errors.New("it is not on an elliptic curve")
	case p.ObjectAttributes != want.ObjectAttributes:
		return nil, errors.New("its attributes are not those of a signing key that the TPM made and never lets go")
	}
	parms, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	scheme, err := parms.Scheme.Details.ECDSA()
	if err != nil || parms.CurveID != tpm2.TPMECCNistP256 || scheme.HashAlg != tpm2.TPMAlgSHA256 {
		return nil, errors.New("it is not for ECDSA on P-256 with SHA-256")
	}
	point, err := p.Unique.ECC()
	if err != nil {
		return nil, err
	}
	if len(point.X.Buffer) > 32 || len(point.Y.Buffer) > 32 {
		return nil, errors.New("its point is too long")
	}
	uncompressed := make([]byte, 65)
	uncompressed[0] = 4
	copy(uncompressed[33-len(point.X.Buffer):33], point.X.Buffer)
	copy(uncompressed[65-len(point.Y.Buffer):], point.Y.Buffer)
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
}

// createTPM makes a primary key below the owner's seed and keeps it at the handle. The owner's hierarchy must have no password, as it
// has none on a car's TPM before somebody sets one.
func createTPM(p place) (_ *tpmKey, err error) {
	t, err := connect(p.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if _, err := read(t, p); err == nil {
		return nil, fmt.Errorf("there is one at handle %#x: choose another handle, or evict it first if it is to be replaced: %w", p.handle, fs.ErrExist)
	} else if !errors.Is(err, errNoKey) {
		return nil, err
	}
	unique := make([]byte, 32)
	rand.Read(unique)
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	made, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(template(unique))}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("%w; does the owner's hierarchy have a password?", err)
	}
	defer func() {
		_, flush := tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(t)
		err = errors.Join(err, flush)
	}()
	_, err = tpm2.EvictControl{
		Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: tpm2.TPMHandle(p.handle),
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("cannot keep it at handle %#x: %w", p.handle, err)
	}
	return read(t, p)
}

// Public implements crypto.Signer.
func (k *tpmKey) Public() crypto.PublicKey { return k.public }

// Sign implements crypto.Signer: the signature is in ASN.1, its s in whatever half the TPM put it. The TPM has its own source of chance.
func (k *tpmKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 || len(digest) != sha256.Size {
		return nil, errors.New("cannot sign with the TPM's key: it signs digests of SHA-256 only")
	}
	k.turn.Lock()
	defer k.turn.Unlock()
	sig, err := k.sign(digest)
	if err != nil {
		return nil, fmt.Errorf("cannot sign with the TPM's key: %w", err)
	}
	return sig, nil
}

func (k *tpmKey) sign(digest []byte) (_ []byte, err error) {
	t, err := connect(k.place.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	r, err := tpm2.Sign{
		KeyHandle:  tpm2.AuthHandle{Handle: tpm2.TPMHandle(k.place.handle), Name: k.name, Auth: tpm2.PasswordAuth(nil)},
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck},
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	sig, err := r.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	value := struct{ R, S *big.Int }{new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)}
	// The key was looked at when it was opened: a handle that now holds another, or a TPM that fails, must not speak for the car.
	if !ecdsa.Verify(k.public, digest, value.R, value.S) {
		return nil, errors.New("its signature is not of this key; was the key at its handle replaced?")
	}
	return asn1.Marshal(value)
}
