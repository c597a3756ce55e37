package seat

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/validator/complaint"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// caught holds that every validator behind its feed refuses an entry, and says why; and that each is as it was: the truth goes on.
func (c *court) caught(t ledger.Type, payload []byte, why string) {
	c.t.Helper()
	s, refusals := c.cosign(t, payload)
	if len(s.Cosignatures) > 0 {
		c.t.Fatalf("%d validators cosign the lie", len(s.Cosignatures))
	}
	for i, err := range refusals {
		if err == nil || !strings.Contains(err.Error(), why) {
			c.t.Errorf("validator %d: got %v, want %s", i, err, why)
		}
	}
}

func TestWrongSupply(t *testing.T) {
	t.Parallel()
	c := begun(t)
	typ, r := c.record()
	r.(*ledger.Block).Supply += reward.Unit
	c.caught(typ, c.payload(r), "Supply is")
	c.step()
}

// TestChangedWeight moves kilometres from one owner to another, so that only who knows the openings can tell.
func TestChangedWeight(t *testing.T) {
	t.Parallel()
	c := begun(t)
	c.until(ledger.TypeLeaves, 4)
	typ, r := c.record()
	c.weights["anna"][3], c.weights["ben"][3] = 150, 50
	_, lie := c.record()
	if c.replay.Check(typ, c.payload(lie)) != nil {
		t.Fatal("a stranger sees the lie")
	}
	c.caught(typ, c.payload(lie), "a weight or an account differs")
	// And one who is paid for nothing.
	l := *r.(*ledger.Leaves)
	l.Weight++
	c.caught(typ, c.payload(&l), "total weight of day 4 is 201 km")
	c.weights["anna"][3], c.weights["ben"][3] = 100, 100
	c.step()
}

// TestCreditWithoutProof logs kilometres that nobody proved. What is final cannot be taken back, so every validator stops there for good.
func TestCreditWithoutProof(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]struct {
		make func(*court) disclosure.Entry
		why  string
	}{
		"false proof": {func(c *court) disclosure.Entry { return c.earn("anna", 0) }, "proof does not hold"},
		"no claim":    {func(c *court) disclosure.Entry { e := c.earn("anna", 1); e.Claim = nil; return e }, "no claim stands behind it"},
		"not signed": {func(c *court) disclosure.Entry {
			e := c.earn("anna", 1)
			m, err := wire.DecodeClaim(e.Claim)
			c.must(err)
			m.To.Signature[9]++
			e.Claim, err = m.Encode()
			c.must(err)
			return e
		}, "cannot accept entry"},
		"other's claim": {func(c *court) disclosure.Entry { e := c.earn("anna", 1); e.Claim = c.earn("ben", 1).Claim; return e }, "it is of key"},
		"more": {func(c *court) disclosure.Entry {
			e := c.earn("anna", 1)
			l := e.Ledger()
			credit, err := l.Credit()
			c.must(err)
			credit.Km = 40
			e.Body = c.encode(credit)
			return e
		}, "it earns 100 km"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := begun(t)
			good, err := c.clients[0].Next(t.Context())
			c.must(err)
			e := lie.make(c)
			c.told.add(c, e)
			for i := range c.clients {
				c.must(c.clients[i].Seen(t.Context(), c.checkpoint()))
				if err := c.bring(i, c.told); err == nil || !strings.Contains(err.Error(), lie.why) {
					t.Errorf("validator %d: got %v, want %s", i, err, lie.why)
				}
				if n, err := c.clients[i].Next(t.Context()); err != nil || n < good || n >= uint64(len(c.told.entries)) {
					t.Errorf("validator %d has %d entries, %v", i, n, err)
				}
			}
		})
	}
}

func (c *court) checkpoint() []byte {
	b, err := c.told.checkpoint()
	c.must(err)
	return b
}

// TestChosenSeed changes what the seed is, of a draw and of an order.
func TestChosenSeed(t *testing.T) {
	t.Parallel()
	c := begun(t)
	typ, r := c.record()
	b := r.(*ledger.Block)
	b.Seed[0]++
	c.caught(typ, c.payload(b), "Seed is")
	b.Seed[0]--
	// Proofs of an earlier drop would give a seed that was known before.
	old := b.Proofs
	c.step()
	typ, r = c.record()
	b = r.(*ledger.Block)
	b.Proofs = old
	c.caught(typ, c.payload(b), "proof")
	c.until(ledger.TypeDay, 4)
	typ, r = c.record()
	d := r.(*ledger.Day)
	d.Order[0]++
	c.caught(typ, c.payload(d), "Order is")
	c.step()
}

// TestOmittedOutput leaves out a proof that was given. Where the log says that it was withheld, everybody sees who is out, and the validator
// shows that it gave it.
func TestOmittedOutput(t *testing.T) {
	t.Parallel()
	c := begun(t)
	typ, r := c.record()
	b := *r.(*ledger.Block)
	b.Proofs = b.Proofs[:3]
	c.caught(typ, c.payload(&b), "validators with a proof and without")
	b.Withheld = []byte{3}
	c.caught(typ, c.payload(&b), "Seed is")
	short, err := c.replay.NextBlock(b.Proofs, b.Withheld)
	c.must(err)
	sealed, refusals := c.cosign(typ, c.payload(short))
	c.must(errors.Join(refusals...))
	body, err := sealed.Encode()
	c.must(err)
	c.log(disclosure.Entry{Type: typ, Body: body})
	c.step() // the one that is out is not asked
	for i, s := range c.seats {
		if got, want := s.Status().Omissions, uint64(i/3); got != want {
			t.Errorf("validator %d shows %d omissions, want %d", i, got, want)
		}
	}
}

// rewrite returns a story that is the court's up to an entry, and goes on without it.
func (c *court) rewrite(name string, without uint64) *story {
	c.t.Helper()
	s := c.story(name)
	for _, e := range c.told.entries {
		if e.Number != without {
			s.add(c, e)
		}
	}
	return s
}

// convicted holds that a validator has evidence, says so, and gives nothing, even of the truth and after it has started anew.
func (c *court) convicted(i int) {
	c.t.Helper()
	for range 2 {
		st := c.seats[i].Status()
		if len(st.Forks) != 1 || st.Refuses == "" {
			c.t.Fatalf("validator %d: %+v", i, st)
		}
		if text, err := os.ReadFile(st.Forks[0]); err != nil || !strings.Contains(string(text), "log.example") {
			c.t.Errorf("validator %d keeps %s, %v", i, text, err)
		}
		if p, err := c.clients[i].Prove(c.t.Context(), c.replay.Due()); err == nil || !strings.Contains(err.Error(), "second history") {
			c.t.Errorf("validator %d proves %+v, %v", i, p, err)
		}
		c.close(i)
		c.open(i)
	}
}

// TestRewrittenHistory takes a credit out of the past.
func TestRewrittenHistory(t *testing.T) {
	t.Parallel()
	c := begun(t)
	c.step()
	for i := range c.seats {
		c.must(c.bring(i, c.told))
		c.must(c.clients[i].Seen(t.Context(), c.checkpoint()))
	}
	credit := uint64(0)
	for _, e := range c.told.entries {
		if e.Type == ledger.TypeCredit {
			credit = e.Number
			break
		}
	}
	typ, r := c.record()
	lie := c.rewrite("rewritten", credit)
	// Without the log's word, the block of the rewritten history has another root.
	b := *r.(*ledger.Block)
	b.LogRoot[0]++
	c.caught(typ, c.payload(&b), "LogRoot is")
	for i := range c.seats {
		c.dial(i, "", lie)
		if _, err := c.clients[i].Cosign(t.Context(), typ, c.payload(r)); err == nil || !strings.Contains(err.Error(), "second history") {
			t.Errorf("validator %d: %v", i, err)
		}
	}
	for i := range c.seats {
		c.convicted(i)
	}
}

// TestForkedLog tells two validators one history and two another, both under the log's key. Each believes what it is told until they compare.
func TestForkedLog(t *testing.T) {
	t.Parallel()
	for _, longer := range []bool{false, true} {
		c := begun(t)
		fork := c.rewrite("fork", 1<<60)
		c.told.add(c, c.bind("chen"))
		fork.add(c, c.bind("dora"))
		if longer { // than what the others have seen
			fork.add(c, c.bind("emil"))
		}
		for i := range c.seats {
			s := c.told
			if i >= 2 {
				s = fork
				c.dial(i, "", s)
			}
			c.must(c.bring(i, s))
			b, err := s.checkpoint()
			c.must(err)
			c.must(c.clients[i].Seen(t.Context(), b))
		}
		for i := range c.seats {
			for j := range c.seats {
				g, err := c.clients[j].Gossip(t.Context())
				c.must(err)
				err = c.seats[i].Heard(t.Context(), g)
				if other := i/2 != j/2; other && !longer && !errors.Is(err, nil) && !strings.Contains(err.Error(), "second history") {
					t.Errorf("validator %d hears %d: %v", i, j, err)
				}
			}
		}
		if longer {
			// The first two have yet to grow before they can tell.
			for i := range 2 {
				if st := c.seats[i].Status(); len(st.Forks) > 0 {
					t.Errorf("validator %d: %+v", i, st)
				}
			}
			c.told.add(c, c.bind("fay"))
			c.told.add(c, c.bind("gus"))
			for i := range 2 {
				c.must(c.bring(i, c.told))
				if _, err := c.clients[i].Prove(t.Context(), c.replay.Due()); err == nil || !strings.Contains(err.Error(), "second history") {
					t.Errorf("validator %d: %v", i, err)
				}
			}
		}
		for i := range c.seats {
			if st := c.seats[i].Status(); len(st.Rivals) != 2 {
				if !longer || i >= 2 {
					t.Errorf("validator %d knows the rivals %v", i, st.Rivals)
				}
			}
			c.convicted(i)
		}
	}
}

// TestWordOfOne holds that a validator which lies about its copy stops nobody, and that nobody can lie in its name.
func TestWordOfOne(t *testing.T) {
	t.Parallel()
	c := begun(t)
	signer, _, err := signerOf(c.keys[3])
	c.must(err)
	stranger, err := ledger.GenerateValidatorKey("test/owners")
	c.must(err)
	forger, _, err := signerOf(stranger)
	c.must(err)
	for i := range 3 {
		c.must(c.bring(i, c.told))
		if err := c.seats[i].Heard(t.Context(), feed.Gossip{Own: sign(t, forger, 3)}); err == nil || len(c.seats[i].Status().Rivals) != 0 {
			t.Errorf("validator %d believes a stranger: %v", i, err)
		}
		_, err := c.seats[i].Gossip(t.Context()) // waits until the copy is on disk
		c.must(err)
		c.must(c.seats[i].Heard(t.Context(), feed.Gossip{Own: sign(t, signer, 3)}))
		if st := c.seats[i].Status(); st.Refuses != "" || len(st.Rivals) != 1 {
			t.Errorf("validator %d: %+v", i, st)
		}
		// A checkpoint that names the ledger and is not signed with its key is nobody's evidence.
		if err := c.clients[i].Seen(t.Context(), []byte(sign(t, signer, 3))); err == nil || len(c.seats[i].Status().Forks) != 0 {
			t.Errorf("validator %d takes it for the ledger's: %v", i, err)
		}
	}
	c.step()
}

// sign signs a checkpoint of so many entries with a root of nothing.
func sign(t *testing.T, s note.Signer, size int) string {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", s.Name(), size, base64.StdEncoding.EncodeToString(make([]byte, 32)))}, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReceiptNeverLogged shows the validators a receipt that the operator signed and whose credits it never logs.
func TestReceiptNeverLogged(t *testing.T) {
	t.Parallel()
	c := begun(t)
	e := c.earn("anna", 1)
	r := &wire.Receipt{Version: wire.Version, Submission: wire.ID(e.Claim), Vehicle: "CAR1", Accepted: true,
		Credits: []wire.Credit{{Policy: 1, Km: 100, Effective: c.replay.Due().Day + 1}}}
	seal := func(r *wire.Receipt) []byte {
		b, err := wire.SealReceipt(c.receipt, r)
		c.must(err)
		return b
	}
	receipt := seal(r)
	for i := range c.seats {
		if err := c.clients[i].Complain(t.Context(), receipt); err == nil || !strings.Contains(err.Error(), complaint.ErrLater.Error()) {
			t.Errorf("validator %d, in time: %v", i, err)
		}
		for want, b := range map[string][]byte{
			"promises no credit": seal(&wire.Receipt{Version: wire.Version, Submission: wire.Hash{1}, Vehicle: "CAR1", Accepted: true}),
			"refuses":            append([]byte{1}, receipt...),
		} {
			if err := c.clients[i].Complain(t.Context(), b); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("validator %d: got %v, want %s", i, err, want)
			}
		}
	}
	c.until(ledger.TypeBlock, 4)
	c.step() // a program day has not passed since the credit took effect
	c.until(ledger.TypeLeaves, 5)
	c.close(2)
	c.open(2) // the complaint is on disk
	typ, record := c.record()
	c.caught(typ, c.payload(record), "overdue")
	for i := range c.seats {
		if st := c.seats[i].Status(); len(st.Overdue) != 1 || st.Refuses == "" {
			t.Errorf("validator %d: %+v", i, st)
		}
		if err := c.clients[i].Complain(t.Context(), receipt); err == nil || !strings.Contains(err.Error(), "is overdue since") {
			t.Errorf("validator %d: %v", i, err)
		}
		if line, err := c.clients[i].CosignCheckpoint(t.Context(), c.checkpoint()); err != nil || len(line) > 0 {
			t.Errorf("validator %d cosigns a checkpoint: %q, %v", i, line, err)
		}
	}
	// The operator of one looks into it and lets it go on.
	c.must(complaint.Acknowledge(c.path("validator1"), r.Submission))
	if line, err := c.clients[1].CosignCheckpoint(t.Context(), c.checkpoint()); err != nil || len(line) == 0 {
		t.Errorf("it cosigns no checkpoint again: %q, %v", line, err)
	}
	if s, _ := c.cosign(typ, c.payload(record)); len(s.Cosignatures) != 1 {
		t.Errorf("%d validators cosign", len(s.Cosignatures))
	}
	if err := complaint.Acknowledge(c.path("validator1"), wire.Hash{9}); err == nil {
		t.Error("acknowledged what nobody complains about")
	}
	// Fewer kilometres than the receipt promised are not what it promised.
	id := c.credit("ben")
	for i, km := range []uint32{100, 101, 100} {
		more := *r
		more.Submission, more.Credits = id, []wire.Credit{{Policy: 1, Km: km, Effective: c.replay.Due().Day + 1}}
		c.must(c.bring(i, c.told))
		if err := c.clients[i].Complain(t.Context(), seal(&more)); (err == nil) != (km == 100) {
			t.Errorf("validator %d, %d km: %v", i, km, err)
		}
	}
}

// TestReceiptLogged holds that nobody is stopped by a receipt that the ledger honours, in time or late.
func TestReceiptLogged(t *testing.T) {
	t.Parallel()
	c := begun(t)
	id := c.credit("anna")
	day := c.replay.Due().Day
	r := &wire.Receipt{Version: wire.Version, Submission: wire.Hash{5}, Original: &id, Vehicle: "CAR1", Accepted: true,
		Credits: []wire.Credit{{Policy: 1, Km: 100, Effective: day + 1}}}
	b, err := wire.SealReceipt(c.receipt, r)
	c.must(err)
	for i := range c.seats {
		if i > 0 {
			c.must(c.bring(i, c.told))
			c.must(c.clients[i].Complain(t.Context(), b))
		} else if err := c.clients[i].Complain(t.Context(), b); err == nil {
			t.Error("a copy without the credit says that it has it")
		}
	}
	c.until(ledger.TypeBlock, 6)
	for i := range c.seats {
		if st := c.seats[i].Status(); st.Complaints != 0 {
			t.Errorf("validator %d: %+v", i, st)
		}
	}
}
