package publish

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/command"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"collector": func() {
			root := &cobra.Command{Use: "collector"}
			root.AddCommand(Commands()...)
			os.Exit(command.Main(root, os.Args[1:], os.Stdout, os.Stderr))
		},
		"append": func() { exit(appendTo(os.Args[1], os.Args[2:])) },
		"cut":    func() { exit(change(os.Args[1], func(b []byte) []byte { return b[:len(b)-1] })) },
		"flip":   func() { exit(change(os.Args[1], func(b []byte) []byte { b[len(b)/2] ^= 1; return b })) },
		"begin":  func() { exit(begin(os.Args[1])) },
	})
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func change(path string, by func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, by(b), 0o644)
}

// begin makes a program with one validator, as far as documents and keys go.
func begin(dir string) (err error) {
	if err := os.MkdirAll(filepath.Join(dir, "policies"), 0o755); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte, e error) { err = errors.Join(err, e, os.WriteFile(in(name), b, 0o644)) }
	key := func(name string) (crypto.Signer, wire.PublicKey) {
		k, e := keyfile.Create(in(name))
		if e != nil {
			err = errors.Join(err, e)
			return k, wire.PublicKey{}
		}
		p, e := wire.NewPublicKey(k.Public())
		err = errors.Join(err, e)
		return k, p
	}
	root, rootPublic := key("root.key")
	sign, policyPublic := key("policy.key")
	_, receipt := key("receipt.key")
	one, first := key("board-1.key")
	two, next := key("board-2.key")
	_, third := key("board-3.key")
	validator, e := ledger.GenerateValidatorKey("test/operator")
	second, e3 := ledger.GenerateValidatorKey("test/auditor")
	secret, verifier, e2 := tlog.GenerateKey("test/ledger")
	if err = errors.Join(err, e, e2, e3); err != nil {
		return err
	}
	p := &terms.Program{
		Version: wire.Version, Name: "test", Environment: wire.Development,
		Timing:  terms.Timing{GenesisS: time.Date(2026, 11, 30, 4, 0, 0, 0, time.UTC).Unix(), DayS: 86400, DropS: 600},
		Receipt: wire.KeySet{receipt}, Policy: wire.KeySet{policyPublic}, Board: wire.KeySet{first, next, third}, BoardQuorum: 2,
		Validators: []terms.Validator{validator.Public(), second.Public()}, Quorum: 2, LogKey: verifier,
	}
	signed, e := terms.SealProgram(root, p)
	write("program.cose", signed, e)
	write("root.pub", []byte(hex.EncodeToString(rootPublic[:])+"\n"), nil)
	id := wire.ID(signed)
	signed, e = terms.SealCharter([]crypto.Signer{one, two}, &terms.Charter{
		Version: wire.Version, Program: id, Serial: 1, Kinds: []string{"feature/assist", terms.KindMileage}, TierRatioMilli: 1200,
		Usage: terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 1000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52},
	})
	write("charter.cose", signed, e)
	row := wire.Row{B: 40_000}
	row.A[wire.OdometerM] = 1
	signed, e = terms.SealPolicy(sign, &terms.Policy{
		Version: wire.Version, Program: id, Serial: 1, Kind: terms.KindMileage, ToDay: terms.MaxDay, CapKm: 1500,
		Circuit: wire.Hash{1}, ProvingKey: wire.Hash{2}, VerifyingKey: wire.Hash{3}, Lock: wire.Hash{4}, Tiers: []terms.Tier{{Km: 40, Rows: []wire.Row{row}}},
	})
	write("policies/1.cose", signed, e)
	return errors.Join(err, keyfile.Write(in("validator.key"), validator.Encode()), keyfile.Write(in("log.key"), []byte(secret+"\n")))
}

// appendTo logs the documents of ./program and then files, given as TYPE=PATH, in a directory that has no log.
func appendTo(dir string, documents []string) error {
	secret, err := os.ReadFile("program/log.key")
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	verifier, err := tlog.Verifier(strings.TrimSpace(string(secret)))
	if err != nil {
		return err
	}
	types := map[string]ledger.Type{"program": ledger.TypeProgram, "charter": ledger.TypeCharter, "policy": ledger.TypePolicy, "offers": ledger.TypeOffers, "witness": ledger.TypeWitness}
	documents = append([]string{"program=program/program.cose", "charter=program/charter.cose", "policy=program/policies/1.cose"}, documents...)
	var entries [][]byte
	for i, d := range documents {
		name, path, _ := strings.Cut(d, "=")
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		e := ledger.Entry{Number: uint64(i), Type: types[name], Body: body}
		b, err := e.Encode()
		if err != nil {
			return err
		}
		entries = append(entries, b)
	}
	l, err := tlog.Open(context.Background(), tlog.Config{Dir: dir, Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(l.Append(context.Background(), 0, entries...), l.Close())
}

func TestScripts(t *testing.T) {
	configs, err := filepath.Abs("../../../../configs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("CONFIGS", configs)
			return nil
		},
	})
}
