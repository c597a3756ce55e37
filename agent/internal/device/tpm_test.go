package device

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"rawstone/pkg/enroll"
	"rawstone/pkg/wire"
)

// An emulator is Debian's swtpm with a state that outlives it.
type emulator struct {
	t     *testing.T
	state string
	path  string
	stop  func()
}

func newEmulator(t *testing.T) *emulator {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("skipped: device keys in a TPM 2.0; install swtpm")
	}
	// The path of a Unix socket has at most 107 characters, which those of t.TempDir may exceed.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{t: t, state: dir, path: filepath.Join(dir, "socket")}
	e.start()
	t.Cleanup(func() {
		e.stop()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *emulator) start() {
	e.t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+e.state, "--server", "type=unixio,path="+e.path, "--flags", "not-need-init,startup-clear")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	e.stop = func() {
		cmd.Process.Kill()
		<-exited
	}
	for {
		if conn, err := net.Dial("unix", e.path); err == nil {
			conn.Close()
			return
		}
		select {
		case <-exited:
			e.t.Fatalf("swtpm does not start: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// restart is what a power cycle is to a TPM.
func (e *emulator) restart() {
	e.t.Helper()
	e.stop()
	e.start()
}

func (e *emulator) place(handle string) string { return "tpm://" + e.path + "?handle=" + handle }

func TestTPMKey(t *testing.T) {
	e := newEmulator(t)
	where := e.place("0x81010001")
	if _, err := Open(where); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a TPM without the key: %v", err)
	}
	key, err := OpenOrCreate(where)
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, k crypto.Signer, err error) {
		t.Helper()
		if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(k.Public()) {
			t.Errorf("%s: %v", what, err)
		}
	}
	again, err := OpenOrCreate(where)
	same("opened again", again, err)
	if _, err := Create(where); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made over another key: %v", err)
	}
	e.restart()
	again, err = Open(where)
	same("after a power cycle", again, err)
	sign(t, again)
	e.inspect(t, 0x81010001)
	sign(t, key) // opened before the power went

	// The same template yields another key each time.
	other, err := Create(e.place("0x81010002"))
	if err != nil || key.Public().(*ecdsa.PublicKey).Equal(other.Public()) {
		t.Errorf("two keys of one TPM are one: %v", err)
	}
	sign(t, other)
	// Nothing is left loaded: a TPM has room for three objects.
	for i := range 5 {
		if _, err := Create(e.place([]string{"0x81010003", "0x81010004", "0x81010005", "0x81010006", "0x81010007"}[i])); err != nil {
			t.Fatal(err)
		}
	}
}

// inspect holds that what is at a handle was made in the TPM, cannot leave it, and signs what it is given and nothing else.
func (e *emulator) inspect(t *testing.T, handle uint32) {
	t.Helper()
	tpm, err := connect(e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	r, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	if a := public.ObjectAttributes; !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.SignEncrypt || a.Decrypt || a.Restricted {
		t.Errorf("attributes %+v", a)
	}
}

// TestShortCoordinate holds that a TPM may leave out a coordinate's leading zeros.
func TestShortCoordinate(t *testing.T) {
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 {
			continue
		}
		public := template(nil)
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[2:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
		if got, err := checkPublic(&public); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%v", err)
		}
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 99)}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
		if _, err := checkPublic(&public); err == nil {
			t.Error("a point of 131 bytes is one")
		}
		return
	}
}

// sign holds that everything that the agent signs works with a key: reports, certification requests and TLS 1.3.
func sign(t *testing.T, key crypto.Signer) {
	t.Helper()
	pub, err := wire.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, err := pub.Key()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 { // one in two has its s in the upper half before wire.Sign
		digest := sha256.Sum256([]byte{byte(i)})
		der, err := key.Sign(nil, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(public, digest[:], der) {
			t.Fatalf("signature %d: %v", i, err)
		}
		report := wire.Report{Version: wire.Version, Vehicle: "CAR1", Epoch: uint32(i), Families: wire.Family(1), Charge: wire.NewCharge(uint64(i)+1, digest)}
		if err := report.SetValues(make([]int64, wire.VectorLen)); err != nil {
			t.Fatal(err)
		}
		sealed, err := wire.SealReport(key, &report)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.OpenReport(pub, "CAR1", sealed); err != nil {
			t.Fatalf("report %d: %v", i, err)
		}
	}
	if _, err := enroll.NewRequest("CAR1", key, ""); err != nil {
		t.Error(err)
	}
	handshake(t, key)
}

// handshake uses the key as a client's in TLS 1.3.
func handshake(t *testing.T, key crypto.Signer) {
	t.Helper()
	of := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CAR1"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
	client := tls.Client(b, &tls.Config{Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() { done <- client.HandshakeContext(t.Context()) }()
	if err := server.HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTPMKeyRefuses(t *testing.T) {
	e := newEmulator(t)
	key, err := Create(e.place("0x81010001"))
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 48)
	if _, err := key.Sign(nil, digest, crypto.SHA384); err == nil || !strings.Contains(err.Error(), "SHA-256 only") {
		t.Errorf("another hash: %v", err)
	}
	// What others keep in the TPM is neither used nor replaced: here a storage key, as the usual one at 0x81000001.
	e.put(t, 0x81000001, tpm2.ECCSRKTemplate)
	loose := template(bytes.Repeat([]byte{1}, 32))
	loose.ObjectAttributes.NoDA = false
	e.put(t, 0x81010002, loose)
	for _, handle := range []string{"0x81000001", "0x81010002"} {
		if _, err := OpenOrCreate(e.place(handle)); err == nil || !strings.Contains(err.Error(), "is no device key") {
			t.Errorf("%s: %v", handle, err)
		}
	}
	// A key that takes another one's handle does not sign in its name.
	e.evict(t, 0x81010001)
	if _, err := Create(e.place("0x81010001")); err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(nil, digest[:32], crypto.SHA256); err == nil {
		t.Error("signed with a replaced key")
	}
	e.stop()
	if _, err := OpenOrCreate(e.place("0x81010001")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a TPM that does not answer: %v", err)
	}
	if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, err := OpenOrCreate(e.place("0x81010001")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a TPM that is not there passes for one without the key: %v", err)
	}
}

// put keeps a primary key of another template at a handle.
func (e *emulator) put(t *testing.T, handle uint32, public tpm2.TPMTPublic) {
	t.Helper()
	tpm, err := connect(e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	made, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(public)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: tpm2.TPMHandle(handle)}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}

// evict removes what is at a handle.
func (e *emulator) evict(t *testing.T, handle uint32) {
	t.Helper()
	tpm, err := connect(e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	r, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(handle)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.EvictControl{Auth: owner, ObjectHandle: &tpm2.NamedHandle{Handle: tpm2.TPMHandle(handle), Name: r.Name}, PersistentHandle: tpm2.TPMHandle(handle)}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
}
