package cli

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"firmware-sim": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			root, err := keyfile.Create(filepath.Join(env.WorkDir, "root.key"))
			if err != nil {
				return err
			}
			pub, err := wire.NewPublicKey(root.Public())
			if err != nil {
				return err
			}
			keys := wire.KeySet{pub}
			doc, err := terms.SealProgram(root, &terms.Program{
				Version: wire.Version, Name: "test", Environment: wire.Development, Timing: terms.Timing{DayS: 2, DropS: 2},
				Receipt: keys, Policy: keys, Board: keys, BoardQuorum: 1,
				Validators: []terms.Validator{{Name: "v", Key: [32]byte{1}, VRF: [32]byte{2}}}, Quorum: 1, LogKey: "log",
			})
			if err != nil {
				return err
			}
			return errors.Join(
				os.WriteFile(filepath.Join(env.WorkDir, "program.cose"), doc, 0o644),
				os.WriteFile(filepath.Join(env.WorkDir, "root.pub"), []byte(hex.EncodeToString(pub[:])+"\n"), 0o644),
			)
		},
	})
}
