package dump

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/outbox"
	"rawstone/pkg/ledger"
)

type taken struct {
	Entries []ledger.Entry
	Drafts  []outbox.Draft
}

func (t *taken) Add(e *ledger.Entry) error { t.Entries = append(t.Entries, *e); return nil }
func (t *taken) AddDraft(d outbox.Draft)   { t.Drafts = append(t.Drafts, d) }

const copies = "SET x;\nCOPY public.outbox (id, type, body, number, appended) FROM stdin;\n2\t5\t\\\\x62\t1\t0\n1\t5\t\\\\x61\t0\t1\n3\t5\t\\\\x63\t\\N\t0\n\\.\n" +
	"COPY public.draft (id, number, type, payload) FROM stdin;\n1\t2\t8\t\\\\x64\n\\.\n"

func TestReadCopies(t *testing.T) {
	var got taken
	if err := readCopies(strings.NewReader(copies), &got); err != nil {
		t.Fatal(err)
	}
	want := taken{
		Entries: []ledger.Entry{{Number: 1, Type: ledger.TypeCredit, Body: []byte("b")}, {Number: 0, Type: ledger.TypeCredit, Body: []byte("a")}},
		Drafts:  []outbox.Draft{{Number: 2, Type: ledger.TypeBlock, Payload: []byte("d")}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for old, bad := range map[string]string{
		"\\.\nCOPY": "COPY", "public.draft": "public.vehicles", "\\\\x61": "a", "\t0\t1\n": "\t0\n", "2\t5\t": "2\t500\t",
		"COPY public.draft": "COPX public.draft",
	} {
		if err := readCopies(strings.NewReader(strings.Replace(copies, old, bad, 1)), new(taken)); err == nil {
			t.Errorf("%q for %q is read", bad, old)
		}
	}
}

func FuzzReadCopies(f *testing.F) {
	f.Add(copies)
	f.Fuzz(func(t *testing.T, s string) {
		var got taken
		_ = readCopies(strings.NewReader(s), &got)
		if len(got.Entries)+len(got.Drafts) > strings.Count(s, "\n") {
			t.Errorf("%d entries of %q", len(got.Entries), s)
		}
	})
}
