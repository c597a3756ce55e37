package complaint

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/validator/archive"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// A bench is a book, its ledger and the operator's key.
type bench struct {
	t       *testing.T
	key     *ecdsa.PrivateKey
	program *terms.Program
	config  Config
	next    uint64
	book    *Book
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t}
	var err error
	b.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b.must(err)
	pub, err := wire.NewPublicKey(b.key.Public())
	b.must(err)
	b.program = &terms.Program{Receipt: wire.KeySet{pub}}
	secret, verifier, err := tlog.GenerateKey("validator.example")
	b.must(err)
	signer, err := note.NewSigner(secret)
	b.must(err)
	b.config = Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	b.config.Archive, err = archive.Open(context.Background(), archive.Config{Dir: b.config.Dir, Signer: signer, Verifier: verifier, Logger: b.config.Logger})
	b.must(err)
	t.Cleanup(func() { b.must(b.config.Archive.Close()) })
	b.open()
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	b.book, err = Open(b.config)
	b.must(err)
}

// log logs a credit of a span for a claim, and returns what its receipt says of it.
func (b *bench) log(claim string, to uint64, km, effective uint32) wire.Credit {
	b.t.Helper()
	body, err := codec.Encode(ledger.Credit{Blind: wire.Hash{1}, Km: km, Effective: effective})
	b.must(err)
	e := disclosure.Entry{Number: b.next, Type: ledger.TypeCredit, Body: body, Claim: []byte(claim)}
	b.must(e.Open(&ledger.CreditOpening{ECU: wire.KeyID{1}, ToSeq: to}))
	b.must(b.config.Archive.Append(e))
	b.must(b.config.Archive.Wait(b.t.Context()))
	b.next++
	return wire.Credit{Policy: 1, Km: km, Effective: effective}
}

// add shows the book a receipt for a claim, that of the first over its span when it is named.
func (b *bench) add(day uint32, claim, first string, credits ...wire.Credit) error {
	b.t.Helper()
	r := &wire.Receipt{Version: wire.Version, Submission: wire.ID([]byte(claim)), Vehicle: "CAR1", Accepted: true, Credits: credits}
	if first != "" {
		id := wire.ID([]byte(first))
		r.Original = &id
	}
	text, err := wire.SealReceipt(b.key, r)
	b.must(err)
	return b.book.Add(b.program, day, text)
}

func (b *bench) overdue(day uint32, want ...string) {
	b.t.Helper()
	got, err := b.book.Overdue(b.program, day)
	b.must(err)
	if len(got) != len(want) {
		b.t.Errorf("%d are overdue on day %d, want %d", len(got), day, len(want))
		return
	}
	for i := range got {
		if got[i] != wire.ID([]byte(want[i])) {
			b.t.Errorf("overdue on day %d is %s, want that for %s", day, got[i], want[i])
		}
	}
}

// TestRepeats: a span that was credited for one kind, and by later claims for others. The receipt of each of these names the first claim and
// lists what all of them earned, which is under three claims in the ledger.
func TestRepeats(t *testing.T) {
	b := newBench(t)
	first := b.log("first", 7, 100, 5)
	second := b.log("second", 7, 0, 6)
	b.log("of another span", 8, 50, 6)
	third := b.log("third", 7, 0, 9)
	for name, c := range map[string]struct {
		claim, first string
		credits      []wire.Credit
		kept         bool
	}{
		"first":                       {"first", "", []wire.Credit{first}, true},
		"second":                      {"second", "first", []wire.Credit{first, second}, true},
		"third":                       {"third", "first", []wire.Credit{first, second, third}, true},
		"nothing new":                 {"fourth", "first", []wire.Credit{first, second, third}, true},
		"first is not in the copy":    {"second", "lost", []wire.Credit{first, second}, true},
		"once more":                   {"fifth", "first", []wire.Credit{first, first}, false},
		"the other span's":            {"sixth", "first", []wire.Credit{{Policy: 1, Km: 50, Effective: 6}}, false},
		"another day":                 {"seventh", "first", []wire.Credit{{Policy: 1, Km: 100, Effective: 6}}, false},
		"another's, first of its own": {"first", "", []wire.Credit{first, second}, false},
	} {
		if err := b.add(5, c.claim, c.first, c.credits...); (err == nil) != c.kept || err != nil && !errors.Is(err, ErrLater) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.book.Len() != 4 {
		t.Errorf("%d complaints wait", b.book.Len())
	}
}

// TestOverdue: the ledger's day says when, and a promise that is made again and again is one complaint, which one acknowledgement answers.
func TestOverdue(t *testing.T) {
	b := newBench(t)
	promise := []wire.Credit{{Policy: 1, Km: 100, Effective: 5}, {Policy: 2, Effective: 6}}
	for _, day := range []uint32{3, 6} {
		if err := b.add(day, "first", "", promise...); !errors.Is(err, ErrLater) {
			t.Errorf("on day %d: %v", day, err)
		}
	}
	b.overdue(6)
	b.overdue(7, "first")
	if err := b.add(7, "again", "first", promise...); err == nil || !strings.Contains(err.Error(), "is overdue since day 7") {
		t.Error(err)
	}
	b.open() // a book of another life
	for _, claim := range []string{"again", "and again"} {
		if err := b.add(7, claim, "first", promise...); err == nil || !strings.Contains(err.Error(), wire.ID([]byte("first")).String()) {
			t.Errorf("%s: %v", claim, err)
		}
	}
	b.overdue(7, "first")
	b.must(Acknowledge(b.config.Dir, wire.ID([]byte("first"))))
	b.overdue(7)
	if b.book.Len() != 1 {
		t.Errorf("%d complaints wait", b.book.Len())
	}
	// What was promised beside it is another matter.
	more := append(promise, wire.Credit{Policy: 3, Effective: 6})
	if err := b.add(7, "more", "first", more...); err == nil || !strings.Contains(err.Error(), wire.ID([]byte("more")).String()) {
		t.Error(err)
	}
	b.overdue(7, "more")
	b.log("first", 1, 100, 5)
	b.log("first", 1, 0, 6)
	b.overdue(7, "more")
	if b.book.Len() != 1 {
		t.Errorf("%d complaints wait", b.book.Len())
	}
	b.log("more", 1, 0, 6)
	b.overdue(7)
	left, err := filepath.Glob(filepath.Join(b.config.Dir, complaintDir, "*"+receiptEnd))
	if err != nil || len(left) != 0 || b.book.Len() != 0 {
		t.Errorf("%d complaints wait, files are %v, %v", b.book.Len(), left, err)
	}
	// A receipt that is none is not passed over.
	name := b.book.file(wire.Hash{1}, receiptEnd)
	b.must(os.WriteFile(name, []byte("damaged"), 0o600))
	b.open()
	if _, err := b.book.Overdue(b.program, 7); err == nil || !strings.Contains(err.Error(), name) {
		t.Error(err)
	}
}
