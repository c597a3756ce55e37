package vectortest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A failer notes why a test would fail.
type failer struct {
	testing.TB
	why string
}

type failed struct{}

func (f *failer) Fatal(args ...any) {
	f.why = fmt.Sprint(args...)
	panic(failed{})
}

func (f *failer) Fatalf(format string, args ...any) { f.Fatal(fmt.Sprintf(format, args...)) }

// failure returns why f fails its test, or "".
func failure(t *testing.T, f func(testing.TB)) (why string) {
	t.Helper()
	tb := &failer{TB: t}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(failed); !ok {
				panic(r)
			}
			why = tb.why
		}
	}()
	f(tb)
	return ""
}

// The numbers are those of pkg/wire's and pkg/terms' files.
func TestKey(t *testing.T) {
	for name, want := range map[string]string{
		"collector and device": "44090561cfd9edaf59828c99a5af0673a444564cf9dc1eb256e33e08b099e1bf",
		"policy":               "6d4f472c70b845cd780d92a0118419109ff6aaf33c97f81f67b9714fd93d6cd7",
	} {
		k := Key(t, name)
		secret, err := k.Bytes()
		if err != nil || hex.EncodeToString(secret) != want || !bytes.Equal(k.Secret, secret) {
			t.Errorf("%s: secret %x, said to be %x, want %s, %v", name, secret, k.Secret, want, err)
		}
		digest := Hash("digest")
		var signer crypto.Signer = k
		first, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		again, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil || !bytes.Equal(first, again) || !ecdsa.VerifyASN1(&k.PublicKey, digest[:], first) {
			t.Errorf("%s: signatures %x and %x, %v", name, first, again, err)
		}
	}
	if why := failure(t, func(t testing.TB) { KeyOf(t, [32]byte{}) }); why == "" {
		t.Error("a secret of zero is taken")
	}
}

func TestPattern(t *testing.T) {
	if d := cmp.Diff(Octets{0xfe, 0xff, 0, 1}, Pattern(0xfe, 4)); d != "" {
		t.Error(d)
	}
}

type vector struct {
	Name  string `json:"name"`
	Bytes Octets `json:"bytes"`
	None  Octets `json:"none,omitempty"`
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vector.json")
	t.Setenv("CI", "")
	want := vector{Name: "a", Bytes: Octets{0xab, 0}}
	Write(t, path, want)
	const text = "{\n  \"name\": \"a\",\n  \"bytes\": \"ab00\"\n}\n"
	stored := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if d := cmp.Diff(text, stored()); d != "" {
		t.Error(d)
	}
	var got vector
	Read(t, path, &got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}

	t.Setenv("CI", "true")
	if why := failure(t, func(t testing.TB) { Write(t, path, vector{}) }); !strings.Contains(why, "-update is refused where CI is set") {
		t.Errorf("CI writes: %q", why)
	}
	if d := cmp.Diff(text, stored()); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]string{
		`{"name": "a", "more": 1}`: "unknown field",
		`{"bytes": "ab0"}`:         "odd length",
		`{"bytes": "xy"}`:          "invalid byte",
		`{"name": "a"} {}`:         "text after the vectors",
		`{"name": "a"} x`:          "text after the vectors",
		``:                         "EOF",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if why := failure(t, func(t testing.TB) { Read(t, path, new(vector)) }); !strings.Contains(why, want) {
			t.Errorf("%s: refused for %q, want %q", text, why, want)
		}
	}
	if why := failure(t, func(t testing.TB) { Read(t, path+".none", new(vector)) }); why == "" {
		t.Error("a missing file is read")
	}
}

// TestOnlyTestsImport keeps code for tests, which imports testing, out of the programs: nothing but tests imports it, and it imports
// nothing of this module.
func TestOnlyTestsImport(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "rawstone/...").Output()
	if err != nil {
		t.Fatalf("cannot list packages: %v", err)
	}
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[fields[0]] = fields[1:]
	}
	forTests := func(name string) bool { return slices.Contains(imports[name], "testing") }
	for name, list := range imports {
		for _, imp := range list {
			if forTests(imp) {
				t.Errorf("%s imports %s, which is for tests only", name, imp)
			}
			if forTests(name) && strings.HasPrefix(imp, "rawstone/") {
				t.Errorf("%s imports %s: code for tests imports nothing of this module", name, imp)
			}
		}
	}
	if !forTests("rawstone/pkg/capturetest") || !forTests("rawstone/pkg/vectortest") || len(imports) < 50 {
		t.Errorf("packages for tests are not found among %d", len(imports))
	}
}
