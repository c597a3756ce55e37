package dbc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	einride "go.einride.tech/can/pkg/dbc"

	"rawstone/pkg/can"
	"rawstone/pkg/capturetest"
)

func parseFile(t testing.TB, path string) (*File, []Warning) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(path), data)
}

func gunzip(t testing.TB, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestCaptures decodes recorded drives and compares every row with what cantools decodes.
func TestCaptures(t *testing.T) {
	t.Parallel()
	dir := capturetest.Dir(t)
	for name, signals := range map[string][]string{
		"mustang":   {"OdometerMasterValue", "OdoCount", "OdoTripVerify_L_Actl", "Veh_V_ActlEng", "Veh_V_ActlBrk"},
		"obd2-trip": {"DistanceTrip", "DistanceTotal", "DistanceValid", "gnss_speed.Speed", "SpeedValid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, warnings := parseFile(t, filepath.Join(dir, name+".dbc"))
			if len(warnings) > 0 {
				t.Errorf("%d warnings: %v", len(warnings), warnings[0])
			}
			var wants []Want
			for tag, signal := range signals {
				wants = append(wants, Want{Signal: signal, Tag: tag})
			}
			plan, err := Compile(file, wants)
			if err != nil {
				t.Fatal(err)
			}
			rows := bufio.NewScanner(bytes.NewReader(gunzip(t, filepath.Join(dir, name+".expected.csv.gz"))))
			rows.Scan() // the heading
			log, err := can.OpenFile(filepath.Join(dir, name+".candump.log.gz"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			var frame can.Frame
			var readings []Reading
			n, absent := 0, 0
			for {
				if err := log.Next(&frame); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				bus := log.Buses()[frame.Bus]
				readings = plan.Decode(&frame, readings[:0])
				for _, r := range readings {
					n++
					if !rows.Scan() {
						t.Fatalf("row %d: none expected, got %s %v", n, signals[r.Tag()], r)
					}
					fields := strings.Split(rows.Text(), ",")
					value, err := strconv.ParseFloat(fields[4], 64)
					if err != nil {
						t.Fatal(err)
					}
					_, signal, qualified := strings.Cut(signals[r.Tag()], ".")
					if !qualified {
						signal = signals[r.Tag()]
					}
					got := fmt.Sprintf("%010d.%06d,%s,%s,%s", frame.Time/1e9, frame.Time/1e3%1e6, bus, frame.ID, signal)
					if want := strings.Join(fields[:4], ","); got != want || r.Physical != value {
						t.Fatalf("row %d: got %s %v, want %s", n, got, r.Physical, rows.Text())
					}
					if !r.Available() {
						absent++
					}
				}
			}
			if rows.Scan() {
				t.Errorf("after %d rows: expected %s", n, rows.Text())
			}
			if broken, first := log.Broken(); broken > 0 || n < 5000 || absent > 0 {
				t.Errorf("%d rows, %d not available, %d broken lines: %s", n, absent, broken, first)
			}
		})
	}
}

// TestTortureFiles reads DBC files of many tools and makers. Each must give a message or a warning for every BO_ line, the same
// for every SG_ line, and agree with einride's parser where that one understands the file.
func TestTortureFiles(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(capturetest.Dir(t)), "dbc", "*", "*.dbc"))
	if err != nil || len(paths) == 0 {
		t.Skipf("no DBC files beside the recorded drives: %v", err)
	}
	good, compared, total, warned := 0, 0, 0, 0
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
		file, warnings := Parse(name, data)
		skipped := map[int]bool{}
		for _, w := range warnings {
			skipped[w.Line] = skipped[w.Line] || strings.Contains(w.Reason, "is skipped")
		}
		lines, messages, signals, kept := 0, 0, 0, false // what the file must give, counted without understanding it
		for i, line := range strings.Split(string(data), "\n") {
			switch fields := strings.Fields(line); {
			case len(fields) < 3:
			case fields[0] == "BO_":
				if kept = !strings.HasPrefix(fields[2], "VECTOR__INDEPENDENT_SIG_MSG"); kept {
					lines++
				}
				if kept = kept && !skipped[i+1]; kept {
					messages++
				}
			case fields[0] == "SG_" && kept && !skipped[i+1]:
				signals++
			}
		}
		read := 0
		for _, m := range file.Messages {
			read += len(m.Signals)
		}
		if len(file.Messages) != messages || read != signals || lines > 0 && messages == 0 {
			t.Logf("%s: %d messages of %d, %d signals of %d, %v", name, len(file.Messages), messages, read, signals, warnings)
			continue
		}
		good++
		total += signals
		warned += len(warnings)
		if compareEinride(t, name, data, file) {
			compared++
		}
	}
	t.Logf("%d of %d files, %d signals, %d warnings; %d compared with einride's parser", good, len(paths), total, warned, compared)
	if good < 232 || compared < 150 {
		t.Errorf("%d of %d files were read, want 232; %d were compared, want 150", good, len(paths), compared)
	}
}

func compareEinride(t *testing.T, name string, data []byte, file *File) bool {
	p := einride.NewParser(name, data)
	if err := p.Parse(); err != nil {
		return false
	}
	var want, got []string
	for _, def := range p.Defs() {
		m, ok := def.(*einride.MessageDef)
		if !ok || uint64(m.MessageID) == independent {
			continue
		}
		want = append(want, fmt.Sprintf("%s %08X %d", m.Name, m.MessageID, m.Size))
		for _, s := range m.Signals {
			if s.Size <= 64 {
				want = append(want, fmt.Sprintf("%s.%s %d|%d %t %t (%v,%v) [%v|%v] %q %t", m.Name, s.Name, s.StartBit, s.Size, s.IsBigEndian,
					s.IsSigned, s.Factor, s.Offset, s.Minimum, s.Maximum, s.Unit, s.IsMultiplexerSwitch))
			}
		}
	}
	for _, m := range file.Messages {
		got = append(got, fmt.Sprintf("%s %08X %d", m.Name, uint32(m.ID), m.Length))
		for _, s := range m.Signals {
			got = append(got, fmt.Sprintf("%s.%s %d|%d %t %t (%v,%v) [%v|%v] %q %t", m.Name, s.Name, s.Start, s.Length, s.BigEndian,
				s.Signed, s.Scale, s.Offset, s.Min, s.Max, s.Unit, s.Multiplexor))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
	return true
}
