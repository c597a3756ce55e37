package credit

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// A recorder is a verifier that notes what it is asked.
type recorder struct {
	Verifier
	mu      sync.Mutex
	single  int
	batches [][]claim.Item
	before  func() // when set, called before each batch
}

func (v *recorder) Verify(s claim.Statement, p wire.Proof) error {
	v.mu.Lock()
	v.single++
	v.mu.Unlock()
	return v.Verifier.Verify(s, p)
}

func (v *recorder) VerifyBatch(items []claim.Item) []error {
	v.mu.Lock()
	v.batches = append(v.batches, items)
	v.mu.Unlock()
	if v.before != nil {
		v.before()
	}
	return v.Verifier.VerifyBatch(items)
}

// asked returns how many proofs were verified singly and how many in batches, and forgets them.
func (v *recorder) asked() (single, batched int) {
	single = v.single
	for _, b := range v.batches {
		batched += len(b)
	}
	v.single, v.batches = 0, nil
	return single, batched
}

// record makes the rig's verifiers note what they are asked.
func (r *rig) record() *recorder {
	r.t.Helper()
	v := &recorder{}
	for k, inner := range r.cfg.Verifiers {
		v.Verifier = inner
		r.cfg.Verifiers[k] = v
	}
	r.restart()
	return v
}

// sent is a claim on its way, and what its receipt should say: the reason of a refusal, or the distance.
type sent struct {
	name    string
	vehicle string
	body    []byte
	want    wire.Reason
	km      uint32
}

// sendAll has the claims judged in one batch and checks the answers.
func (r *rig) sendAll(all ...sent) {
	r.t.Helper()
	var subs []Submission
	for _, s := range all {
		subs = append(subs, Submission{s.vehicle, s.body})
	}
	applies := r.prepareAll(wire.KindClaim, subs...)
	for i, s := range all {
		got, _ := r.apply(s.vehicle, s.body, applies[i])
		var km uint32
		for _, c := range got.Credits {
			km += c.Km
		}
		if got.Accepted != (s.want == "") || got.Reason != s.want || km != s.km {
			r.t.Errorf("%s: accepted %v for reason %q with %d km, want %q with %d", s.name, got.Accepted, got.Reason, km, s.want, s.km)
		}
	}
}

// TestBatchOfGoodAndBad judges everything that can be wrong beside what is right: each gets its own answer, and no bad signature
// comes near the proofs.
func TestBatchOfGoodAndBad(t *testing.T) {
	r := newRig(t)
	v := r.record()
	type car struct {
		e         *ecu
		birth, to wire.Snapshot
	}
	cars := make([]car, 8)
	for i := range cars {
		e := newECU(t)
		birth, _ := r.add(fmt.Sprintf("V%d", i), e)
		cars[i] = car{e, birth, e.at(t, 1, 99, 1_020_000)}
	}
	span := func(i int, ps ...proof) *wire.Claim { return r.span(cars[i].e, cars[i].birth, cars[i].to, ps...) }
	good := r.encode(span(0))
	stolen := span(1) // the end is signed by another key
	stolen.To = cars[0].to
	forged := span(2)
	forged.To.Signature[5] ^= 1
	begin := span(3) // the begin is not signed
	begin.From.Signature = slices.Clone(begin.From.Signature)
	begin.From.Signature[5] ^= 1
	others := span(4) // another's proof: true, and not of this
	others.Proofs[0].Proof = span(5).Proofs[0].Proof
	half := span(6, proof{1, 1}, proof{2, 0})
	half.Proofs[1].Proof = half.Proofs[0].Proof
	r.sendAll(
		sent{"good", "V0", good, "", 10},
		sent{"the same bytes", "V0", good, "", 10},
		sent{"of another vehicle", "V1", good, wire.ReasonUnknownKey, 0},
		sent{"another key's snapshot", "V1", r.encode(stolen), wire.ReasonSignature, 0},
		sent{"end not signed", "V2", r.encode(forged), wire.ReasonSignature, 0},
		sent{"begin not signed", "V3", r.encode(begin), wire.ReasonSignature, 0},
		sent{"another's proof", "V4", r.encode(others), wire.ReasonProof, 0},
		sent{"tier one higher", "V5", r.encode(span(5, proof{1, 3})), wire.ReasonProof, 0},
		sent{"the right tier", "V5", r.encode(span(5, proof{1, 2})), "", 20},
		sent{"one bad of two", "V6", r.encode(half), wire.ReasonProof, 0},
		sent{"no claim", "V6", []byte("hello"), wire.ReasonMalformed, 0},
		sent{"good at the end", "V7", r.encode(span(7)), "", 10},
	)
	// good, another's, two tiers, two of V6, good at the end
	if single, batched := v.asked(); single != 0 || batched != 7 {
		t.Errorf("%d proofs verified singly and %d in batches, want 0 and 7", single, batched)
	}
	if km := r.summary().KmProven; km != 40 {
		t.Errorf("%d km credited, want 40", km)
	}
}

// TestChainInOneBatch sends a car's backlog: each claim begins where the one before it ends, and all are verified together.
func TestChainInOneBatch(t *testing.T) {
	r, e := newRig(t), newECU(t)
	v := r.record()
	birth, _ := r.add("V1", e)
	from := birth
	var all []sent
	var last wire.Snapshot
	for i := range 5 {
		to := e.at(t, uint64(i+1), 90+uint32(i), 1_020_000+20_000*uint32(i))
		c := r.span(e, from, to)
		if i%2 == 1 {
			c.From = wire.Origin{Seq: from.Seq}
		}
		all = append(all, sent{fmt.Sprint(i), "V1", r.encode(c), "", 10})
		from, last = to, to
	}
	r.sendAll(all...)
	if single, batched := v.asked(); single != 0 || batched != 5 {
		t.Errorf("%d proofs verified singly and %d in batches, want 0 and 5", single, batched)
	}
	if h := r.head(e); h != last.Head() {
		t.Errorf("head %+v, want %+v", h, last.Head())
	}
}

// TestBrokenChainInOneBatch: what follows a claim that does not hold is a gap, though the plan took it for good.
func TestBrokenChainInOneBatch(t *testing.T) {
	r, e := newRig(t), newECU(t)
	v := r.record()
	birth, _ := r.add("V1", e)
	a, b, c := e.at(t, 1, 96, 1_020_000), e.at(t, 2, 97, 1_040_000), e.at(t, 3, 98, 1_060_000)
	broken, next, rest := r.encode(r.span(e, birth, a, proof{1, 3})), r.encode(r.span(e, a, b)), r.encode(r.claim(e, wire.Origin{Seq: 2}, c, b))
	r.sendAll(
		sent{"tier too high", "V1", broken, wire.ReasonProof, 0},
		sent{"next", "V1", next, wire.ReasonGap, 0},
		sent{"by number", "V1", rest, wire.ReasonGap, 0},
		sent{"the first again", "V1", r.encode(r.span(e, birth, a)), "", 10},
		sent{"the second again", "V1", r.encode(r.span(e, a, b)), "", 10},
	)
	if single, _ := v.asked(); single != 0 {
		t.Errorf("%d proofs verified singly", single)
	}
}

// TestUnforeseenQuestionIsAnswered lets the state move in a way that no plan foresees.
func TestUnforeseenQuestionIsAnswered(t *testing.T) {
	for _, tier := range []uint8{1, 3} {
		r, e := newRig(t), newECU(t)
		v := r.record()
		birth, _ := r.add("V1", e)
		a, b := e.at(t, 1, 96, 1_020_000), e.at(t, 2, 97, 1_040_000)
		body := r.encode(r.claim(e, wire.Origin{Seq: 1}, b, a, proof{1, tier}))
		checked := r.prepare("V1", wire.KindClaim, body) // a gap: its begin is not known
		if single, batched := v.asked(); single+batched != 0 {
			t.Errorf("%d proofs verified without a statement", single+batched)
		}
		r.accepted(r.send("V1", r.span(e, birth, a)), 10)
		v.asked()
		got, _ := r.apply("V1", body, checked)
		if tier == 1 {
			r.accepted(got, 10)
		} else {
			r.refused(got, wire.ReasonProof, 10)
		}
		if single, batched := v.asked(); single != 1 || batched != 0 {
			t.Errorf("%d proofs verified singly and %d in batches, want 1 and 0", single, batched)
		}
	}
}

// picky accepts no proof: it stands for the key of another setup.
type picky struct{}

func (picky) Verify(claim.Statement, wire.Proof) error { return errors.New("not mine") }
func (picky) VerifyBatch(items []claim.Item) []error {
	return slices.Repeat([]error{errors.New("not mine")}, len(items))
}

// TestTwoVerifyingKeys proves one statement by the same bytes under the keys of two setups, of which one accepts them.
func TestTwoVerifyingKeys(t *testing.T) {
	for _, first := range []bool{true, false} {
		r, e, other := newRig(t), newECU(t), newECU(t)
		feature := *r.cfg.Policies[1]
		feature.Serial, feature.Kind, feature.VerifyingKey = 5, "feature/eco", wire.Hash{9}
		r.cfg.Policies = append(r.cfg.Policies, &feature)
		r.cfg.Verifiers[feature.VerifyingKey] = picky{}
		r.restart()
		birth, _ := r.add("V1", e)
		r.add("V2", other)
		c := r.span(e, birth, e.at(t, 1, 99, 1_020_000), proof{2, 0})
		wrong := *c
		wrong.Proofs = slices.Clone(c.Proofs)
		wrong.Proofs[0].Policy = 5
		all := []sent{{"right key", "V1", r.encode(c), "", 0}, {"wrong key", "V1", r.encode(&wrong), wire.ReasonProof, 0}}
		if !first {
			slices.Reverse(all)
		}
		r.sendAll(all...)
	}
}

// TestEqualProofsOfOtherStatements has one proof stand for several statements in a batch: it holds for its own alone.
func TestEqualProofsOfOtherStatements(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	good := r.span(e, birth, to)
	p := good.Proofs[0].Proof
	r.sendAll(
		sent{"higher", "V1", r.encode(r.forge(e, birth, to, 1, 3, p)), wire.ReasonProof, 0},
		sent{"good", "V1", r.encode(good), "", 10},
		sent{"higher again", "V1", r.encode(r.forge(e, birth, to, 1, 4, p)), wire.ReasonProof, 0},
		sent{"another kind", "V1", r.encode(r.forge(e, birth, to, 2, 0, p)), wire.ReasonProof, 0},
	)
}

// TestGoodAndBadProofOfOneStatement has a proof that holds and one that does not stand for one statement, in either order.
func TestGoodAndBadProofOfOneStatement(t *testing.T) {
	for _, first := range []bool{true, false} {
		r, e := newRig(t), newECU(t)
		birth, _ := r.add("V1", e)
		to := e.at(t, 1, 99, 1_020_000)
		good := r.span(e, birth, to)
		bad := r.forge(e, birth, to, 1, 1, r.span(e, birth, to, proof{2, 0}).Proofs[0].Proof)
		all := []sent{{"good", "V1", r.encode(good), "", 10}, {"bad", "V1", r.encode(bad), wire.ReasonProof, 0}}
		if !first {
			slices.Reverse(all)
		}
		r.sendAll(all...)
	}
}

// TestOneSnapshotUnderTwoKeys has a snapshot's signature count for the key that made it alone, whichever is asked first.
func TestOneSnapshotUnderTwoKeys(t *testing.T) {
	for _, first := range []bool{true, false} {
		r, e, thief := newRig(t), newECU(t), newECU(t)
		birth, _ := r.add("V1", e)
		r.add("V2", thief)
		c := r.span(e, birth, e.at(t, 1, 99, 1_020_000))
		stolen := *c
		stolen.ECU = thief.pub.ID()
		all := []sent{{"owner's", "V1", r.encode(c), "", 10}, {"thief's", "V2", r.encode(&stolen), wire.ReasonSignature, 0}}
		if !first {
			slices.Reverse(all)
		}
		r.sendAll(all...)
	}
}

// TestReportsInOneBatch checks the device keys of many reports together.
func TestReportsInOneBatch(t *testing.T) {
	r := newRig(t)
	_, device := r.add("V1", newECU(t))
	_, other := r.add("V2", newECU(t))
	body := func(vehicle string, epoch uint32) []byte {
		key := device
		if vehicle == "V2" {
			key = other
		}
		return report(t, key, wire.Report{Vehicle: vehicle, Charter: r.cfg.CharterID, Epoch: epoch, Families: wire.FamilyHours})
	}
	forged := body("V1", today)
	forged[len(bytes.TrimRight(forged, "\x00"))-2] ^= 1
	stolen, first := body("V2", today), body("V1", today)
	all := []sent{
		{"forged", "V1", forged, wire.ReasonSignature, 0},
		{"another's", "V1", stolen, wire.ReasonSignature, 0},
		{"first", "V1", first, "", 0},
		{"first of another", "V2", stolen, "", 0},
		{"the same bytes", "V1", first, "", 0},
		{"a second one of the day", "V1", body("V1", today), wire.ReasonEpoch, 0},
		{"the next day's", "V1", body("V1", today+1), "", 0},
		{"no report", "V1", []byte("hello"), wire.ReasonMalformed, 0},
	}
	var subs []Submission
	for _, s := range all {
		subs = append(subs, Submission{s.vehicle, s.body})
	}
	for i, apply := range r.prepareAll(wire.KindReport, subs...) {
		got, _ := r.apply(all[i].vehicle, all[i].body, apply)
		if got.Accepted != (all[i].want == "") || got.Reason != all[i].want {
			t.Errorf("%s: accepted %v for %q, want %q", all[i].name, got.Accepted, got.Reason, all[i].want)
		}
	}
}

// TestUnreadableVehicleHoldsUpNobody breaks one vehicle's record.
func TestUnreadableVehicleHoldsUpNobody(t *testing.T) {
	r, e, other := newRig(t), newECU(t), newECU(t)
	birth, _ := r.add("V1", e)
	r.add("V2", other)
	raw, err := sql.Open("sqlite", "file:"+r.path+"?_pragma=ignore_check_constraints(1)&_pragma=busy_timeout(60000)")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`UPDATE vehicles SET device = x'00' WHERE id = 'V2'`); err != nil {
		t.Fatal(err)
	}
	good := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	got := r.judge.Prepare(t.Context(), wire.KindClaim, []Submission{{"V2", good}, {"V1", good}, {"V2", []byte("x")}})
	for i, failed := range []bool{true, false, true} {
		if (got[i].Err != nil) != failed || (got[i].Apply == nil) != failed {
			t.Errorf("submission %d: %v", i, got[i].Err)
		}
	}
	receipt, _ := r.apply("V1", good, got[1].Apply)
	r.accepted(receipt, 10)
}

// TestCancelledBetweenPieces ends the context while the first piece of the proofs is verified: no other is begun and nothing is decided.
func TestCancelledBetweenPieces(t *testing.T) {
	r, e := newRig(t), newECU(t)
	r.cfg.Workers = 1
	v := r.record()
	second := *r.cfg.Policies[1]
	second.Serial, second.Kind, second.VerifyingKey = 5, "feature/eco", wire.Hash{9}
	r.cfg.Policies = append(r.cfg.Policies, &second)
	r.cfg.Verifiers[second.VerifyingKey] = v
	r.restart()
	birth, _ := r.add("V1", e)
	c := r.span(e, birth, e.at(t, 1, 99, 1_020_000), proof{1, 1}, proof{5, 0})
	ctx, cancel := context.WithCancel(t.Context())
	v.before = cancel
	got := r.judge.Prepare(ctx, wire.KindClaim, []Submission{{"V1", r.encode(c)}, {"V1", nil}})
	for _, p := range got {
		if !errors.Is(p.Err, context.Canceled) || p.Apply != nil {
			t.Errorf("got %v", p.Err)
		}
	}
	if len(v.batches) != 1 {
		t.Errorf("%d pieces begun, want 1", len(v.batches))
	}
	for _, p := range r.judge.Prepare(t.Context(), "other", []Submission{{"V1", nil}}) {
		if p.Err == nil || p.Apply != nil {
			t.Error("a submission of an unknown kind was judged")
		}
	}
	if got := r.judge.Prepare(t.Context(), wire.KindClaim, nil); len(got) != 0 {
		t.Errorf("%d answers to nothing", len(got))
	}
}

// TestPieces spreads the proofs of a batch over the workers and bounds each piece.
func TestPieces(t *testing.T) {
	for _, c := range []struct{ proofs, workers, pieces int }{{1, 2, 1}, {2, 2, 2}, {7, 3, 3}, {5, 8, 5}, {600, 2, 3}, {512, 1, 2}} {
		r := newRig(t)
		e := newECU(t)
		for k := range r.cfg.Verifiers {
			r.cfg.Verifiers[k] = twin{e}
		}
		registry := prometheus.NewRegistry()
		r.cfg.Workers, r.cfg.Registerer = c.workers, registry
		v := r.record()
		birth, _ := r.add("V1", e)
		var subs []Submission
		for i := range c.proofs {
			m := r.forge(e, birth, e.at(t, uint64(i+1), 99, 1_020_000), 1, uint8(i%2), wire.Proof{1})
			subs = append(subs, Submission{"V1", r.encode(m)})
		}
		r.prepareAll(wire.KindClaim, subs...)
		pieces := len(v.batches)
		if _, batched := v.asked(); pieces != c.pieces || batched != c.proofs {
			t.Errorf("%d proofs by %d workers: %d in %d pieces, want %d", c.proofs, c.workers, batched, pieces, c.pieces)
		}
		if n := testutil.CollectAndCount(registry, "rawstone_credit_batch_proofs"); n != 1 {
			t.Errorf("%d histograms of proofs", n)
		}
	}
}

// TestBatchIsOneByOne sends arbitrary claims of a few vehicles in arbitrary batches to one judge and one by one to another: they
// say the same.
func TestBatchIsOneByOne(t *testing.T) {
	one, all, known := newRig(t), newRig(t), newECU(t)
	for _, r := range []*rig{one, all} {
		for k := range r.cfg.Verifiers {
			r.cfg.Verifiers[k] = twin{known}
		}
		r.restart()
	}
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		var vehicles [2]string
		var snaps [2][]wire.Snapshot
		var ecus [2]*ecu
		for i := range vehicles {
			vehicles[i], ecus[i] = fmt.Sprintf("V%dN%d", runs, i), newECU(t)
			ecus[i].openings = known.openings
			birth, _ := one.add(vehicles[i], ecus[i])
			_, device := newKey(t)
			all.register(vehicles[i], device)
			all.bind(vehicles[i], ecus[i], birth)
			snaps[i] = []wire.Snapshot{birth}
			for k := range 4 {
				snaps[i] = append(snaps[i], ecus[i].at(t, uint64(k+1), 60+uint32(k), 1_020_000+20_000*uint32(k)))
			}
		}
		var subs []Submission
		for range rapid.IntRange(1, 10).Draw(rt, "claims") {
			if len(subs) > 0 && rapid.IntRange(0, 5).Draw(rt, "again") == 0 {
				subs = append(subs, subs[rapid.IntRange(0, len(subs)-1).Draw(rt, "which")])
				continue
			}
			i := rapid.IntRange(0, 1).Draw(rt, "vehicle")
			from := rapid.IntRange(0, 3).Draw(rt, "from")
			to := min(from+rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(rt, "length"), 4)
			c := &wire.Claim{Version: wire.Version, ECU: ecus[i].pub.ID(), From: wire.NewOrigin(snaps[i][from]), To: snaps[i][to]}
			switch rapid.IntRange(0, 8).Draw(rt, "form") {
			case 0, 1, 2:
				c.From = wire.Origin{Seq: snaps[i][from].Seq}
			case 3:
				c.Forfeit = true
			case 4:
				c.To.Signature[0] ^= 1
			}
			for _, serial := range rapid.SampledFrom([][]uint16{{1}, {2}, {1, 2}}).Draw(rt, "policies") {
				p := wire.ClaimProof{Policy: serial, Proof: wire.Proof{1}}
				if serial == 1 {
					p.Tier = uint8(rapid.SampledFrom([]int{0, 1, 2, 3}).Draw(rt, "tier"))
				}
				c.Proofs = append(c.Proofs, p)
			}
			subs = append(subs, Submission{vehicles[i], one.encode(c)})
		}
		var want []*wire.Receipt
		for _, s := range subs {
			r, _ := one.submit(s.Vehicle, wire.KindClaim, s.Body)
			want = append(want, r)
		}
		for at := 0; at < len(subs); {
			n := rapid.IntRange(1, len(subs)-at).Draw(rt, "batch")
			for i, apply := range all.prepareAll(wire.KindClaim, subs[at:at+n]...) {
				got, _ := all.apply(subs[at+i].Vehicle, subs[at+i].Body, apply)
				if d := cmp.Diff(want[at+i], got); d != "" {
					rt.Fatalf("submission %d: %s", at+i, d)
				}
			}
			at += n
		}
	})
}

// TestAcceptedClaimsAreKept keeps the bytes of what credits stand on, each once, and of nothing else: not of a span proven again.
func TestAcceptedClaimsAreKept(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, device := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	first, again := r.encode(r.span(e, birth, to)), r.encode(r.span(e, birth, to, proof{1, 0}))
	further := r.encode(r.span(e, birth, to, proof{1, 0}, proof{2, 0}))
	for _, body := range [][]byte{first, r.encode(r.span(e, birth, to, proof{1, 4})), []byte("x"), again, further, first, again, further} {
		r.submit("V1", wire.KindClaim, body)
	}
	r.submit("V1", wire.KindReport, report(t, device, wire.Report{Vehicle: "V1", Charter: r.cfg.CharterID, Epoch: today, Families: wire.FamilyHours}))
	if kept := r.claims(); len(kept) != 2 || !bytes.Equal(kept[0], first) || !bytes.Equal(kept[1], further) {
		t.Errorf("kept %d claims: %x", len(kept), kept)
	}
}
