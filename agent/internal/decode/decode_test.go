package decode

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"rawstone/pkg/capturetest"
)

// differ compares rows of two tables, numbers as numbers, and describes the first difference, or is "".
func differ(got, want string) string {
	g, w := strings.Split(strings.TrimRight(got, "\n"), "\n"), strings.Split(strings.TrimRight(want, "\r\n"), "\n")
	for i := range min(len(g), len(w)) {
		a, b := strings.Split(g[i], ","), strings.Split(strings.TrimRight(w[i], "\r"), ",")
		if len(a) != len(b) || len(a) < 5 {
			return fmt.Sprintf("row %d: %q, want %q", i, g[i], w[i])
		}
		x, err := strconv.ParseFloat(a[4], 64)
		y, err2 := strconv.ParseFloat(b[4], 64)
		alike := err == nil && err2 == nil && x == y || i == 0 && a[4] == b[4]
		if !alike || strings.Join(a[:4], ",") != strings.Join(b[:4], ",") {
			return fmt.Sprintf("row %d: %q, want %q", i, g[i], w[i])
		}
	}
	if len(g) != len(w) {
		return fmt.Sprintf("%d rows, want %d", len(g), len(w))
	}
	return ""
}

func TestCaptures(t *testing.T) {
	t.Parallel()
	dir := capturetest.Dir(t)
	for name, signals := range map[string]string{
		"mustang":   "OdometerMasterValue,OdoCount,OdoTripVerify_L_Actl,Veh_V_ActlEng,Veh_V_ActlBrk",
		"obd2-trip": "DistanceTrip,DistanceTotal,DistanceValid,gnss_speed.Speed,SpeedValid",
	} {
		var got, said bytes.Buffer
		o := Options{DBC: []string{filepath.Join(dir, name+".dbc")}, Signals: strings.Split(signals, ","),
			Capture: filepath.Join(dir, name+".candump.log.gz"), Diagnostics: &said}
		if err := Run(t.Context(), o, &got); err != nil || said.Len() > 0 {
			t.Fatalf("%s: %v, %q", name, err, said.String())
		}
		file, err := os.Open(filepath.Join(dir, name+".expected.csv.gz"))
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := io.ReadAll(unpacked)
		if err := errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		rows := strings.SplitAfter(string(want), "\n")
		if d := differ(got.String(), string(want)); d != "" || len(rows) < 5000 {
			t.Errorf("%s: %d rows: %s", name, len(rows), d)
		}
		// The comparison itself must not be one that cannot fail: every field of a row counts, and so does every row.
		middle := len(rows) / 2
		fields := strings.Split(strings.TrimRight(rows[middle], "\r\n"), ",")
		for i := range fields {
			mutated := append([]string{}, fields...)
			mutated[i] = "1" + mutated[i]
			changed := strings.Join(rows[:middle], "") + strings.Join(mutated, ",") + "\n" + strings.Join(rows[middle+1:], "")
			if differ(got.String(), changed) == "" {
				t.Errorf("%s: a changed field %d is not noticed", name, i)
			}
		}
		if differ(got.String(), strings.Join(rows[:len(rows)-2], "")) == "" {
			t.Errorf("%s: a missing row is not noticed", name)
		}
	}
}

// TestTortureFiles: with an empty capture nearly every DBC file of the collection loads, and says its counts.
func TestTortureFiles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(capturetest.Dir(t)), "dbc", "*", "*.dbc"))
	if err != nil || len(paths) == 0 {
		t.Skipf("no DBC files beside the recorded drives: %v", err)
	}
	loaded := 0
	for _, path := range paths {
		var out, said bytes.Buffer
		if err := Run(t.Context(), Options{DBC: []string{path}, Stats: true, Capture: "-", Stdin: strings.NewReader(""), Diagnostics: &said}, &out); err != nil {
			t.Log(err)
			continue
		}
		if !strings.HasPrefix(out.String(), path+": ") || !strings.Contains(out.String(), "capture: 0 frames") {
			t.Errorf("%s: %q", path, out.String())
		}
		if lines := strings.Count(said.String(), "\n"); lines > 2*maxWarnings+3 {
			t.Errorf("%s: %d lines on standard error", path, lines)
		}
		if strings.Contains(out.String(), ": 0 messages") {
			t.Logf("%s loads and has no messages", path)
		}
		loaded++
	}
	t.Logf("%d of %d files load", loaded, len(paths))
	if loaded < min(232, len(paths)) {
		t.Errorf("%d of %d files load, want 232", loaded, len(paths))
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const carDBC = `BO_ 291 M: 8 X
 SG_ A : 0|8@1+ (0.5,0) [0|100] "" X
 SG_ B : 8|8@1- (1,0) [0|0] "" X
 SG_ C,D : 0|8@1- (1,0) [0|0] "" X
`

func TestClosedPipe(t *testing.T) {
	t.Parallel()
	dbc := write(t, "car.dbc", carDBC)
	log := strings.Repeat("(1.5) can0 123#0102\n", 20_000)
	for _, err := range []error{syscall.EPIPE, io.ErrClosedPipe} {
		o := Options{DBC: []string{dbc}, Capture: "-", Stdin: strings.NewReader(log)}
		if got := Run(t.Context(), o, failing{err}); got != nil {
			t.Errorf("%v: %v", err, got)
		}
	}
	full := errors.New("disk full")
	// A summary larger than the buffer meets the error twice and tells it once.
	large := "BO_ 291 M: 8 X\n"
	for i := range 1000 {
		large += fmt.Sprintf(" SG_ %0100d_s : 0|8@1+ (1,0) [0|0] \"\" X\n", i)
	}
	dbc = write(t, "large.dbc", strings.ReplaceAll(large, "SG_ ", "SG_ S"))
	log = log[:20]
	for _, stats := range []bool{false, true} {
		o := Options{DBC: []string{dbc}, Stats: stats, Capture: "-", Stdin: strings.NewReader(log)}
		if got := Run(t.Context(), o, failing{full}); !errors.Is(got, full) || strings.Count(got.Error(), "disk full") != 1 {
			t.Errorf("full, stats %t: %v", stats, got)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestCancelled: a run that was interrupted before it began prints nothing and is no error.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	o := Options{DBC: []string{write(t, "car.dbc", carDBC)}, Capture: "-", Stdin: strings.NewReader("(1.5) can0 123#0102\n")}
	if err := Run(ctx, o, &out); err != nil || out.Len() != 0 {
		t.Errorf("%v %q", err, out.String())
	}
}

// TestSilentSource: an interrupted run does not wait for a source that says nothing.
func TestSilentSource(t *testing.T) {
	t.Parallel()
	dbc := write(t, "car.dbc", carDBC)
	for _, first := range []string{"", "(1.5) can0 123#0102\n"} {
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- Run(ctx, Options{DBC: []string{dbc}, Capture: "-", Stdin: r}, io.Discard)
		}()
		if first != "" {
			io.WriteString(w, first) // returns when it was read
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%q: %v", first, err)
		}
		w.Close() // ends the read that was left
	}
}

// TestCutShort: a gzip file without its end is decoded as far as it goes and is an error.
func TestCutShort(t *testing.T) {
	t.Parallel()
	var packed, out bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "(1.5) can0 123#0102\n")
	z.Flush()
	err := Run(t.Context(), Options{DBC: []string{write(t, "car.dbc", carDBC)}, Capture: "-", Stdin: &packed}, &out)
	if err == nil || !strings.Contains(err.Error(), "cut short") || !strings.Contains(out.String(), "1.5,can0,123,") {
		t.Errorf("%v %q", err, out.String())
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	o := Options{DBC: []string{write(t, "car.dbc", carDBC)}, JSON: true, Capture: "-", Stdin: strings.NewReader("(1.5) c\"0 123#FFFE\n(2.5) can0 123#0203\n")}
	if err := Run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	for d := json.NewDecoder(&out); ; {
		var row map[string]any
		if err := d.Decode(&row); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got = append(got, row)
	}
	if len(got) != 4 || got[0]["value"] != nil || got[0]["raw"] != 255.0 || got[0]["bus"] != `c"0` || got[1]["value"] != -2.0 || got[2]["value"] != 1.0 || got[2]["raw"] != nil {
		t.Errorf("%v", got)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	r := rows{}
	for name, want := range map[string]string{"a": "a", "a,b": `"a,b"`, `a"b`: `"a""b"`} {
		if got := r.quote(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
