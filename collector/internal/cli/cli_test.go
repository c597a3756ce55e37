package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"rawstone/pkg/attest"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"collector": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
		"car":       func() { exit(car(os.Args[1])) },
		"flip":      func() { exit(flip(os.Args[1])) },
	})
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// car makes the identity of an ECU of the program in ./program, and a device key.
func car(id string) error {
	_, program, err := terms.LoadProgram("program/root.pub", "program/program.cose")
	if err != nil {
		return err
	}
	ecu, err := keyfile.Create(id + ".ecu")
	if err != nil {
		return err
	}
	device, err := keyfile.Create(id + ".key")
	if err != nil {
		return err
	}
	public, err := wire.NewPublicKey(ecu.Public())
	devicePublic, err2 := wire.NewPublicKey(device.Public())
	snapshot, err3 := attest.Sign(ecu, program, 1, 2, wire.Commitment{1})
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	identity, err := attest.EncodeIdentity(attest.Identity{Key: public, Program: program, Snapshot: snapshot})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(id+".pem", identity, 0o644),
		os.WriteFile(id+".pub", []byte(hex.EncodeToString(devicePublic[:])+"\n"), 0o644))
}

// flip changes one bit in the middle of a file.
func flip(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 1
	return os.WriteFile(path, b, 0o644)
}

func TestScripts(t *testing.T) {
	configs, err := filepath.Abs("../../../configs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("CONFIGS", configs)
			source := fmt.Sprintf("name: test\nday_s: 2\ndrop_s: 1\ncharter: %q\npolicies: [%q]\n",
				filepath.Join(configs, "charter.yaml"), filepath.Join(configs, "policies/mileage.yaml"))
			const config = `environment: development
state_dir: state
program:
  root: program/root.pub
  file: program/program.cose
  charter: program/charter.cose
  policies: [program/policies/1.cose]
  claim_keys: program/claim
  receipt_key: program/receipt.key
  log_key: program/log.key
  validator_key: program/validator.key
mqtt: {listen: "127.0.0.1:0"}
web: 127.0.0.1:0
`
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "source.yaml"), []byte(source), 0o644),
				os.WriteFile(filepath.Join(env.WorkDir, "collector.yaml"), []byte(config), 0o644),
			)
		},
	})
}
