package problem

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestKinds: each kind has a name of its own, a sentence for a remedy and an error's status, and says the same in a problem and where it is
// explained.
func TestKinds(t *testing.T) {
	seen := make(map[string]bool)
	for _, k := range Kinds() {
		if k.Name() == "" || strings.Trim(k.Name(), "abcdefghijklmnopqrstuvwxyz-") != "" || seen[k.Name()] || seen[k.Title()] {
			t.Errorf("%q: name or title twice, or not in lower case", k.Name())
		}
		seen[k.Name()], seen[k.Title()] = true, true
		if k.Status() < 400 || k.Status() > 599 || !strings.HasSuffix(k.Remedy(), ".") || strings.HasSuffix(k.Title(), ".") {
			t.Errorf("%+v", k)
		}
		rec := httptest.NewRecorder()
		New(k, `a "detail"`).Write(rec)
		var d document
		if err := json.Unmarshal(rec.Body.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if want := (document{"/v1/problems/" + k.Name(), k.Title(), k.Status(), `a "detail"`, k.Remedy()}); d != want || rec.Code != k.Status() || rec.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%+v, want %+v", d, want)
		}
		d = document{}
		if err := json.Unmarshal(k.Explain(), &d); err != nil || d.Detail != "" || d.Type != k.Type() {
			t.Errorf("%+v %v", d, err)
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d names and titles", len(seen))
	}
}
