package dbc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

func TestParse(t *testing.T) {
	t.Parallel()
	text := `VERSION "1"
NS_ :
	NS_DESC_
	CM_
	BA_
	VAL_
	SG_MUL_VAL_
BS_:
BU_: ECU Gateway
// a comment
VAL_TABLE_ OnOff 1 "on" 0 "off" ;
BO_ 291 Engine: 8 ECU // 0x123
 SG_ Speed : 7|16@0+ (0.01,-5) [0|655.35] "km/h" Gateway,Other
	SG_  Temp:16|8@1- ( 1.5E+00 , -40 ) [ -40 | 1e+2 ] "` + "\xb0C" + `" Vector__XXX
 SG_ Ratio : 32|32@1- (1,0) [0|0] "" ECU

BO_ 2566844926 CCVS1 : 64 Vector__XXX
 SG_ Kind M : 0|4@1+ (1,0) [0|15] "" ECU
 SG_ A m0 : 8|8@1+ (1,0) [0|0] "" ECU
 SG_ B m1M : 8|8@1+ (1,0) [0|0] "" ECU
 SG_ C m7 : 16|8@1+ (1,0) [0|0] "" ECU
BO_ 3221225472 VECTOR__INDEPENDENT_SIG_MSG: 0 Vector__XXX
 SG_ Lost : 0|8@1+ (1,0) [0|0] "" Vector__XXX
BO_TX_BU_ 291 : ECU,Gateway;
CM_ SG_ 291 Speed "over
several lines; with a semicolon

and a \"quote\"";
CM_ "C:\path\";
BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN";
VAL_ 291 Temp 255 "SNA" -1 "minus \"one\""
  3.0 "three" ;
VAL_ 2566844926 A OnOff ;
VAL_ EnvironmentVariable 0 "zero" ;
VAL_ 3221225472 Lost 0 "zero" ;
SIG_VALTYPE_ 291 Ratio : 1 ; SIG_VALTYPE_ 291 Speed 0;
SG_MUL_VAL_ 2566844926 C B 1-3, 5-5,9 ;
`
	want := &File{Messages: []*Message{
		{ID: 0x123, Name: "Engine", Length: 8, Signals: []*Signal{
			{Name: "Speed", Start: 7, Length: 16, BigEndian: true, Scale: 0.01, Offset: -5, Max: 655.35, Unit: "km/h"},
			{Name: "Temp", Start: 16, Length: 8, Signed: true, Scale: 1.5, Offset: -40, Min: -40, Max: 100, Unit: "°C",
				Values: map[int64]string{255: "SNA", -1: `minus "one"`, 3: "three"}},
			{Name: "Ratio", Start: 32, Length: 32, Signed: true, Float: true, Scale: 1},
		}},
		{ID: 0x18FEF1FE | can.Extended, Name: "CCVS1", Length: 64, Signals: []*Signal{
			{Name: "Kind", Length: 4, Scale: 1, Max: 15, Multiplexor: true},
			{Name: "A", Start: 8, Length: 8, Scale: 1, Mux: &Mux{"Kind", []Range{{0, 0}}}, Values: map[int64]string{1: "on", 0: "off"}},
			{Name: "B", Start: 8, Length: 8, Scale: 1, Multiplexor: true, Mux: &Mux{"Kind", []Range{{1, 1}}}},
			{Name: "C", Start: 16, Length: 8, Scale: 1, Mux: &Mux{"B", []Range{{1, 3}, {5, 5}, {9, 9}}}},
		}},
	}}
	for _, end := range []string{"\n", "\r\n", "\r"} {
		file, warnings := Parse("x.dbc", []byte("\xef\xbb\xbf"+strings.ReplaceAll(text, "\n", end)))
		if diff := cmp.Diff(want, file); diff != "" || len(warnings) > 0 {
			t.Errorf("line end %q: %v\n%s", end, warnings, diff)
		}
	}
}

// TestParseWarnings: each bad line costs itself, says so with its number, and the good signal behind it is read.
func TestParseWarnings(t *testing.T) {
	t.Parallel()
	const head = "BO_ 1 First: 8 X\n SG_ One : 0|8@1+ (1,0) [0|0] \"\" X\n"
	const tail = "\nBO_ 2 Last: 8 X\n SG_ Two : 0|8@1+ (1,0) [0|0] \"\" X\n"
	sg := func(middle string) string { return " SG_ Bad " + middle + ` "" X` }
	tests := []struct {
		text   string
		keeps  string // signals beside One and Two
		reason string // of the only warning, on line 3 unless it says
	}{
		{"junk in the file", "", "no keyword"},
		{"BO_ x Bad: 8 X\n SG_ Lost : 0|8@1+ (1,0) [0|0] \"\" X", "", "write BO_ id name"},
		{"BO_ 5 Bad 8x", "", ""},
		{"BO_ 5 " + strings.Repeat("n", 257) + ": 8 X", "", "write BO_ id name"},
		{"BO_ 5 Bad: X", "", "write BO_ id name"},
		{"BO_ 99999999999999999999 Bad: 8 X", "", "write BO_ id name"},
		{"BO_ 3221225472 Nobody: 0 X\n SG_ Lost : 0|8@1+ (1,0) [0|0] \"\" X", "", ""},
		{"BO_ 536870912 Bad: 8 X\n SG_ Lost : 0|8@1+ (1,0) [0|0] \"\" X", "", "more than 29 bits"},
		{"BO_ 4294967295 Bad: 8 X", "", "more than 29 bits"},
		{"BO_ 4294967296 Bad: 8 X", "", "more than 29 bits"},
		{"BO_ 2048 Ext: 8 X\n" + sg(": 0|8@1+ (1,0) [0|0]"), "Bad", "read as an extended one"},
		{"BO_ 1 Again: 8 X\n" + sg(": 0|8@1+ (1,0) [0|0]"), "Bad", "both are kept"},
		{"BO_ 5 Same: 8 X SG_ Lost : 0|8@1+ (1,0) [0|0] \"\" X", "", "a line of its own"},
		{"/* BO_ 5 Out: 8 X\n" + sg(": 0|8@1+ (1,0) [0|0]") + "\n*/", "", ""},
		{"/* never closed", "", "no keyword"},
		{sg("0|8@1+ (1,0) [0|0]"), "", "write SG_ name"},
		{sg(": 0|8 @1 (1,0) [0|0]"), "", "write SG_ name"},
		{sg(": 0|8@2+ (1,0) [0|0]"), "", "write SG_ name"},
		{sg(": -1|8@1+ (1,0) [0|0]"), "", "write SG_ name"},
		{sg(": 0|8@1+ (1;0) [0|0]"), "", "write SG_ name"},
		{sg(": 0|8@1+ (1,0) 0|0"), "", "write SG_ name"},
		{sg("x1 : 0|8@1+ (1,0) [0|0]"), "", "write SG_ name"},
		{sg("m1x : 0|8@1+ (1,0) [0|0]"), "", "write SG_ name"},
		{sg("mM : 0|8@1+ (1,0) [0|0]"), "", "write SG_ name"},
		{" SG_ Bad : 0|8@1+ (1,0) [0|0] X", "", "write SG_ name"},
		{" SG_ Bad : 0|8@1+ (1,0) [0|0] \"x", "", "write SG_ name"},
		{sg(": 0|8@1+ (nan,0) [0|0]"), "", "finite decimal"},
		{sg(": 0|8@1+ (1,0) [0|1e999]"), "", "finite decimal"},
		{sg(": 0|8@1+ (0x1p3,0) [0|0]"), "", "write SG_ name"},
		{sg(": 0|0@1+ (1,0) [0|0]"), "", "not 0"},
		{sg(": 0|65@1+ (1,0) [0|0]"), "", "not 65"},
		{sg(": 0|99999999999@1+ (1,0) [0|0]"), "", "can be decoded"},
		{sg(": 505|8@1+ (1,0) [0|0]"), "", "within 64 bytes"},
		{sg(": 504|9@0+ (1,0) [0|0]"), "", "within 64 bytes"},
		{sg(": 60|8@1+ (1,0) [0|0]"), "Bad", "byte 9 of a message of 8"},
		{" SG_ One : 8|8@1+ (1,0) [0|0] \"\" X", "", "has one of that name"},
		{sg("m : 0|8@1+ (1,0) [0|0]") + "\n SG_ Dep m1 : 8|8@1+ (1,0) [0|0] \"\" X", "Bad Dep", "read as M"},
		{sg("m1 : 0|8@1+ (1,0) [0|0]"), "Bad", "0 signals marked M"},
		{" SG_ 2-name : 0|8@1+ (1,0) [0|0] \"\" X", "2-name", ""},
		{"VAL_ 1 One 0 \"zero\"", "", ""}, // no semicolon, and the next statement follows
		{"VAL_ 1 One 0 \"zero\" 1 ;", "", "ends after 1 entries"},
		{"VAL_ 1 One 0 \"zero\" 1.5 \"x\" ;", "", "ends after 1 entries"},
		{"VAL_ 1 One NoTable ;", "", "ends after 0 entries"},
		{"VAL_ 1 ;", "", "write VAL_ id signal"},
		{"VAL_ 1 None 0 \"zero\" ;", "", "no message 1 with a signal \"None\""},
		{"VAL_ 77 One 0 \"zero\" ;", "", "no message 77"},
		{"VAL_TABLE_ 0 \"zero\" ;", "", "ends after 0 entries"},
		{"VAL_TABLE_ \"zero\" ;", "", "write VAL_TABLE_"},
		{"CM_ BO_ 1 \"never closed;", "", "not closed"},
		{"CM_ BO_ 1 \"never closed;\nBA_ \"x\" 1;", "", "not closed"},
		{"SIG_VALTYPE_ 1 One : 1;", "", "stays an integer"},
		{"SIG_VALTYPE_ 1 One : x;", "", "stays an integer"},
		{"SG_MUL_VAL_ 1 One One 1-1;", "", "no other signal"},
		{"SG_MUL_VAL_ 1 One None 1-1;", "", "no other signal"},
		{"SG_MUL_VAL_ 1 One;", "", "write SG_MUL_VAL_"},
		{"SG_MUL_VAL_ 1 One X 3-2;", "", "write SG_MUL_VAL_"},
		{"SG_MUL_VAL_ 1 One X 1-1" + strings.Repeat(",1-1", maxRanges) + ";", "", "at most 256 ranges"},
	}
	for _, test := range tests {
		file, warnings := Parse("x.dbc", []byte(head+test.text+tail))
		var names []string
		for _, m := range file.Messages {
			for _, s := range m.Signals {
				names = append(names, s.Name)
			}
		}
		if want := strings.Fields("One " + test.keeps + " Two"); !cmp.Equal(want, names) {
			t.Errorf("%q: signals %q, want %q", test.text, names, want)
		}
		if test.reason == "" && len(warnings) == 0 {
			continue
		}
		if len(warnings) != 1 || test.reason == "" || !strings.HasPrefix(warnings[0].String(), "x.dbc:3: ") || !strings.Contains(warnings[0].Reason, test.reason) {
			t.Errorf("%q: %v; want %q on line 3", test.text, warnings, test.reason)
		}
	}
	if _, warnings := Parse("x.dbc", []byte(sg(": 0|8@1+ (1,0) [0|0]"))); len(warnings) != 1 || !strings.Contains(warnings[0].Reason, "follows no BO_ line") {
		t.Error(warnings)
	}
	file, warnings := Parse("x.dbc", []byte("BO_ 1 A: 8 X\n SG_ S m0 : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ M1 M : 8|8@1+ (1,0) [0|0] \"\" X\n SG_ M2 M : 16|8@1+ (1,0) [0|0] \"\" X\n"))
	if len(warnings) != 1 || warnings[0].Line != 2 || file.Messages[0].Signals[0].Mux.Switch != "" {
		t.Errorf("two switches: %v", warnings)
	}
}

func TestParseLines(t *testing.T) {
	t.Parallel()
	_, warnings := Parse("x.dbc", []byte("CM_ \"one\ntwo\n\nfour\"; junk here\nmore junk\n\nVAL_TABLE_ T 0\n \"zero\" ;CM_ \"a\"; CM_ \"b\";\nlast junk\n/* one\n */ fine /*\n */ BO_"))
	var lines []int
	for _, w := range warnings {
		lines = append(lines, w.Line)
	}
	if !slices.Equal(lines, []int{4, 5, 9, 11, 12}) {
		t.Error(warnings)
	}
}

func TestParseOrder(t *testing.T) {
	t.Parallel()
	file, warnings := Parse("x.dbc", []byte(`VAL_ 1 S 0 "zero";
SIG_VALTYPE_ 1 S : 1;
VAL_ 1 T Names;
BO_ 1 A: 8 X
 SG_ S : 0|32@1+ (1,0) [0|0] "" X
 SG_ T : 32|8@1+ (1,0) [0|0] "" X
VAL_TABLE_ Names 3 "three";`))
	signals := file.Messages[0].Signals
	if len(warnings) > 0 || signals[0].Values[0] != "zero" || !signals[0].Float || signals[1].Values[3] != "three" {
		t.Errorf("%v %+v %+v", warnings, signals[0], signals[1])
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	file, warnings := Parse("x.dbc", make([]byte, MaxFile+1))
	if len(file.Messages) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Reason, "16 MiB") {
		t.Errorf("too large: %v", warnings)
	}
	var text strings.Builder
	for i := range MaxMessages + 1 {
		fmt.Fprintf(&text, "BO_ %d M: 8 X\n", 1<<31+i)
	}
	file, warnings = Parse("x.dbc", []byte(text.String()))
	if len(file.Messages) != MaxMessages || len(warnings) != 1 {
		t.Errorf("%d messages, %v", len(file.Messages), warnings)
	}
	text.Reset()
	text.WriteString("BO_ 1 M: 8 X\n")
	for i := range MaxSignals + 1 {
		fmt.Fprintf(&text, "SG_ %d : 0|8@1+ (1,0) [0|0] \"\" X\n", i)
	}
	file, warnings = Parse("x.dbc", []byte(text.String()))
	if len(file.Messages[0].Signals) != MaxSignals || len(warnings) != 1 {
		t.Errorf("%d signals, %v", len(file.Messages[0].Signals), warnings)
	}
	text.Reset()
	text.WriteString("BO_ 1 M: 8 X\n SG_ S : 0|32@1+ (1,0) [0|0] \"\" X\nVAL_ 1 S ")
	for i := range MaxValues + 1 {
		fmt.Fprintf(&text, "%d \"\" ", i)
	}
	file, warnings = Parse("x.dbc", []byte(text.String()+";"))
	if len(file.Messages[0].Signals[0].Values) != MaxValues || len(warnings) != 1 {
		t.Errorf("%d values, %v", len(file.Messages[0].Signals[0].Values), warnings)
	}
	file, warnings = Parse("x.dbc", []byte(strings.Repeat("BO_ 1 M: 8 X\n", maxSameID+1)))
	if len(file.Messages) != maxSameID || len(warnings) != maxSameID {
		t.Errorf("%d messages with one identifier, %v", len(file.Messages), warnings)
	}
	_, warnings = Parse("x.dbc", []byte(strings.Repeat("some junk\n", maxWarnings+5)))
	if len(warnings) != maxWarnings+1 || warnings[maxWarnings].Reason != "5 more warnings are not listed" {
		t.Errorf("%d warnings, last %v", len(warnings), warnings[len(warnings)-1])
	}
	_, warnings = Parse("x.dbc", []byte("BO_ 1 M: 8 X\n SG_ S : 0|8@1+ (1,0) [0|0] \"\" X\n"+strings.Repeat("VAL_ 1 S 0 \"\";\n", maxReferences+1)))
	if len(warnings) != 1 || warnings[0].Line != maxReferences+3 {
		t.Errorf("references: %v", warnings)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("BO_ 1 A: 8 X\n SG_ S m1M : 0|8@1+ (1,0) [0|0] \"\" X\nVAL_ 1 S 0 \"a\\\"\" 1 \"b\";\nSG_MUL_VAL_ 1 S S 0-1;"))
	f.Add([]byte("CM_ \"a\nb\\\";\nBO_ 2566844926 B: 64 X\n\tSG_ T M : 7|64@0- (-1e3,+.5) [1|-1] \"\xb0\" X\nSIG_VALTYPE_ 2566844926 T : 2;"))
	f.Add([]byte("NS_ :\n CM_\nVAL_TABLE_ N -1 \"x\" 18446744073709551615 \"y\";\nVAL_ 1 S N;BO_ 5 C : 1\nSG_ U : 3|1@1+(1,0)[0|0]\"\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, warnings := Parse("fuzz", data)
		if len(warnings) > maxWarnings+1 {
			t.Fatalf("%d warnings", len(warnings))
		}
		var wants []Want
		var signals []*Signal
		for _, m := range file.Messages {
			if !m.ID.Valid() || m.Name == "" || m.Length < 0 {
				t.Fatalf("message %+v", m)
			}
			for _, s := range m.Signals {
				wants = append(wants, Want{Signal: m.Name + "." + s.Name, Tag: len(signals)})
				signals = append(signals, s)
			}
		}
		// What compiles decodes as the slow way does.
		plan, err := Compile(file, wants)
		if err != nil || len(wants) > 1000 {
			return
		}
		for _, filter := range plan.Filters() {
			frame := can.Frame{ID: filter.ID, Flags: can.FD, Len: can.MaxData}
			for i := range frame.Data {
				frame.Data[i] = byte(i * 37)
			}
			for _, r := range plan.Decode(&frame, nil) {
				if want := slowBits(signals[r.Tag()], &frame); r.Raw != want {
					t.Fatalf("%+v: %x, want %x", signals[r.Tag()], r.Raw, want)
				}
			}
		}
	})
}
