package claim

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	groth16 "github.com/consensys/gnark/backend/groth16/bn254"
	constraint "github.com/consensys/gnark/constraint/bn254"

	"rawstone/pkg/claim/internal/file"
	"rawstone/pkg/wire"
)

// The files of a setup.
const (
	circuitFile   = "circuit.cs"
	provingFile   = "proving.key"
	verifyingFile = "verifying.key"
	lockFile      = "lock.json"
)

// MaxFileLen bounds a key or circuit file in bytes.
const MaxFileLen = 4 << 20

// Setup compiles the circuit, makes a key pair for it and writes both with their lock into dir, as Files.Write does. Whoever runs it
// could keep the trapdoor and forge proofs, so the lock says development; package ceremony makes keys for production. It turns off
// gnark's logger for the whole process.
func Setup(dir string) (Lock, error) {
	if err := checkVacant(dir); err != nil {
		return Lock{}, err
	}
	system, err := Compile()
	if err != nil {
		return Lock{}, err
	}
	var pk groth16.ProvingKey
	var vk groth16.VerifyingKey
	if err := groth16.Setup(system, &pk, &vk); err != nil {
		return Lock{}, fmt.Errorf("cannot set up keys: %w", err)
	}
	files, err := Encode(system, &pk, &vk)
	if err != nil {
		return Lock{}, err
	}
	return files.Write(dir, wire.Hash{})
}

// Compile returns the constraint system of claim/v1. It turns off gnark's logger for the whole process.
func Compile() (*constraint.R1CS, error) {
	silence()
	return compile(new(circuit))
}

// Files are what a setup ends with, as they are stored.
type Files struct {
	// Circuit is the constraint system, ProvingKey the raw form of the key, VerifyingKey the compressed one.
	Circuit, ProvingKey, VerifyingKey []byte
}

// Encode returns the files of a setup. Equal keys give equal bytes.
func Encode(system *constraint.R1CS, pk *groth16.ProvingKey, vk *groth16.VerifyingKey) (f Files, err error) {
	for _, part := range []struct {
		name  string
		write func(io.Writer) (int64, error)
		bytes *[]byte
	}{
		{circuitFile, system.WriteTo, &f.Circuit},
		{provingFile, pk.WriteRawTo, &f.ProvingKey},
		{verifyingFile, vk.WriteTo, &f.VerifyingKey},
	} {
		var b bytes.Buffer
		if _, err := part.write(&b); err != nil {
			return Files{}, fmt.Errorf("cannot encode %s: %w", part.name, err)
		}
		*part.bytes = b.Bytes()
	}
	return f, nil
}

// Lock returns the lock of the files. transcript is the hash of the ceremony that they come from, zero for a development setup.
func (f Files) Lock(transcript wire.Hash) Lock {
	l := Lock{
		Environment: wire.Development, Transcript: transcript,
		Circuit: wire.ID(f.Circuit), ProvingKey: wire.ID(f.ProvingKey), VerifyingKey: wire.ID(f.VerifyingKey),
	}
	if !transcript.IsZero() {
		l.Environment = wire.Production
	}
	return l
}

// Write writes the files with their lock into dir, which it creates when missing. It refuses a directory that holds any of them:
// new keys would silently void every policy and proof under the old ones. The lock is written last; without it, what is there is
// the remains of a setup that was cut off.
func (f Files) Write(dir string, transcript wire.Hash) (Lock, error) {
	if err := checkVacant(dir); err != nil {
		return Lock{}, err
	}
	lock := f.Lock(transcript)
	text, err := lock.encode()
	if err != nil {
		return Lock{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Lock{}, fmt.Errorf("cannot set up keys: %w", err)
	}
	for _, part := range []struct {
		name  string
		bytes []byte
	}{{circuitFile, f.Circuit}, {provingFile, f.ProvingKey}, {verifyingFile, f.VerifyingKey}, {lockFile, text}} {
		if err := file.WriteNew(dir, part.name, part.bytes); err != nil {
			return Lock{}, err
		}
	}
	return lock, nil
}

func checkVacant(dir string) error {
	for _, name := range []string{circuitFile, provingFile, verifyingFile, lockFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("cannot set up keys in %s: it already holds %s: use its lock or choose another directory", dir, name)
		}
	}
	return nil
}
