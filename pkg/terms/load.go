package terms

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"rawstone/pkg/wire"
)

// maxDocument bounds a document's file in bytes.
const maxDocument = 64 << 10

// ReadDocument reads a document's file of at most 64 KiB. It checks nothing else.
func ReadDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read document: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read document: %w", err)
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("cannot read document %s: more than %d bytes; is it the right file?", path, maxDocument)
	}
	return b, nil
}

// LoadRoot reads the file that pins the program root: its public key in hexadecimal.
func LoadRoot(path string) (root wire.PublicKey, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return root, fmt.Errorf("cannot read program root: %w", err)
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != len(root) {
		return root, fmt.Errorf("cannot read program root %s: it does not hold %d bytes in hexadecimal", path, len(root))
	}
	root = wire.PublicKey(b)
	if _, err := root.Key(); err != nil {
		return root, fmt.Errorf("cannot read program root %s: %w", path, err)
	}
	return root, nil
}

// LoadProgram reads a program document and checks it under the root that a file pins.
func LoadProgram(rootPath, programPath string) (*Program, wire.Hash, error) {
	root, err := LoadRoot(rootPath)
	if err != nil {
		return nil, wire.Hash{}, err
	}
	p, id, _, err := loadProgram(root, programPath)
	return p, id, err
}

func loadProgram(root wire.PublicKey, path string) (*Program, wire.Hash, []byte, error) {
	b, err := ReadDocument(path)
	if err != nil {
		return nil, wire.Hash{}, nil, err
	}
	p, id, err := OpenProgram(root, b)
	if err != nil {
		return nil, wire.Hash{}, nil, fmt.Errorf("cannot use program document %s: %w", path, err)
	}
	return p, id, b, nil
}

// Files names the files of a program's documents.
type Files struct {
	// Root pins the program root (see LoadRoot).
	Root string
	// Program, Charter and Policies are the signed documents.
	Program, Charter string
	Policies         []string
}

// Documents are a program's documents, each checked under the one before it.
type Documents struct {
	Root wire.PublicKey
	*Program
	ProgramID wire.Hash
	Charter   *Charter
	CharterID wire.Hash
	Policies  []*Policy
	// SignedProgram, SignedCharter and SignedPolicies are the documents' bytes as signed.
	SignedProgram, SignedCharter []byte
	SignedPolicies               [][]byte
}

// Load reads a program's documents and checks them: signatures, bounds, that the program is for env, that all belong to it, that
// the charter covers every policy, and that the policies can stand side by side.
func Load(f Files, env wire.Environment) (*Documents, error) {
	d := new(Documents)
	var err error
	if d.Root, err = LoadRoot(f.Root); err != nil {
		return nil, err
	}
	if d.Program, d.ProgramID, d.SignedProgram, err = loadProgram(d.Root, f.Program); err != nil {
		return nil, err
	}
	if d.Environment != env {
		return nil, fmt.Errorf("cannot use program document %s: it is for %s and the configuration says %s", f.Program, d.Environment, env)
	}
	if d.SignedCharter, err = ReadDocument(f.Charter); err != nil {
		return nil, err
	}
	if d.Charter, d.CharterID, err = OpenCharter(d.Program, d.ProgramID, d.SignedCharter); err != nil {
		return nil, fmt.Errorf("cannot use charter %s: %w", f.Charter, err)
	}
	for _, path := range f.Policies {
		signed, err := ReadDocument(path)
		if err != nil {
			return nil, err
		}
		policy, err := OpenPolicy(d.Policy, d.ProgramID, signed)
		if err == nil {
			err = d.Charter.Covers(policy)
		}
		if errors.Is(err, wire.ErrNotSigned) {
			err = fmt.Errorf("%w: give the signed one (`collector policy sign`)", err)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use policy %s: %w", path, err)
		}
		d.Policies, d.SignedPolicies = append(d.Policies, policy), append(d.SignedPolicies, signed)
	}
	if err := CheckPolicies(d.Policies); err != nil {
		return nil, fmt.Errorf("cannot use policies: %w", err)
	}
	return d, nil
}
