package role

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for s := Set(1); s <= All|Validator; s++ {
		got, err := Parse(s.List())
		if err != nil || got != s || strings.Join(got.List(), ",") != s.String() {
			t.Errorf("%04b comes back as %04b, %v", s, got, err)
		}
	}
	for text, want := range map[string]string{"": "empty", "brokers": "the roles are broker, ingest, settle, web, validator", "web,web": "twice", "web,": "the roles are"} {
		var names []string
		if text != "" {
			names = strings.Split(text, ",")
		}
		if s, err := Parse(names); err == nil || !strings.Contains(err.Error(), want) || s != 0 {
			t.Errorf("%q is %v, %v; want %q", text, s, err, want)
		}
	}
}

func TestSets(t *testing.T) {
	s := Broker | Web
	if !s.Has(Web) || s.Has(Web|Settle) || !s.Any(Web|Settle) || s.Any(Ingest|Settle) || s.String() != "broker,web" || !All.Has(s) || All.Any(Validator) {
		t.Errorf("%v", s)
	}
}
