package capturetest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A skipper notes why a test would be skipped.
type skipper struct {
	testing.TB
	why string
}

type skipped struct{}

func (s *skipper) Skipf(format string, args ...any) {
	s.why = fmt.Sprintf(format, args...)
	panic(skipped{})
}

// call returns what f returns, or why it skips.
func call(t *testing.T, f func(testing.TB) string) (path, why string) {
	t.Helper()
	s := &skipper{TB: t}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(skipped); !ok {
				panic(r)
			}
			why = s.why
		}
	}()
	return f(s), ""
}

func TestDir(t *testing.T) {
	// A repository of its own, from a package of which captures are sought.
	repository := filepath.Join(t.TempDir(), "repository")
	inside := filepath.Join(repository, "pkg", "deep")
	beside := filepath.Join(filepath.Dir(repository), "shared", "captures")
	other := filepath.Join(repository, "other")
	for _, dir := range []string{inside, beside, other} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{filepath.Join(repository, "go.mod"), filepath.Join(beside, "drive.log")} {
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(inside)
	for set, want := range map[string]string{"": beside, "other": other, "./other/../other": other, other: other, beside: beside} {
		t.Setenv("RAWSTONE_CAPTURES", set)
		if got, why := call(t, Dir); got != want {
			t.Errorf("RAWSTONE_CAPTURES=%q: folder %q, want %q (%s)", set, got, want, why)
		}
	}
	for _, set := range []string{"none", filepath.Join(other, "none"), "go.mod"} {
		t.Setenv("RAWSTONE_CAPTURES", set)
		got, why := call(t, Dir)
		if want := "no recorded drives in " + other[:len(repository)+1]; !strings.HasPrefix(why, want) || !strings.HasSuffix(why, "set RAWSTONE_CAPTURES to their folder") {
			t.Errorf("RAWSTONE_CAPTURES=%q: folder %q, skipped for %q", set, got, why)
		}
	}

	t.Setenv("RAWSTONE_CAPTURES", "")
	find := func(name string) func(testing.TB) string { return func(t testing.TB) string { return Find(t, name) } }
	if got, why := call(t, find("drive.log")); got != filepath.Join(beside, "drive.log") {
		t.Errorf("found %q (%s)", got, why)
	}
	if got, why := call(t, find("none.log")); !strings.HasPrefix(why, "no none.log in "+beside+": set RAWSTONE_CAPTURES") {
		t.Errorf("found %q, skipped for %q", got, why)
	}
}
