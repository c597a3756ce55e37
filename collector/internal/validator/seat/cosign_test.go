package seat

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/cosigned"
	"rawstone/collector/internal/tiles"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
)

// keep has the operator keep cosigned checkpoints, and serves them below the URL that it returns.
func (c *court) keep() (base string) {
	c.t.Helper()
	k, err := cosigned.Open(context.Background(), cosigned.Config{
		Dir: c.told.dir, LogKey: c.program.LogKey, Logger: c.logger(), Program: func(context.Context) (*terms.Program, error) { return c.program, nil },
	})
	c.must(err)
	c.cosigned = k.Take
	for i := range c.clients {
		if c.stops[i] != nil {
			c.dial(i, "", c.told)
		}
	}
	read, err := cosigned.Newest(c.told.dir, c.program.LogKey)
	c.must(err)
	h, err := tiles.New(tiles.Config{Dir: c.told.dir, Checkpoint: read})
	c.must(err)
	s := httptest.NewServer(http.StripPrefix("/log", h))
	c.t.Cleanup(s.Close)
	return s.URL + "/log/"
}

// tell has a validator follow and shows it the newest checkpoint, as the settler's client does.
func (c *court) tell(i int) error {
	if err := c.bring(i, c.told); err != nil {
		return err
	}
	_, err := c.clients[i].Prove(c.t.Context(), audit.Due{}) // nothing of the kind is due
	if err == nil || !strings.Contains(err.Error(), "asked for") {
		return err
	}
	return nil
}

// stock has Tessera's client read the log with stock verifiers of the cosignatures, check that its last entry is in it, and return its size
// and the names of the cosigners.
func (c *court) stock(base string) (size uint64, by []string) {
	c.t.Helper()
	u, err := url.Parse(base)
	c.must(err)
	f, err := client.NewHTTPFetcher(u, nil)
	c.must(err)
	v, err := note.NewVerifier(c.program.LogKey)
	c.must(err)
	text, err := f.ReadCheckpoint(c.t.Context())
	c.must(err)
	cp, _, _, err := client.FetchCheckpoint(c.t.Context(), f.ReadCheckpoint, v, v.Name())
	c.must(err)
	known := []note.Verifier{v}
	for i := range c.keys {
		p := c.keys[i].Public()
		key, err := note.NewEd25519VerifierKey(p.Name, p.Key[:])
		c.must(err)
		o, err := fnote.NewVerifierForCosignatureV1(key)
		c.must(err)
		known = append(known, o)
		if s := c.seats[i]; s != nil {
			o, err := fnote.NewVerifierForCosignatureV1(s.Status().Cosigner)
			c.must(err)
			if o.KeyHash() != known[i+1].KeyHash() || o.Name() != p.Name {
				c.t.Errorf("validator %d shows the key %s", i, s.Status().Cosigner)
			}
		}
	}
	n, err := note.Open(text, note.VerifierList(known...))
	c.must(err)
	if len(n.UnverifiedSigs) > 0 || n.Sigs[0].Name != v.Name() {
		c.t.Errorf("signatures %v, not verified %v", n.Sigs, n.UnverifiedSigs)
	}
	for _, s := range n.Sigs[1:] {
		by = append(by, s.Name)
		if at, err := fnote.CoSigV1Timestamp(s); err != nil || at.Unix() != c.now.Unix() {
			c.t.Errorf("%s cosigned at %v, %v", s.Name, at, err)
		}
	}
	b, err := client.NewProofBuilder(c.t.Context(), cp.Size, f.ReadTile)
	c.must(err)
	bundle, err := client.GetEntryBundle(c.t.Context(), f.ReadEntryBundle, (cp.Size-1)/256, cp.Size)
	c.must(err)
	path, err := b.InclusionProof(c.t.Context(), cp.Size-1)
	c.must(err)
	c.must(proof.VerifyInclusion(rfc6962.DefaultHasher, cp.Size-1, cp.Size, rfc6962.DefaultHasher.HashLeaf(bundle.Entries[(cp.Size-1)%256]), path, cp.Hash))
	return cp.Size, by
}

// TestCosignedCheckpoint: what a drop was made under is served with the validators' cosignatures to stock clients and to an auditor, also
// with one validator less, after restarts of all, and while the log has grown on.
func TestCosignedCheckpoint(t *testing.T) {
	t.Parallel()
	c := begun(t)
	base := c.keep()
	want := func(size uint64, by int) {
		t.Helper()
		if got, names := c.stock(base); got != size || len(names) != by {
			t.Errorf("%d entries by %v are served, want %d by %d", got, names, size, by)
		}
	}
	want(c.told.log.Size(), 0)
	under := c.told.log.Size()
	c.step()
	want(under, 4)
	// An auditor takes it as it is, from the server and from a directory.
	source, err := remote.New(remote.Config{URL: base})
	c.must(err)
	replay, err := audit.NewReplay(c.rootPub, nil)
	c.must(err)
	c.must(audit.ReadFrom(t.Context(), source, c.rootPub, func(e *ledger.Entry) error { return replay.Apply(e) }))
	if replay.Next() != under {
		t.Errorf("the auditor reads %d entries", replay.Next())
	}
	mirror := t.TempDir()
	c.must(os.CopyFS(filepath.Join(mirror, "tile"), os.DirFS(filepath.Join(c.told.dir, "tile"))))
	text, err := os.ReadFile(filepath.Join(c.told.dir, cosigned.File))
	c.must(err)
	c.must(os.WriteFile(filepath.Join(mirror, "checkpoint"), text, 0o600))
	report, err := audit.Audit(t.Context(), audit.Config{Dir: mirror, Root: c.rootPub})
	if err != nil || report.Entries != under {
		t.Errorf("a mirror's audit: %+v, %v", report, err)
	}
	// One is down: three are a quorum. Two are down: the older one stays.
	c.close(3)
	for i := range 3 {
		c.must(c.tell(i))
	}
	under = c.told.log.Size()
	want(under, 3)
	c.close(2)
	c.log(c.bind("cleo"))
	for i := range 2 {
		c.must(c.tell(i))
	}
	want(under, 3)
	// All start again, the operator too; what the second one has cosigned it cosigns again.
	for i := range c.seats {
		c.close(i)
		c.open(i)
	}
	base = c.keep()
	want(under, 3)
	for i := range c.seats {
		c.must(c.tell(i))
	}
	want(c.told.log.Size(), 4)
	c.step()
}

// TestRewind: no validator cosigns less than it did, before and after it was started again, nor anything that its copy does not hold, nor
// while it gives nothing at all.
func TestRewind(t *testing.T) {
	t.Parallel()
	c := begun(t)
	old := c.checkpoint()
	c.log(c.bind("cleo"))
	now := c.checkpoint()
	line := func(i int, text []byte, given bool) {
		t.Helper()
		b, err := c.clients[i].CosignCheckpoint(t.Context(), text)
		c.must(err)
		if given != bytes.HasPrefix(b, []byte("— "+c.keys[i].Public().Name+" ")) || !given && len(b) > 0 {
			t.Errorf("validator %d answers %q", i, b)
		}
	}
	line(0, now, false) // its copy is not long enough yet
	c.must(c.bring(0, c.told))
	line(0, old, true)
	line(0, now, true)
	line(0, old, false)
	c.close(0)
	c.open(0)
	c.must(c.bring(0, c.told))
	line(0, old, false)
	line(0, now, true)
	var all []tlog.Cosigner
	for _, k := range c.keys {
		all = append(all, tlog.Cosigner{Name: k.Public().Name, Key: k.Public().Key})
	}
	b, err := c.clients[0].CosignCheckpoint(t.Context(), now)
	c.must(err)
	if _, by, err := tlog.VerifyCosignatures(c.program.LogKey, all, tlog.AddCosignatures(now, b)); err != nil || len(by) != 1 {
		t.Errorf("the line is by %v, %v", by, err)
	}
	// One that lost its copy and is told another history does not cosign what contradicts the earlier one.
	c.must(c.bring(1, c.told))
	line(1, now, true)
	c.close(1)
	for _, name := range []string{"ledger", "disclosures"} {
		c.must(os.RemoveAll(filepath.Join(c.path("validator1"), name)))
	}
	c.open(1)
	fork := c.story("fork")
	for _, e := range c.told.entries[:len(c.told.entries)-1] {
		fork.add(c, e)
	}
	fork.add(c, c.bind("dora"))
	fork.add(c, c.bind("emil"))
	c.dial(1, "", fork)
	c.must(c.bring(1, fork))
	text, err := fork.checkpoint()
	c.must(err)
	if b, err := c.clients[1].CosignCheckpoint(t.Context(), text); err == nil || !strings.Contains(err.Error(), "not those that were cosigned") {
		t.Errorf("it cosigns another history: %q, %v", b, err)
	}
	// One that has found a second history cosigns no checkpoint of either.
	if err := c.clients[0].Seen(t.Context(), text); err != nil { // longer than its copy: it waits
		t.Fatal(err)
	}
	c.log(c.bind("fay"))
	c.log(c.bind("gus"))
	c.must(c.bring(0, c.told))
	if b, err := c.clients[0].CosignCheckpoint(t.Context(), c.checkpoint()); err == nil || !strings.Contains(err.Error(), "second history") {
		t.Errorf("it cosigns one of two histories: %q, %v", b, err)
	}
	line(0, c.checkpoint(), false)
}
