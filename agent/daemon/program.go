package daemon

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/pkg/attest"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// program is what the configuration's files say of the program, checked.
type program struct {
	*terms.Documents
	ecu wire.PublicKey
}

func openProgram(c *Config) (*program, error) {
	p := new(program)
	var err error
	p.Documents, err = terms.Load(terms.Files{Root: c.Program.Root, Program: c.Program.File, Charter: c.Program.Charter}, c.Environment)
	if err != nil {
		return nil, err
	}
	text, err := terms.ReadDocument(c.ECU.Identity)
	if err != nil {
		return nil, err
	}
	identity, err := attest.ParseIdentity(text)
	if err != nil {
		return nil, fmt.Errorf("cannot use ECU identity %s: %w", c.ECU.Identity, err)
	}
	if identity.Program != p.ProgramID {
		return nil, fmt.Errorf("cannot use ECU identity %s: it belongs to another program", c.ECU.Identity)
	}
	p.ecu = identity.Key
	return p, nil
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
