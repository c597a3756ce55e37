package daemon

import (
	"crypto"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestMissingFilesAreNamed checks that each file that is not there is named with its key and what to do, all at once.
func TestMissingFilesAreNamed(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	for _, n := range append(cfg.Program.Documents(), cfg.Program.Secrets()...) {
		aside := n.Path + ".aside"
		if err := os.Rename(n.Path, aside); err != nil {
			t.Fatal(err)
		}
		contains(t, refuses(t, cfg), n.Key, n.Path+" does not exist", "`collector init`")
		if err := os.Rename(aside, n.Path); err != nil {
			t.Fatal(err)
		}
	}
	none := w.load(t, "program/", "nowhere/", "ca/ecu", "nowhere/ecu")
	text := refuses(t, none)
	if n := strings.Count(text, "\n") + 1; n != len(none.Program.Documents()) {
		t.Errorf("%d lines for %d missing documents:\n%s", n, len(none.Program.Documents()), text)
	}
	if _, err := os.Stat(w.path("state")); err == nil {
		t.Error("a collector without a program made its state")
	}
}

// TestForeignKeys checks that a key of another program, in the right form, is refused by its name.
func TestForeignKeys(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	for name, want := range map[string]string{"receipt": "for receipts", "log": "for the ledger"} {
		foreign := other.path("program/" + name + ".key")
		text := refuses(t, w.load(t, "program/"+name+".key", foreign))
		contains(t, text, "cannot use key "+foreign+": the program does not name it "+want, "give the key")

		own := w.path("program/" + name + ".key")
		if err := os.Chmod(own, 0o640); err != nil {
			t.Fatal(err)
		}
		contains(t, refuses(t, w.load(t)), own, "chmod 600")
		if err := os.Chmod(own, 0o600); err != nil {
			t.Fatal(err)
		}
		w.write(t, "garbage.key", []byte("garbage\n"))
		contains(t, refuses(t, w.load(t, "program/"+name+".key", "garbage.key")), w.path("garbage.key"))
	}
	for name, replace := range map[string][]string{
		"root":    {"program/root.pub", other.path("program/root.pub")},
		"charter": {"program/charter.cose", other.path("program/charter.cose")},
		"policy":  {"program/policies/1.cose", other.path("program/policies/1.cose")},
	} {
		text := refuses(t, w.load(t, replace...))
		if !strings.Contains(text, "cannot use ") {
			t.Errorf("another program's %s: %s", name, text)
		}
	}
	// The proving keys of another setup prove nothing that this program's policies ask for.
	contains(t, refuses(t, w.load(t, "program/claim", other.path("program/claim"))),
		"cannot use policy "+w.path("program/policies/1.cose"), "those of another setup")
	start(t, w.load(t)).end(t) // nothing of all that is left behind
}

// produce makes a production program under the world's root, whose other keys are those of its development program.
func (w *world) produce(t *testing.T) {
	t.Helper()
	key := func(name string) crypto.Signer {
		k, err := keyfile.Load(w.path("program/" + name + ".key"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	docs, err := terms.Load(terms.Files{
		Root: w.path("program/root.pub"), Program: w.path("program/program.cose"), Charter: w.path("program/charter.cose"),
		Policies: []string{w.path("program/policies/1.cose")},
	}, wire.Development)
	if err != nil {
		t.Fatal(err)
	}
	seal := func(name string, b []byte, err error) {
		if err == nil {
			err = os.WriteFile(w.path(filepath.Join("production", name)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(w.path("production"), 0o700); err != nil {
		t.Fatal(err)
	}
	program := *docs.Program
	program.Environment, program.Timing.DayS, program.Timing.DropS = wire.Production, 86400, 600
	signed, err := terms.SealProgram(key("root"), &program)
	seal("program.cose", signed, err)
	docs.Charter.Program, docs.Policies[0].Program = wire.ID(signed), wire.ID(signed)
	charter, err := terms.SealCharter([]crypto.Signer{key("board-1"), key("board-2")}, docs.Charter)
	seal("charter.cose", charter, err)
	policy, err := terms.SealPolicy(key("policy"), docs.Policies[0])
	seal("policy.cose", policy, err)
}

func TestEnvironmentsDoNotMix(t *testing.T) {
	w := newWorld(t)
	w.produce(t)
	production := []string{
		"program/program.cose", "production/program.cose", "program/charter.cose", "production/charter.cose",
		"program/policies/1.cose", "production/policy.cose",
	}
	asProduction := []string{"environment: development", "environment: production"}
	contains(t, refuses(t, w.load(t, asProduction...)), w.path("program/program.cose"), "it is for development and the configuration says production")
	contains(t, refuses(t, w.load(t, production...)), w.path("production/program.cose"), "it is for production and the configuration says development")
	// All documents are production's, and only the setup of the proof system is not.
	contains(t, refuses(t, w.load(t, append(production, asProduction...)...)), w.path("program/claim"), "development setup; run the ceremony")
}
