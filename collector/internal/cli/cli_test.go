package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/policy"
	"rawstone/collector/internal/role"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"collector": func() { os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr)) },
		"car":       func() { exit(car(os.Args[1])) },
		"reports":   func() { exit(reports(os.Args[1])) },
		"final":     func() { exit(final(os.Args[1:])) },
		"drive":     func() { exit(drive(os.Args[1:])) },
		"judge":     func() { exit(judge(os.Args[1:])) },
		"cut":       func() { exit(change(os.Args[1], func(b []byte) []byte { return b[:len(b)-1] })) },
		"lengthen":  func() { exit(change(os.Args[1], func(b []byte) []byte { return append(b, 0) })) },
		"flip":      func() { exit(change(os.Args[1], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })) },
	})
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// car makes the identity of an ECU of the program in ./program, and its certificate from the authority in ./ca.
func car(id string) error {
	_, program, err := terms.LoadProgram("program/root.pub", "program/program.cose")
	if err != nil {
		return err
	}
	ecu, err := keyfile.Create(id + ".ecu")
	if err != nil {
		return err
	}
	public, err := wire.NewPublicKey(ecu.Public())
	snapshot, err2 := attest.Sign(ecu, program, 1, 2, claim.Commit(opening(1, 0)))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	born := attest.Identity{Key: public, Program: program, Snapshot: snapshot}
	identity, err := attest.EncodeIdentity(born)
	if err != nil {
		return err
	}
	certificate, err := ca.IssueECU("ca", &born, time.Now())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(id+".pem", identity, 0o644), os.WriteFile(id+".cert", certificate, 0o644),
		os.WriteFile(id+".pub", []byte(hex.EncodeToString(public[:])+"\n"), 0o644))
}

// opening is what an ECU's snapshot of a number hides at an odometer in km; drive time follows at 20 m/s.
func opening(seq uint64, km uint32) wire.Opening {
	var o wire.Opening
	o.Counters[wire.OdometerM], o.Counters[wire.DriveTimeS], o.Salt[0] = km*1000, km*50, byte(seq)
	return o
}

// final writes the identity that an ECU makes later to a file: FILE CAR SEQ DAY KM.
func final(args []string) error {
	var n [3]uint64
	for i := range n {
		if _, err := fmt.Sscan(args[2+i], &n[i]); err != nil {
			return err
		}
	}
	_, program, err := terms.LoadProgram("program/root.pub", "program/program.cose")
	if err != nil {
		return err
	}
	ecu, err := keyfile.Load(args[1] + ".ecu")
	if err != nil {
		return err
	}
	public, err := wire.NewPublicKey(ecu.Public())
	snapshot, err2 := attest.Sign(ecu, program, n[0], uint32(n[1]), claim.Commit(opening(n[0], uint32(n[2]))))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	text, err := attest.EncodeIdentity(attest.Identity{Key: public, Program: program, Snapshot: snapshot})
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}

// drive writes a claim to a file: FILE CAR FROM TO DAY KM PROVEN TIER [head], where snapshot FROM is on day FROM+1 at FROM−1 km, snapshot
// TO on DAY at KM, the proof is of tier PROVEN and the claim says TIER of policy 1. With head it carries FROM's number alone.
func drive(args []string) error {
	var n [6]uint64
	for i := range n {
		if _, err := fmt.Sscan(args[2+i], &n[i]); err != nil {
			return err
		}
	}
	from, to, day, km, proven, tier := n[0], n[1], uint32(n[2]), uint32(n[3]), int(n[4]), uint8(n[5])
	_, program, err := terms.LoadProgram("program/root.pub", "program/program.cose")
	if err != nil {
		return err
	}
	ecu, err := keyfile.Load(args[1] + ".ecu")
	if err != nil {
		return err
	}
	public, err := wire.NewPublicKey(ecu.Public())
	if err != nil {
		return err
	}
	lock, err := claim.ReadLock("program/claim")
	if err != nil {
		return err
	}
	prover, err := claim.OpenProver("program/claim", lock)
	if err != nil {
		return err
	}
	doc, err := policy.Read("program/policies/1.cose")
	if err != nil {
		return err
	}
	a, b := opening(from, uint32(from-1)), opening(to, km)
	first, err := attest.Sign(ecu, program, from, uint32(from+1), claim.Commit(a))
	last, err2 := attest.Sign(ecu, program, to, day, claim.Commit(b))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	statement := claim.Statement{From: first.Commitment, To: last.Commitment, Rows: doc.Statement(proven)}
	proof, err := prover.Prove(statement, a, b)
	if err != nil {
		return err
	}
	c := wire.Claim{Version: wire.Version, ECU: public.ID(), From: wire.NewOrigin(first), To: last,
		Proofs: []wire.ClaimProof{{Policy: 1, Tier: tier, Proof: proof}}}
	if len(args) > 8 {
		c.From = wire.Origin{Seq: from}
	}
	text, err := c.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}

// change rewrites a file.
func change(path string, by func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, by(b), 0o644)
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
			source := fmt.Sprintf("name: test\nday_s: 2\ndrop_s: 1\nvalidators: [operator]\ncharter: %q\npolicies: [%q]\n",
				filepath.Join(configs, "charter.yaml"), filepath.Join(configs, "policies/mileage.yaml"))
			listen, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			seat := listen.Addr().String()
			const internal = "internal: {ca: ca/internal-ca.pem, certificate: nodes/NODE.pem, key: nodes/NODE.key}\n"
			config := `environment: development
state_dir: state
program:
  root: program/root.pub
  file: program/program.cose
  charter: program/charter.cose
  policies: [program/policies/1.cose]
  claim_keys: program/claim
  ecu_ca: ca/ecu-ca.pem
  receipt_key: program/receipt.key
  log_key: program/log.key
vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}
mqtt: {listen: "127.0.0.1:0"}
web: 127.0.0.1:0
https: {listen: "127.0.0.1:0", certificate: server.pem, key: server.key}
validators: [{name: test/operator, url: "https://` + seat + `"}]
` + strings.ReplaceAll(internal, "NODE", "all")
			validator := "environment: development\nstate_dir: validator\nroot: program/root.pub\nkey: program/validator-operator.key\nclaim_keys: [program/claim]\nlisten: " + seat +
				"\nweb: 127.0.0.1:0\n" + strings.ReplaceAll(internal, "NODE", "operator")
			in := func(name string) string { return filepath.Join(env.WorkDir, name) }
			return errors.Join(
				listen.Close(),
				ca.Init(in("ca"), time.Now()),
				ca.IssueNode(in("ca"), "all", role.All.List(), nil, in("nodes"), time.Now()),
				ca.IssueNode(in("ca"), "operator", role.Validator.List(), []string{"127.0.0.1"}, in("nodes"), time.Now()),
				os.WriteFile(in("validator.yaml"), []byte(validator), 0o644),
				ca.IssueServer(in("ca"), []string{"127.0.0.1"}, in("server.pem"), in("server.key"), time.Now()),
				os.WriteFile(in("source.yaml"), []byte(source), 0o644),
				os.WriteFile(in("collector.yaml"), []byte(config), 0o644),
				os.WriteFile(in("server.yaml"), []byte(config+"records: {postgres: {url_file: none.url}}\n"), 0o644),
			)
		},
	})
}
