package idempotency

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestKey(t *testing.T) {
	for value, want := range map[string]string{
		"0123456789abcdef": "0123456789abcdef", `"0123456789ABCDEF"`: "0123456789ABCDEF", strings.Repeat("k", 64): strings.Repeat("k", 64), "f81d4fae-7dec-11d0-a765-00a0c91e6bf6": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"": "", `"`: "", `""`: "", "0123456789abcde": "", strings.Repeat("k", 65): "", `"0123456789abcdef`: "", `0123456789abcdef"`: "", "0123456789abcdé": "", "0123456789abcdef ": "",
	} {
		got, err := Key(&http.Request{Header: http.Header{"Idempotency-Key": {value}}})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", value, got, err)
		}
	}
	for _, values := range [][]string{nil, {"0123456789abcdef", "0123456789abcdef"}} {
		if _, err := Key(&http.Request{Header: http.Header{"Idempotency-Key": values}}); err == nil {
			t.Errorf("%q", values)
		}
	}
}

// TestHash: no two lists of texts run together.
func TestHash(t *testing.T) {
	seen := make(map[string]bool)
	lists := [][]string{nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"\x00\x00\x00\x01a"}}
	for _, list := range lists {
		seen[Hash("tag", list...).String()] = true
	}
	if seen[Hash("other", "ab").String()] || len(seen) != len(lists) {
		t.Errorf("%d different hashes of %d", len(seen), len(lists))
	}
}

// TestFlights: of many that begin at once one does, and another may once it has ended.
func TestFlights(t *testing.T) {
	var f Flights
	var began atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if f.Begin(Flight{"client", "key"}) {
				began.Add(1)
			}
		})
	}
	wg.Wait()
	if began.Load() != 1 || !f.Begin(Flight{"client", "other"}) || !f.Begin(Flight{"other", "key"}) {
		t.Errorf("%d began, or others may not", began.Load())
	}
	f.End(Flight{"client", "key"})
	if !f.Begin(Flight{"client", "key"}) {
		t.Error("does not end")
	}
	f.End(Flight{"client", "key"})
	f.End(Flight{"client", "other"})
	f.End(Flight{"other", "key"})
	if len(f.busy) != 0 {
		t.Errorf("%d under way", len(f.busy))
	}
}

// FuzzKey: a key that is accepted is one of the alphabet, and the same with quotes.
func FuzzKey(f *testing.F) {
	f.Add("0123456789abcdef")
	f.Add(`"0123456789abcdef"`)
	f.Fuzz(func(t *testing.T, value string) {
		key, err := Key(&http.Request{Header: http.Header{"Idempotency-Key": {value}}})
		if err != nil {
			return
		}
		again, err := Key(&http.Request{Header: http.Header{"Idempotency-Key": {`"` + key + `"`}}})
		if err != nil || again != key || len(key) < minKeyLen || len(key) > maxKeyLen || strings.ContainsAny(key, "\"\r\n ,;") {
			t.Errorf("%q is %q, %q, %v", value, key, again, err)
		}
	})
}
