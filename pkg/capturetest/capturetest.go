// Package capturetest finds the recorded drives that tests and benchmarks play; as net/http/httptest it is code for tests only. The
// drives are not part of the repository: a test that asks for one which is not there is skipped, and never fails for want of it. The
// package reads no capture and imports nothing of this module.
package capturetest

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the absolute path of the folder of recorded drives: RAWSTONE_CAPTURES, or ../shared/captures where that is not set. A
// relative path is relative to the repository, so that one setting serves the tests of all packages. Without the folder the test is
// skipped.
func Dir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("RAWSTONE_CAPTURES")
	if dir == "" {
		dir = "../shared/captures"
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(root(t), dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Skipf("no recorded drives in %s: set RAWSTONE_CAPTURES to their folder", dir)
	}
	return dir
}

// Find returns the absolute path of one file of Dir. Without the file the test is skipped.
func Find(t testing.TB, name string) string {
	t.Helper()
	dir := Dir(t)
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no %s in %s: set RAWSTONE_CAPTURES to the folder of recorded drives", name, dir)
	}
	return path
}

// root returns the folder of go.mod: go test runs a test in the folder of its package, also where -trimpath hides the source's path.
func root(t testing.TB) string {
	t.Helper()
	start, err := os.Getwd()
	if err != nil {
		t.Fatalf("cannot find the repository: %v", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatalf("cannot find the repository: no go.mod in %s or above it", start)
		}
	}
}
