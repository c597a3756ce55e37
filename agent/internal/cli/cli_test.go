package cli

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	collector "rawstone/collector/daemon"
	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/keyfile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"agent": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// newcar makes a program from program.yaml, an ECU from sim.yaml and a device key, as an agent's configuration names them.
			"newcar": func(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(newCar(ts)) },
			// ready waits for an agent that takes commands at a state directory.
			"ready": func(ts *testscript.TestScript, _ bool, args []string) {
				for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
					conn, err := net.Dial("unix", ts.MkAbs(args[0])+"/control.sock")
					if err == nil {
						ts.Check(conn.Close())
						return
					}
					if time.Now().After(until) {
						ts.Fatalf("no agent takes commands within a minute: %v", err)
					}
				}
			},
		},
	})
}

func newCar(ts *testscript.TestScript) error {
	policy, err := os.ReadFile(filepath.Join("..", "..", "..", "configs", "policies", "mileage.yaml"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(ts.MkAbs("mileage.yaml"), policy, 0o600); err != nil {
		return err
	}
	if _, err := collector.Init(ts.MkAbs("program.yaml"), ts.MkAbs("program"), time.Now); err != nil {
		return err
	}
	cfg, err := sim.Load(ts.MkAbs("sim.yaml"))
	if err != nil {
		return err
	}
	identity, err := sim.Init(cfg, time.Now)
	if err != nil {
		return err
	}
	_, err = keyfile.Create(ts.MkAbs("device.key"))
	return errors.Join(err, os.WriteFile(ts.MkAbs("ecu.pem"), identity, 0o600))
}
