package lang

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		chosen, accepts string
		want            Lang
	}{
		{"", "", English}, {"zh-Hans", "en", Chinese}, {"en", "zh-CN", English}, {"fr", "zh-CN,zh;q=0.9,en;q=0.8", Chinese},
		{"", "de-DE,de;q=0.9", English}, {"", "en-GB,zh;q=0.5", English}, {"", "zh", Chinese}, {"", "zh-Hant-TW", Chinese},
		{"<script>", ";;;q=", English}, {"", strings.Repeat("zh,", 10_000), Chinese},
	} {
		if got := Choose(c.chosen, c.accepts); got != c.want {
			t.Errorf("chosen %q, accepts %.40q: %s, want %s", c.chosen, c.accepts, got, c.want)
		}
	}
}

func TestSay(t *testing.T) {
	c, err := Read([]byte(`{"Vehicles": "车辆", "%d of %s": "%d / %s"}`))
	if err != nil {
		t.Fatal(err)
	}
	for want, got := range map[string]string{
		"Vehicles": c.Say(English, "Vehicles"), "车辆": c.Say(Chinese, "Vehicles"), "3 / x": c.Say(Chinese, "%d of %s", 3, "x"),
		"3 of x": c.Say(English, "%d of %s", 3, "x"), "95 % sure": c.Say(Chinese, "95 % sure"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, bad := range []string{`[]`, `{"a": 1}`, `{"a %d": "b %s"}`, `{"a %d": "b"}`, `{"a": ""}`, `{"%d %s": "%s %d"}`} {
		if _, err := Read([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestSaid(t *testing.T) {
	got := Said("{{t \"One \\\"two\\\"\"}} {{if (t `Three`)}} {{ t \"Four %d\" .N}} {{printf \"no\"}} {{cut \"no\"}}")
	if d := cmp.Diff([]string{`One "two"`, "Three", "Four %d"}, got); d != "" {
		t.Error(d)
	}
	c, _ := Read([]byte(`{"Three": "三"}`))
	if d := cmp.Diff([]string{`One "two"`, "Four %d"}, c.Missing(append(got, got...))); d != "" {
		t.Error(d)
	}
}

func FuzzChoose(f *testing.F) {
	f.Add("zh", "en;q=0.3,*")
	f.Fuzz(func(t *testing.T, chosen, accepts string) {
		if l := Choose(chosen, accepts); l != English && l != Chinese {
			t.Error(l)
		}
	})
}
