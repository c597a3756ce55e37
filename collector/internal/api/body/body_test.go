package body

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

type sample struct {
	name   string
	amount uint64
	bytes  []byte
	hash   [32]byte
}

func (s *sample) read(b []byte) error {
	return Object(b, map[string]Field{
		"name": Text(&s.name, 8), "amount": Number(&s.amount, 1, 1000), "bytes": Bytes(&s.bytes, 4), "hash": Hash(&s.hash),
	}, "name")
}

func TestObject(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	var s sample
	if err := s.read([]byte(` {"name":"a","amount":1000,"bytes":"AQIDBA==","hash":"` + hash + `"} ` + "\n")); err != nil {
		t.Fatal(err)
	}
	if s.name != "a" || s.amount != 1000 || string(s.bytes) != "\x01\x02\x03\x04" || s.hash[0] != 0xab {
		t.Errorf("%+v", s)
	}
	for text, want := range map[string]string{
		``: "object", `null`: "object", `[]`: "object", `"name"`: "object", `{`: "not JSON", `{"name":"a"`: "not JSON", `{"name"`: "not JSON", `{"name":`: "not JSON", `{"name":"a",}`: "not JSON",
		`{"name":"a"}{}`: "follows", `{"name":"a"} x`: "follows", "{\"name\":\"\xff\"}": "UTF-8",
		`{}`: `lacks the key "name"`, `{"name":"a","name":"a"}`: "twice", `{"name":"a","\u006eame":"b"}`: "twice",
		`{"Name":"a"}`: "unknown key", `{"name":"a","milli":1}`: `unknown key "milli"`,
		`{"name":""}`: "1 to 8", `{"name":"123456789"}`: "1 to 8", `{"name":1}`: "1 to 8", `{"name":null}`: "1 to 8", `{"name":{"a":1}}`: "1 to 8", `{"name":[1]}`: "1 to 8",
		`{"name":"a\u0000"}`: "ASCII", `{"name":"ä"}`: "ASCII", `{"name":"\u007f"}`: "ASCII", `{"name":"\n"}`: "ASCII",
		`{"name":"a","amount":0}`: "0, want", `{"name":"a","amount":1001}`: "1001", `{"name":"a","amount":-1}`: "-1, want", `{"name":"a","amount":-0}`: "want",
		`{"name":"a","amount":1.0}`: "want", `{"name":"a","amount":1e2}`: "want", `{"name":"a","amount":"1"}`: "not a number", `{"name":"a","amount":true}`: "not a number",
		`{"name":"a","amount":18446744073709551617}`:              "18446744073709551617",
		`{"name":"a","amount":-9223372036854775809}`:              "-9223372036854775809",
		`{"name":"a","amount":` + strings.Repeat("9", 5000) + `}`: "want",
		`{"name":"a","bytes":"AQIDBAU="}`:                         "base64",
		`{"name":"a","bytes":""}`:                                 "base64",
		`{"name":"a","bytes":"AQ"}`:                               "base64",
		`{"name":"a","bytes":"AR=="}`:                             "base64", // bits that are no data
		`{"name":"a","bytes":"A\nQ=="}`:                           "base64",
		`{"name":"a","hash":"` + strings.ToUpper(hash) + `"}`:     "hexadecimal",
		`{"name":"a","hash":"` + hash[2:] + `"}`:                  "hexadecimal",
		`{"name":"a","hash":"` + strings.Repeat("0", 64) + `"}`:   "hexadecimal",
		`{"` + strings.Repeat("k", 9000) + `":1}`:                 "unknown key",
		`{"name":"a"}` + strings.Repeat(" ", MaxLen):              "more than",
	} {
		s := sample{}
		err := s.read([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		} else if len(err.Error()) > 200 {
			t.Errorf("%.60s: an error of %d bytes", text, len(err.Error()))
		}
	}
}

func TestNumberBound(t *testing.T) {
	for text, good := range map[string]bool{"9007199254740991": true, "9007199254740992": false, "0": true, "00": false, "+1": false, "": false, "18446744073709551615": false} {
		if v, err := ParseNumber(text, 0, 1<<63); (err == nil) != good {
			t.Errorf("%s: %d, %v", text, v, err)
		}
	}
}

// FuzzObject: what is accepted is JSON for everybody else too, with the same values, and is accepted again as any library writes it.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"name":"a","amount":1,"bytes":"AQ==","hash":"` + strings.Repeat("01", 32) + `"}`))
	f.Add([]byte(`{"name":"\ud800","amount":1}`))
	f.Add([]byte(`{"name":"a","amount":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sample
		if s.read(b) != nil {
			return
		}
		var other struct {
			Name   string  `json:"name"`
			Amount float64 `json:"amount"`
			Bytes  []byte  `json:"bytes"`
			Hash   string  `json:"hash,omitempty"`
		}
		if err := json.Unmarshal(b, &other); err != nil {
			t.Fatalf("%q is accepted, and no JSON: %v", b, err)
		}
		if other.Name != s.name || uint64(other.Amount) != s.amount || string(other.Bytes) != string(s.bytes) {
			t.Fatalf("%q is %+v for others, %+v here", b, other, s)
		}
		fields := map[string]any{"name": s.name}
		if s.amount > 0 {
			fields["amount"] = s.amount
		}
		if s.bytes != nil {
			fields["bytes"] = base64.StdEncoding.EncodeToString(s.bytes)
		}
		again, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		var s2 sample
		if err := s2.read(again); err != nil || s2.name != s.name || s2.amount != s.amount {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
