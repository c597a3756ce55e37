package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type mode string

type inner struct {
	Hidden string `yaml:"hidden"`
	Unit   string `yaml:"unit"`
}

// wide has a field of every kind that configurations use.
type wide struct {
	inner    `yaml:",inline"`
	Inner    `yaml:",inline"`
	Text     string            `yaml:"text"`
	Mode     mode              `yaml:"mode"`
	On       bool              `yaml:"on"`
	Small    uint8             `yaml:"small"`
	Signed   int16             `yaml:"signed"`
	Big      int64             `yaml:"big"`
	Ratio    float64           `yaml:"ratio"`
	Wait     time.Duration     `yaml:"wait"`
	Host     netip.Addr        `yaml:"host"`
	Files    []string          `yaml:"files"`
	Rows     []row             `yaml:"rows"`
	Scale    map[string]uint16 `yaml:"scale"`
	Plan     *row              `yaml:"plan"`
	Ignored  string            `yaml:"-"`
	private  int
	validate func(*Faults)
}

// Inner is exported, as an embedded struct must be for its fields to be set.
type Inner struct {
	Unit  string `yaml:"unit"`
	Valid string `yaml:"valid"`
}

type row struct {
	A int32 `yaml:"a"`
	B row2  `yaml:"b"`
}

type row2 struct {
	C string `yaml:"c"`
}

func (w *wide) Validate(f *Faults) {
	if w.validate != nil {
		w.validate(f)
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// TestEveryFaultAtOnce mixes all kinds of faults and wants them all, in the order of the text.
func TestEveryFaultAtOnce(t *testing.T) {
	text := strings.Join([]string{
		"text: {a: 1}",                   // 1: mapping for text
		"tixt: x",                        // 2: unknown
		"on: yes",                        // 3: text for bool
		"small: 256",                     // 4: overflow
		"signed: 1.5",                    // 5: fraction for whole number
		"wait: 5",                        // 6: no unit
		"files: x",                       // 7: text for list
		"rows:",                          // 8
		"  - a: many",                    // 9: text for number
		"    d: 1",                       // 10: unknown
		"    a: 2",                       // 11: repeated
		"  - {a: 7, b: {c: [1]}, e: {}}", // 12: list for text, unknown
		"  - 3",                          // 13: text for mapping
		"scale: {x: 1, x: 2, y: -1}",     // 14: repeated, below 0
		"host: here",                     // 15: no address
		"plan: []",                       // 16: list for mapping
		"text: again",                    // 17: repeated
		"ratio: 3",                       // 18
		"big: 9223372036854775808",       // 19: overflow
	}, "\n")
	w := &wide{Text: "default", Inner: Inner{Valid: "default"}, Files: []string{"default"}, Small: 9, validate: func(f *Faults) {
		f.Add("$", "whole")
		f.Add("$.text", "text")
		f.Add("$.files[0]", "part")
		f.Add("$.rows", "container")
		f.Add("$.rows[1].a", "seven")
		f.Add("$.ratio", "ratio")
		f.Add("$.filesystem", "default")
	}}
	got := lines(Decode("f.yaml", []byte(text), w))
	want := []string{
		"cannot use configuration:",
		"f.yaml: filesystem: default",
		"f.yaml:1:7: text: want text, have a mapping",
		"f.yaml:2:1: tixt: unknown key; the keys here are big, files, host, mode, on, plan, ratio, rows, scale, signed, small, text, unit, valid, wait",
		`f.yaml:3:5: on: want true or false, have "yes"`,
		`f.yaml:4:8: small: want a whole number from 0 to 255, have "256"`,
		`f.yaml:5:9: signed: want a whole number from -32768 to 32767, have "1.5"`,
		`f.yaml:6:7: wait: want a duration such as 1m30s, have "5"`,
		`f.yaml:7:8: files: want a list, have "x"`,
		`f.yaml:9:8: rows[0].a: want a whole number from -2147483648 to 2147483647, have "many"`,
		"f.yaml:10:5: rows[0].d: unknown key; the keys here are a, b",
		"f.yaml:11:5: rows[0].a: the key is repeated: leave one",
		"f.yaml:12:9: rows[1].a: seven",
		"f.yaml:12:19: rows[1].b.c: want text, have a list",
		"f.yaml:12:25: rows[1].e: unknown key; the keys here are a, b",
		`f.yaml:13:5: rows[2]: want a mapping of keys, have "3"`,
		"f.yaml:14:15: scale.x: the key is repeated: leave one",
		`f.yaml:14:24: scale.y: want a whole number from 0 to 65535, have "-1"`,
		`f.yaml:15:7: host: ParseAddr("here"): unable to parse IP`,
		"f.yaml:16:7: plan: want a mapping of keys, have a list",
		"f.yaml:17:1: text: the key is repeated: leave one",
		"f.yaml:18:8: ratio: ratio",
		`f.yaml:19:6: big: want a whole number from -9223372036854775808 to 9223372036854775807, have "9223372036854775808"`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// What could not be decoded holds its default, what could be is there.
	if w.Text != "default" || w.Small != 9 || w.Valid != "default" || len(w.Files) != 1 || w.Plan != nil || w.Ratio != 3 || len(w.Rows) != 3 || w.Rows[1].A != 7 {
		t.Errorf("%+v", w)
	}
}

func TestValues(t *testing.T) {
	w := &wide{Text: "default", Ignored: "default", Plan: &row{A: 1, B: row2{"default"}}, Files: []string{"a", "b", "c"}, Scale: map[string]uint16{"old": 1}}
	text := `# comment
text:
mode: "replay"
on: true
small: 0x10
signed: -32768
big: 9223372036854775807
ratio: 1e-6
wait: 1m30s
host: 127.0.0.1
files: [6.10, 0123, true, ~, 'q: "x"', "été"]
unit: km
rows:
- a: 1
- a: -2
  b:
    c: |
      two
      lines
scale: {a.b: 1, "with space": 65535}
plan:
  a: 5
`
	if err := Decode("f.yaml", []byte(text), w); err != nil {
		t.Fatal(err)
	}
	want := &wide{
		Text: "default", Ignored: "default", Mode: "replay", On: true, Small: 16, Signed: -32768, Big: 1<<63 - 1, Ratio: 1e-6, Wait: 90 * time.Second,
		Host: netip.MustParseAddr("127.0.0.1"), Files: []string{"6.10", "0123", "true", "", `q: "x"`, "été"}, Inner: Inner{Unit: "km"},
		Rows: []row{{A: 1}, {A: -2, B: row2{"two\nlines\n"}}}, Scale: map[string]uint16{"a.b": 1, "with space": 65535},
		Plan: &row{A: 5, B: row2{"default"}},
	}
	if d := cmp.Diff(want, w, cmp.AllowUnexported(wide{}, inner{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.FilterPath(
		func(p cmp.Path) bool { return p.Last().String() == ".validate" }, cmp.Ignore())); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestNumbers takes numbers for what they are written as, and nothing for a number that is none.
func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"ratio: 1.5e3": "", "ratio: -2": "", "ratio: 1_000.5": "", "ratio: .inf": "a number", "ratio: inf": "a number", "ratio: nan": "a number", "ratio: .nan": "a number",
		"ratio: 1e999": "a number", `ratio: "1.5"`: "a number", "ratio: true": "a number", "big: 1e3": "a whole number", "big: 2.0": "a whole number",
		`big: "2"`: "a whole number", "big: true": "a whole number", "small: -1": "a whole number", "on: 1": "true or false", "on: True": "", `on: "true"`: "true or false",
		"big: 0o17": "", "big: 1_000": "", "wait: 0": "", "wait: -1h": "", "wait: 1d": "a duration",
	} {
		err := Decode("f.yaml", []byte(text), new(wide))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), ": want "+want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestForm refuses what a small text may hide a large one in, before it is read.
func TestForm(t *testing.T) {
	deep := func(n int, open, end string) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	for name, c := range map[string]struct{ text, want string }{
		"anchor and alias": {"text: &a x\nmode: *a\n", "f.yaml:1:7: anchors and aliases"},
		"aliases":          {"text: &a x\nmode: *a\n", "f.yaml:2:7: anchors and aliases"},
		"merge key":        {"plan: {a: 1}\nrows:\n  - <<: {a: 2}\n", "f.yaml:3:5: merge keys"},
		"tag":              {"text: !!str 5\n", "f.yaml:1:7: tags"},
		"flow depth":       {"files: " + deep(100, "[", "]"), "nests deeper than 32"},
		"flow bomb":        {deep(maxLen/2-1, "[", ""), "nests deeper than 32"},
		"mapping bomb":     {deep(maxLen/4-1, "{a: ", ""), "nests deeper than 32"},
		"sequence bomb":    {deep(maxLen/2-1, "- ", ""), "nests deeper than 32"},
		"key bomb":         {deep(maxLen/2-1, "? ", ""), "nests deeper than 32"},
		"two documents":    {"text: a\n---\ntext: b\n", "f.yaml:3:5: begins a second document"},
		"syntax":           {"text: a\nmode: [b\n", "f.yaml:2:7: "},
		"encoding":         {"text: \xff\n", "f.yaml: is not UTF-8"},
		"length":           {strings.Repeat(" ", maxLen+1), "f.yaml: more than 1048576 bytes"},
		"root":             {"- a\n", "f.yaml:1:1: want a mapping of keys, have a list"},
		"long key":         {strings.Repeat("k", maxKeyLen+1) + ": 1\n", "f.yaml:1:1: a key here is longer than 256 bytes"},
		"unprintable key":  {"\"a\\nb\": 1\n", `f.yaml:1:1: key "a\nb" is no plain text`},
		"complex key":      {"text: a\n? mode\n: b\n", "f.yaml:2:1: a key here is no plain text"},
		"mapping as key":   {"? {a: 1}\n: b\n", "f.yaml:2:1: "},
	} {
		err := Decode("f.yaml", []byte(c.text), new(wide))
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q is not in\n%.300v", name, c.want, err)
		}
	}
	block := ""
	for i := range 40 {
		block += strings.Repeat(" ", i) + "a:\n"
	}
	if err := Decode("f.yaml", []byte(block), new(wide)); err == nil || !strings.Contains(err.Error(), "f.yaml:33:33: nests deeper than 32") {
		t.Errorf("block depth: %v", err)
	}
	for _, text := range []string{"", "# nothing\n", "---\n", "~\n", "text: a\n---\n"} {
		if err := Decode("f.yaml", []byte(text), new(wide)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestManyFaults(t *testing.T) {
	var text strings.Builder
	for i := range 3 * maxFaults {
		fmt.Fprintf(&text, "k%d: 1\n", i)
	}
	got := lines(Decode("f.yaml", []byte(text.String()), &wide{validate: func(*Faults) { t.Error("validated") }}))
	if len(got) != maxFaults+2 || !strings.HasPrefix(got[1], "f.yaml:1:1: k0:") || got[maxFaults+1] != fmt.Sprintf("and %d more", 2*maxFaults) {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}

// FuzzDecode wants no panic, the same twice, a position or a name in each line of a refusal, and nothing that was there to be lost when the
// text says nothing.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		"", "text: a\non: true\nsmall: 3\n", "rows: [{a: 1, b: {c: x}}]\nplan: {a: 1}\n", "rows:\n- a: 1\n  a: 2\n- 4\n", "scale: {a: 1, b: c}\n",
		"files: [1, 0x2, ~, 'a']\nwait: 1s\nhost: ::1\n", "a: &b c\nd: *b\n", "<<: {a: 1}\n", "? a\n: b\n", "text: |\n  a\n  b\n", "{text: a, mode: b}",
		"--- a\n--- b\n", "text: \"\\x41\"\n", "[[[[", "- - -", "{a", "text: >-\n a", "1: 2", "~: 1", "? [a]\n: b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		one, two := &wide{Text: "default", Plan: &row{A: 1}}, &wide{Text: "default", Plan: &row{A: 1}}
		err, again := Decode("f.yaml", []byte(text), one), Decode("f.yaml", []byte(text), two)
		if fmt.Sprint(err) != fmt.Sprint(again) {
			t.Fatalf("%v\nand then\n%v", err, again)
		}
		if one.Text != two.Text || len(one.Rows) != len(two.Rows) {
			t.Fatal("two readings differ")
		}
		if one.Ignored != "" || one.private != 0 || one.Hidden != "" {
			t.Fatal("set what has no key")
		}
		for i, line := range lines(err) {
			if i > 0 && !strings.HasPrefix(line, "f.yaml:") && !strings.HasPrefix(line, "and ") {
				t.Fatalf("line %d of the refusal is %q", i, line)
			}
		}
	})
}

// outer has a key of its own that an inline struct has too.
type outer struct {
	Inner `yaml:",inline"`
	Valid string `yaml:"valid"`
}

func (*outer) Validate(*Faults) {}

func TestInlineGivesWay(t *testing.T) {
	var o outer
	if err := Decode("f.yaml", []byte("valid: a\nunit: b\n"), &o); err != nil || o.Valid != "a" || o.Inner.Valid != "" || o.Unit != "b" {
		t.Errorf("%+v, %v", o, err)
	}
}
