package witness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func validator(t testing.TB, name string) terms.Validator {
	t.Helper()
	return must(ledger.GenerateValidatorKey(name)).Public()
}

func testProgram(t testing.TB) (*Program, vectortest.Signer) {
	t.Helper()
	root := vectortest.Key(t, "root")
	keys := wire.KeySet{must(wire.NewPublicKey(vectortest.Key(t, "policy").Public()))}
	_, verifier, err := tlog.GenerateKey("log.example")
	if err != nil {
		t.Fatal(err)
	}
	p := &terms.Program{Version: wire.Version, Name: "test", Environment: wire.Development, Timing: terms.Timing{DayS: 6, DropS: 2}, Receipt: keys, Policy: keys, Board: keys,
		BoardQuorum: 1, Quorum: 2, LogKey: verifier, Validators: []terms.Validator{validator(t, "a"), validator(t, "b")}}
	return &Program{p, wire.Hash{1}, must(wire.NewPublicKey(root.Public()))}, root
}

func TestLines(t *testing.T) {
	a, b := validator(t, "maker.example/validator"), validator(t, "Verein der Halter, 車主協會")
	text := "# both\n\n" + Line(a) + "\r\n  " + Line(b) + "\n"
	if d := cmp.Diff([]terms.Validator{a, b}, must(Parse([]byte(text)))); d != "" {
		t.Error(d)
	}
	good := Line(a)
	for name, c := range map[string]struct{ text, want string }{
		"nothing":   {"# no\n", "it names no validator"},
		"short key": {good[2:], "line 1 is no validator"},
		"long key":  {"00" + good, "line 1 is no validator"},
		"no name":   {good[:129], `name "" is empty`},
		"control":   {good + "\x1b[2J", "no plain text"},
		"two":       {good + "\n" + good[:80], "line 2 is no validator"},
		"no hex":    {"g" + good[1:], `is not 32 bytes in hexadecimal`},
		"overlong":  {strings.Repeat("a", 70_000), "token too long"},
	} {
		if _, err := Parse([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBuildSignVerify(t *testing.T) {
	p, root := testProgram(t)
	list := []terms.Validator{p.Validators[0], validator(t, "c"), validator(t, "d")}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(name, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for name, c := range map[string]struct {
		serial uint16
		day    uint32
		list   []terms.Validator
		want   string
	}{
		"serial":    {0, 5, list, "a serial or a day within bounds"},
		"day 0":     {1, 0, list, "a serial or a day within bounds"},
		"day":       {1, terms.MaxDay + 1, list, "a serial or a day within bounds"},
		"quorum":    {1, 5, list[:1], "quorum 2 of 1 validators cannot be met"},
		"none":      {1, 5, nil, "cannot be met"},
		"twice":     {1, 5, []terms.Validator{list[0], list[1], list[0]}, "validator 2 shares its name or a key"},
		"small key": {1, 5, []terms.Validator{list[0], {Name: "x", Key: [32]byte{7}, VRF: [32]byte{1}}}, "validator x: VRF key"},
	} {
		_, err := p.Build(c.serial, c.day, c.list)
		refused(name, c.want, err)
	}
	w := must(p.Build(1, 5, list))
	unsigned := write("u", must(wire.Marshal(w)))
	doc := must(Read(unsigned))
	signed := write("s", must(p.Sign(root, doc)))
	got := must(p.Verify([]string{signed}))
	if d := cmp.Diff([]*ledger.Witness{w}, got); d != "" {
		t.Error(d)
	}
	// What is shown can be parsed again.
	for _, path := range []string{unsigned, signed} {
		if d := cmp.Diff(list, must(Parse([]byte(must(Read(path)).String())))); d != "" {
			t.Error(d)
		}
	}
	if s := must(Read(signed)).String(); !strings.HasPrefix(s, "# Signed, it says, by key "+p.Root.ID().String()) || !strings.Contains(s, "# serial: 1\n# from_day: 5\n") {
		t.Error(s)
	}
	steering := *w
	steering.Validators = []terms.Validator{list[0], {Name: "x\n# ok", Key: list[1].Key, VRF: list[1].VRF}}
	if s := (&Document{Witness: &steering}).String(); strings.Contains(s, "\n# ok") {
		t.Error("a name begins a line of its own")
	}

	_, err := p.Sign(vectortest.Key(t, "policy"), doc)
	refused("not the root", "is not the program root", err)
	_, err = p.Sign(root, must(Read(signed)))
	refused("signed", "signed it already", err)
	other := *p
	other.ID = wire.Hash{2}
	_, err = other.Sign(root, doc)
	refused("program", "another program", err)
	_, err = other.Verify([]string{signed})
	refused("program", "another program", err)
	few := *w
	few.Validators = list[:1]
	_, err = p.Sign(root, &Document{Witness: &few})
	refused("quorum", "cannot be met", err)
	_, err = p.Verify([]string{unsigned})
	refused("unsigned", "give the signed one (`collector witness sign`)", err)
	_, err = p.Verify([]string{write("f", must(ledger.SealWitness(vectortest.Key(t, "policy"), w)))})
	refused("stranger", "may not sign this", err)
	_, err = Read(write("x", []byte("text")))
	refused("text", "give what `collector witness build` or `witness sign` wrote", err)

	change := func(serial uint16, day uint32) string {
		return write("c", must(p.Sign(root, &Document{Witness: must(p.Build(serial, day, list))})))
	}
	if got := must(p.Verify([]string{signed, change(2, 6)})); len(got) != 2 {
		t.Errorf("%d changes", len(got))
	}
	_, err = p.Verify([]string{signed, change(1, 6)})
	refused("serial", "its serial 1 and day 6 are not both above 1 and 5", err)
	_, err = p.Verify([]string{signed, change(2, 5)})
	refused("day", "its serial 2 and day 5 are not both above 1 and 5", err)
}
