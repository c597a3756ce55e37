package claim

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/consensys/gnark/frontend"

	"rawstone/pkg/claim/internal/file"
	"rawstone/pkg/wire"
)

// copyKeys copies the tests' setup into a directory of its own.
func copyKeys(t *testing.T) (string, Lock) {
	t.Helper()
	lock, dir := keys(t), t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(keyDir)); err != nil {
		t.Fatal(err)
	}
	return dir, lock
}

func TestSetup(t *testing.T) {
	lock := keys(t)
	read, err := ReadLock(keyDir)
	if err != nil {
		t.Fatal(err)
	}
	if read != lock {
		t.Errorf("lock read as %+v, want %+v", read, lock)
	}
	if lock.Environment != wire.Development {
		t.Errorf("environment %q: a single-party setup must call itself development", lock.Environment)
	}
	entries, err := os.ReadDir(keyDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o644 {
			t.Errorf("%s has mode %v, want 0644", e.Name(), info.Mode())
		}
		if e.Name() == provingFile && info.Size() > 1_000_000 {
			t.Errorf("proving key takes %d bytes, at most 1,000,000 allowed", info.Size())
		}
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "circuit.cs lock.json proving.key verifying.key" {
		t.Errorf("setup leaves %s", got)
	}
}

func TestSetupNeverOverwrites(t *testing.T) {
	for _, name := range []string{lockFile, circuitFile, provingFile, verifyingFile} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("good"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Setup(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("setup over %s: error %v", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "good" {
			t.Errorf("setup over %s left %q, %v", name, b, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 {
			t.Errorf("setup over %s left %d files", name, len(entries))
		}
		// The race that the first look cannot see: the write itself must not replace either.
		if err := file.WriteNew(dir, name, []byte("bad")); err == nil {
			t.Errorf("%s replaced", name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		alter            func(t *testing.T, dir string, want *Lock)
		prover, verifier string // parts of the sentence, empty where the file is not used
	}{
		"altered circuit": {func(t *testing.T, dir string, _ *Lock) {
			alterFile(t, dir, circuitFile, func(b []byte) []byte { b[100] ^= 1; return b })
		},
			"circuit.cs: its SHA-256 is", ""},
		"truncated proving key": {func(t *testing.T, dir string, _ *Lock) {
			alterFile(t, dir, provingFile, func(b []byte) []byte { return b[:1000] })
		}, "proving.key: its SHA-256 is", ""},
		"altered verifying key": {func(t *testing.T, dir string, _ *Lock) {
			alterFile(t, dir, verifyingFile, func(b []byte) []byte { b[99] ^= 1; return b })
		}, "", "verifying.key: its SHA-256 is"},
		"no wanted hashes": {func(_ *testing.T, _ string, want *Lock) { *want = Lock{} }, "want 0000000000", "no hash wanted"},
		"missing files": {func(t *testing.T, dir string, _ *Lock) {
			for _, name := range []string{circuitFile, verifyingFile} {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}, "cannot read circuit.cs", "cannot read verifying.key"},
		"oversized files": {func(t *testing.T, dir string, _ *Lock) {
			for _, name := range []string{provingFile, verifyingFile} {
				alterFile(t, dir, name, func(b []byte) []byte { return append(b, make([]byte, MaxFileLen)...) })
			}
		}, "at most 4194304 bytes", "at most 4194304 bytes"},
		// Hashes that vouch for rubbish must still not get it used.
		"rubbish of the wanted hash": {func(t *testing.T, dir string, want *Lock) {
			for name, h := range map[string]*wire.Hash{provingFile: &want.ProvingKey, verifyingFile: &want.VerifyingKey} {
				*h = wire.ID(alterFile(t, dir, name, func([]byte) []byte { return []byte("rubbish") }))
			}
		}, "cannot decode proving.key", "cannot decode verifying.key"},
		"circuit and key of different setups": {func(t *testing.T, dir string, want *Lock) {
			other, err := compile(new(tiny))
			if err != nil {
				t.Fatal(err)
			}
			want.Circuit = wire.ID(alterFile(t, dir, circuitFile, func([]byte) []byte {
				var b bytes.Buffer
				if _, err := other.WriteTo(&b); err != nil {
					t.Fatal(err)
				}
				return b.Bytes()
			}))
		}, "not of one setup", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir, want := copyKeys(t)
			c.alter(t, dir, &want)
			_, err := OpenProver(dir, want)
			checkSentence(t, "prover", err, c.prover)
			_, err = OpenVerifier(dir, want)
			checkSentence(t, "verifier", err, c.verifier)
		})
	}
}

func checkSentence(t *testing.T, what string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", what, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: error %v, want one with %q", what, err, want)
	}
}

// tiny is another circuit than claim/v1.
type tiny struct {
	X frontend.Variable `gnark:",public"`
}

func (c *tiny) Define(api frontend.API) error {
	api.AssertIsBoolean(c.X)
	return nil
}

func alterFile(t *testing.T, dir, name string, alter func([]byte) []byte) []byte {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = alter(b)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadLockRefuses(t *testing.T) {
	dir, lock := copyKeys(t)
	good, err := os.ReadFile(filepath.Join(dir, lockFile))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string { return strings.Replace(string(good), old, new, 1) }
	for name, text := range map[string]string{
		"empty":               "",
		"truncated":           string(good[:40]),
		"trailing text":       string(good) + "{}",
		"unknown environment": replace("development", "staging"),
		"unknown key":         replace("{", `{"note": "",`),
		"key spelled twice":   replace("{", `{"circuit": "00",`),
		"short hash":          replace(lock.Circuit.String(), "00"),
		"upper case":          replace(lock.Circuit.String(), strings.ToUpper(lock.Circuit.String())),
		"missing hash":        replace("proving_key", "Proving_key"),
		"too long":            strings.Repeat(" ", MaxLockLen) + string(good),
	} {
		alterFile(t, dir, lockFile, func([]byte) []byte { return []byte(text) })
		if got, err := ReadLock(dir); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	if _, err := ReadLock(t.TempDir()); err == nil {
		t.Error("missing lock accepted")
	}
}

func FuzzParseLock(f *testing.F) {
	text, err := Lock{Environment: wire.Production, Circuit: wire.Hash{1}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLock(b)
		if err != nil {
			return
		}
		if again, err := l.encode(); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q re-encodes as %q, %v", b, again, err)
		}
	})
}
