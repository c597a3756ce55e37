package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxDocument bounds a document in bytes.
const maxDocument = 64 << 10

// program is everything that the configuration's files say of the program, checked.
type program struct {
	*terms.Program
	id        wire.Hash
	charter   *terms.Charter
	charterID wire.Hash
	policies  []*terms.Policy
	lock      claim.Lock
	ecu       wire.PublicKey
}

func openProgram(c *Config) (*program, error) {
	p := new(program)
	var err error
	if p.Program, p.id, err = terms.LoadProgram(c.Program.Root, c.Program.File); err != nil {
		return nil, err
	}
	if p.Environment != c.Environment {
		return nil, fmt.Errorf("cannot use program document %s: it is for %s and the configuration says %s", c.Program.File, p.Environment, c.Environment)
	}
	signed, err := readDocument(c.Program.Charter)
	if err != nil {
		return nil, err
	}
	if p.charter, p.charterID, err = terms.OpenCharter(p.Program, p.id, signed); err != nil {
		return nil, fmt.Errorf("cannot use charter %s: %w", c.Program.Charter, err)
	}
	for _, path := range c.Program.Policies {
		if signed, err = readDocument(path); err != nil {
			return nil, err
		}
		policy, err := terms.OpenPolicy(p.Policy, p.id, signed)
		if err != nil {
			return nil, fmt.Errorf("cannot use policy %s: %w", path, err)
		}
		if err := p.charter.Covers(policy); err != nil {
			return nil, fmt.Errorf("cannot use policy %s: %w", path, err)
		}
		p.policies = append(p.policies, policy)
	}
	if p.lock, err = claim.ReadLock(c.Program.ClaimKeys); err != nil {
		return nil, err
	}
	if c.Environment == wire.Production && p.lock.Environment != wire.Production {
		return nil, fmt.Errorf("cannot use keys in %s: they are from a development setup", c.Program.ClaimKeys)
	}
	text, err := readDocument(c.ECU.Identity)
	if err != nil {
		return nil, err
	}
	identity, err := attest.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use ECU identity %s: %w", c.ECU.Identity, err)
	}
	if identity.Program != p.id {
		return nil, fmt.Errorf("cannot use ECU identity %s: it belongs to another program", c.ECU.Identity)
	}
	p.ecu = identity.Key
	return p, nil
}

func readDocument(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read document: %w", err)
	}
	if info.Size() > maxDocument {
		return nil, fmt.Errorf("cannot read document %s: %d bytes, at most %d allowed", path, info.Size(), maxDocument)
	}
	return os.ReadFile(path)
}

// Init makes the device key that the configuration names and writes its public half in hexadecimal to out, which must not exist.
func Init(cfg *Config, out string) error {
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot write public key: %s exists; choose another name or remove it", out)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.DeviceKey), 0o700); err != nil {
		return fmt.Errorf("cannot make directory of the device key: %w", err)
	}
	key, err := keyfile.Create(cfg.DeviceKey)
	if err != nil {
		return err
	}
	public, err := wire.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, []byte(hex.EncodeToString(public[:])+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot write public key: %w", err)
	}
	return nil
}
