package seat

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/validator/forget"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// handover logs that an account's ECU was taken out.
func (c *court) handover(account string) {
	c.t.Helper()
	k := c.cars[account]
	o := ledger.HandoverOpening{ECU: k.pub.ID(), Cut: k.last.Seq}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	c.must(err)
	e := disclosure.Entry{Type: ledger.TypeHandover, Body: c.encode(ledger.Handover{Blind: blind})}
	c.must(e.Open(&o))
	c.log(e)
}

// erase has the story hide an account from now on, and returns the numbers of its entries.
func (c *court) erase(account string) (numbers []uint64) {
	c.t.Helper()
	k := c.cars[account]
	mine := func(e *disclosure.Entry) bool {
		id, ok := e.Named()
		o, h := disclosure.Opened[ledger.HandoverOpening](e, ledger.TypeHandover)
		return ok && id == account || h && o.ECU == k.pub.ID()
	}
	for i := range c.told.entries {
		if mine(&c.told.entries[i]) {
			numbers = append(numbers, uint64(i))
		}
	}
	c.told.gone = func(day uint32) []reward.Leaf {
		km := uint64(0)
		for effective, n := range c.weights[account] {
			if reward.Counts(day, effective) {
				km += n
			}
		}
		if km == 0 {
			return nil
		}
		return []reward.Leaf{{Pseudonym: reward.Pseudonym(k.secret, day), Weight: km}}
	}
	c.told.hide = func(e *disclosure.Entry) {
		if mine(e) {
			*e = e.Erase()
			e.Seen = false
		}
		if e.Type != ledger.TypeLeaves {
			return
		}
		entry := e.Ledger()
		s, err := entry.Sealed()
		c.must(err)
		l, err := ledger.DecodeLeaves(s.Payload)
		c.must(err)
		e.Leaves = nil
		for _, leaf := range c.told.gone(l.Day) {
			e.AddLeaf(leaf)
		}
	}
	return numbers
}

// clean looks for bytes in all files of a validator that is closed.
func (c *court) clean(i int, secret []byte) {
	c.t.Helper()
	c.must(filepath.WalkDir(c.path(fmt.Sprint("validator", i)), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, secret) {
			c.t.Errorf("what was erased is still in %s", path)
		}
		return err
	}))
}

// TestErase has four validators destroy what they hold of an account whose kilometres count still. They go on, in this life and in the next; nothing
// of the account is in what they keep; and two that begin then, more than the quorum can do
// without, go on with them: a quorum that saw what they never did has cosigned blocks after it.
func TestErase(t *testing.T) {
	t.Parallel()
	c := begun(t)
	anna := c.cars["anna"]
	c.handover("anna")
	c.step()
	for i := range c.seats {
		c.must(c.bring(i, c.told))
	}
	numbers := c.erase("anna")
	if len(numbers) != 3 {
		t.Fatalf("anna has %d entries", len(numbers))
	}
	for i, s := range c.seats {
		c.must(c.clients[i].Erase(t.Context(), numbers))
		for n := range s.archive.Durable() {
			e, err := s.archive.Entry(n)
			c.must(err)
			kept, err := e.Encode()
			c.must(err)
			for what, b := range map[string][]byte{"account": []byte("anna"), "secret": anna.secret[:], "key": anna.pub[:], "snapshot": anna.last.Commitment[:]} {
				if bytes.Contains(kept, b) {
					t.Errorf("validator %d keeps the %s in entry %d", i, what, n)
				}
			}
		}
		c.must(c.clients[i].Erase(t.Context(), numbers)) // again changes nothing
	}
	c.until(ledger.TypeBlock, 4) // with the secret in memory
	for i := range 2 {
		c.close(i)
		c.clean(i, anna.secret[:])
		c.open(i)
	}
	c.until(ledger.TypeBlock, 5) // two of them without it
	c.credit("ben")
	for i := range c.seats {
		c.close(i)
		c.open(i)
	}
	c.until(ledger.TypeBlock, 6)
	c.step()
	// What stays of the key is its end.
	k, ok := c.seats[0].opener.ErasedKey(anna.pub.ID())
	if want := (ledger.ErasedKey{Mark: ledger.KeyMark(anna.pub.ID()), Since: k.Since, Cut: anna.last.Seq}); !ok || k != want || k.Since <= numbers[len(numbers)-1] || k.Since > c.replay.Next() {
		t.Errorf("of the key %+v stays, want %+v", k, want)
	}
	for i := 2; i < 4; i++ {
		c.close(i)
		c.must(os.RemoveAll(c.path(fmt.Sprint("validator", i))))
		c.open(i)
	}
	c.until(ledger.TypeBlock, 7)
	for i := 2; i < 4; i++ {
		c.close(i)
		c.open(i)
	}
	c.until(ledger.TypeBlock, 8)
	c.step()
}

// TestErasedName gives an erased account's name to another while a validator remembers the first.
func TestErasedName(t *testing.T) {
	t.Parallel()
	c := begun(t)
	c.handover("anna")
	c.must(c.bring(0, c.told))
	c.must(c.clients[0].Erase(t.Context(), c.erase("anna")))
	hide := c.told.hide
	c.log(c.bind("anna"))
	last := uint64(len(c.told.entries) - 1)
	c.told.hide = func(e *disclosure.Entry) {
		if e.Number != last {
			hide(e)
		}
	}
	if err := c.bring(0, c.told); err == nil || !strings.Contains(err.Error(), "when it is started again") {
		t.Fatal(err)
	}
	<-c.seats[0].Stale()
	c.close(0)
	c.open(0)
	c.must(c.bring(0, c.told))
}

// TestEraseByHalves tells validators to erase what would leave a part of an account behind, or what is not its own.
func TestEraseByHalves(t *testing.T) {
	t.Parallel()
	c := begun(t)
	c.handover("anna")
	c.must(c.bring(0, c.told))
	numbers := c.erase("anna")
	ben := func() uint64 {
		for i := range c.told.entries {
			if id, ok := c.told.entries[i].Named(); ok && id == "ben" {
				return uint64(i)
			}
		}
		return 0
	}()
	for name, list := range map[string]struct {
		numbers []uint64
		want    string
	}{
		"without the credit":    {[]uint64{numbers[0], numbers[2]}, "1 of its entries are named, and the copy holds 2"},
		"without the binding":   {numbers[1:], "no binding of its key"},
		"with somebody else's":  {[]uint64{numbers[0], ben}, "of another account"},
		"with a document":       {append([]uint64{1}, numbers...), "hides nothing"},
		"in another order":      {[]uint64{numbers[1], numbers[0], numbers[2]}, "do not ascend"},
		"more than anybody has": {make([]uint64, forget.MaxEntries+1), "at most"},
	} {
		if err := c.clients[0].Erase(t.Context(), list.numbers); err == nil || !strings.Contains(err.Error(), list.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, err := c.seats[0].archive.Entry(numbers[0])
	c.must(err)
	if e.Erased {
		t.Error("a refused erasure erases")
	}
	c.told.hide = nil
	c.step()
}

// TestEraseOfLater erases an account of which a validator has seen a part: it says that it must be started again, and then goes on.
func TestEraseOfLater(t *testing.T) {
	t.Parallel()
	c := begun(t)
	for i := range c.seats {
		c.must(c.bring(i, c.told))
	}
	c.handover("anna")
	for i := range 3 {
		c.must(c.bring(i, c.told))
	}
	numbers := c.erase("anna")
	for i := range 3 {
		c.must(c.clients[i].Erase(t.Context(), numbers))
	}
	if err := c.clients[3].Erase(t.Context(), numbers); err == nil || !strings.Contains(err.Error(), "when it is started again") {
		t.Fatal(err)
	}
	<-c.seats[3].Stale()
	if _, err := c.clients[3].Prove(t.Context(), c.replay.Due()); err == nil || !strings.Contains(err.Error(), "when it is started again") {
		t.Errorf("it gives a proof of what it does not hold: %v", err)
	}
	c.close(3)
	c.open(3)
	c.must(c.bring(3, c.told))
	c.log(c.bind("cleo"))
	c.must(c.bring(3, c.told))
}

// TestErasedIsNoExcuse has an operator call a credit erased that nobody ever saw: it is in the log, and no validator gives anything that it could
// earn by.
func TestErasedIsNoExcuse(t *testing.T) {
	t.Parallel()
	c := begun(t)
	c.log(disclosure.Entry{Type: ledger.TypeCredit, Body: c.encode(ledger.Credit{Blind: c.id, Km: 100, Effective: 4}), Erased: true})
	for i := range c.seats {
		c.must(c.bring(i, c.told))
		if _, err := c.clients[i].Prove(t.Context(), c.replay.Due()); err == nil || !strings.Contains(err.Error(), "gives nothing before the others have cosigned a block") {
			t.Errorf("validator %d: %v", i, err)
		}
	}
	seen := disclosure.Entry{Type: ledger.TypeCredit, Body: c.encode(ledger.Credit{Blind: c.id, Km: 100, Effective: 4}), Erased: true, Seen: true}
	c.told.add(c, seen)
	if err := c.bring(0, c.told); err == nil || !strings.Contains(err.Error(), "for who keeps it to say") {
		t.Errorf("it is told what it saw: %v", err)
	}
}
