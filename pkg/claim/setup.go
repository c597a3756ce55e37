package claim

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	groth16 "github.com/consensys/gnark/backend/groth16/bn254"

	"rawstone/pkg/wire"
)

// The files of a setup.
const (
	circuitFile   = "circuit.cs"
	provingFile   = "proving.key"
	verifyingFile = "verifying.key"
	lockFile      = "lock.json"
)

// maxFileLen bounds a key or circuit file in bytes.
const maxFileLen = 4 << 20

// Setup compiles the circuit, makes a key pair for it and writes both with their lock into dir, which it creates when missing.
// Whoever runs it could keep the trapdoor and forge proofs, so the lock says development. It refuses a directory that holds any of
// the files: new keys would silently void every policy and proof under the old ones. The lock is written last; without it, what is
// there is the remains of a setup that was cut off. It turns off gnark's logger for the whole process.
func Setup(dir string) (Lock, error) {
	silence()
	for _, name := range []string{circuitFile, provingFile, verifyingFile, lockFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return Lock{}, fmt.Errorf("cannot set up keys in %s: it already holds %s: use its lock or choose another directory", dir, name)
		}
	}
	system, err := compile(new(circuit))
	if err != nil {
		return Lock{}, err
	}
	var pk groth16.ProvingKey
	var vk groth16.VerifyingKey
	if err := groth16.Setup(system, &pk, &vk); err != nil {
		return Lock{}, fmt.Errorf("cannot set up keys: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Lock{}, fmt.Errorf("cannot set up keys: %w", err)
	}
	lock := Lock{Environment: wire.Development}
	for _, f := range []struct {
		name  string
		write func(io.Writer) (int64, error)
		hash  *wire.Hash
	}{
		{circuitFile, system.WriteTo, &lock.Circuit},
		{provingFile, pk.WriteRawTo, &lock.ProvingKey},
		{verifyingFile, vk.WriteTo, &lock.VerifyingKey},
	} {
		var b bytes.Buffer
		if _, err := f.write(&b); err != nil {
			return Lock{}, fmt.Errorf("cannot encode %s: %w", f.name, err)
		}
		*f.hash = wire.ID(b.Bytes())
		if err := writeNew(dir, f.name, b.Bytes()); err != nil {
			return Lock{}, err
		}
	}
	text, err := lock.encode()
	if err != nil {
		return Lock{}, err
	}
	if err := writeNew(dir, lockFile, text); err != nil {
		return Lock{}, err
	}
	return lock, nil
}
