// Package verdict says what follows from the collector's verdict on a submission: where the next claim begins, when a refused one is
// made anew, and what the driver is told.
//
// `gap` and `stale` name a head: the next claim begins there, at once. A head inside the claim, which a `gap` names where the car was sold
// meanwhile, divides it: the next claim ends there and earns for the seller, the one after it begins there. After every other reason, and after MaxRebases of these in a row,
// claims wait: the same span is claimed again after a time that doubles with each refusal, up to 32 times the first. Trying again
// costs a message; not trying would cost kilometres once the cause (a vehicle not yet registered, a key wrongly revoked, an agent
// since updated) is gone. A clock set back never lengthens the wait.
//
// Await is the other thing that claims wait for: a proving key.
//
// The package is arithmetic on archive.State; it believes its caller that a receipt was verified.
package verdict

import (
	"fmt"
	"slices"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// MaxRebases is how many rebases in a row are acted upon at once.
const MaxRebases = 3

// maxDoublings bounds the growth of the wait.
const maxDoublings = 5

// Accept notes an accepted claim that ended with snapshot to.
func Accept(st *archive.State, to wire.Snapshot, r *wire.Receipt) {
	head := to.Head()
	if r.Head != nil && r.Head.Seq > head.Seq {
		head = *r.Head // an older claim over the same span had already carried it further
	}
	st.Head, st.Refusals, st.Reason, st.Since = &head, 0, "", 0
}

// Kept returns the signed receipt of an accepted claim as it is kept, with the kinds of its credits as far as policies name them.
func Kept(c *wire.Claim, r *wire.Receipt, signed []byte, policies []*terms.Policy, now time.Time) archive.Receipt {
	kinds := make([]string, max(len(r.Credits), len(c.Proofs))) // a receipt with fewer credits than that is short
	for _, p := range policies {
		for i, credit := range r.Credits {
			if credit.Policy == p.Serial {
				kinds[i] = p.Kind
			}
		}
	}
	return archive.Receipt{ECU: c.ECU, Seq: c.To.Seq, Claim: r.Submission, Signed: signed, Came: now, Kinds: kinds}
}

// Refuse notes a refused claim: where to begin next, or where to end at the latest, and whether claims wait, which st.Reason then tells.
func Refuse(st *archive.State, c *wire.Claim, r *wire.Receipt, now time.Time) {
	st.Refusals = min(st.Refusals+1, 1<<16)
	rebase := r.Reason == wire.ReasonGap || r.Reason == wire.ReasonStale
	if divides(c, r) {
		cut := *r.Head
		st.Cut = &cut
	} else if rebase {
		head := *r.Head
		st.Head = &head
		st.Spent = min(st.Spent, head.Seq) // the ECU's repetition is wanted again
	}
	if rebase && st.Refusals <= MaxRebases {
		st.Reason, st.Since = "", 0
		return
	}
	st.Reason, st.Since = r.Reason, now.Unix()
}

// divides reports whether a claim is refused because of a cut inside it. Any other gap lies before the claim.
func divides(c *wire.Claim, r *wire.Receipt) bool {
	return r.Reason == wire.ReasonGap && c.From.Seq < r.Head.Seq && r.Head.Seq < c.To.Seq
}

// An Archive holds the snapshots of claimants. *archive.Archive is one.
type Archive interface {
	// Backlog returns a claimant's from its head on, ascending.
	Backlog(archive.State) ([]attest.Message, error)
}

// Backlog returns what a claimant may claim from: its snapshots, up to the cut where one lies behind its head. No snapshot will follow those
// then; once nothing more can be claimed of them the next claim begins at the cut.
func Backlog(a Archive, st archive.State) (list []attest.Message, cut *wire.Head, err error) {
	list, err = a.Backlog(st)
	if err != nil || st.Cut == nil || st.Head != nil && st.Head.Seq >= st.Cut.Seq {
		return list, nil, err
	}
	beyond := slices.IndexFunc(list, func(m attest.Message) bool { return m.Snapshot.Seq > st.Cut.Seq })
	if beyond < 0 {
		beyond = len(list)
	}
	return list[:beyond], st.Cut, nil
}

// RetryAt returns the instant from which claims may be made again, the zero time where nothing holds them. after is the wait that
// follows the first refusal.
func RetryAt(st archive.State, now time.Time, after time.Duration) time.Time {
	if st.Reason == "" {
		return time.Time{}
	}
	since := time.Unix(st.Since, 0)
	if since.After(now) {
		return time.Time{} // the clock was set back: waiting could take years
	}
	return since.Add(after << min(max(st.Refusals, 1)-1, maxDoublings))
}

// Await says whether the next claim waits for the proving keys of policies, lacking, that it would be made under; it notes in st since
// when, and st is to be kept where it changed.
//
// The kinds that a claim leaves out of its span are lost, so it waits: a program day (day) for each new policy, over restarts, after
// which the other kinds go on without it. Kilometres are never given up for another kind: for the key of a mileage policy claims wait
// until it is here, and lose nothing by it, since the span is carried.
func Await(st *archive.State, lacking []*terms.Policy, now time.Time, day time.Duration) bool {
	var serial uint32
	mileage := false
	for _, p := range lacking {
		serial, mileage = max(serial, uint32(p.Serial)), mileage || p.Kind == terms.KindMileage
	}
	since := time.Unix(st.AwaitedSince, 0)
	if serial >= st.Awaited || since.After(now) {
		st.Awaited, st.AwaitedSince = max(st.Awaited, serial+1), now.Unix()
		return true
	}
	return mileage || now.Before(since.Add(day))
}

// Outcome tells the driver how a submission ended.
func Outcome(kind wire.Kind, r *wire.Receipt, t terms.Timing) string {
	if !r.Accepted {
		return fmt.Sprintf("refused (%s): %s", r.Reason, Remedy(kind, r.Reason))
	}
	text := "accepted"
	for _, c := range r.Credits {
		if c.Km > 0 {
			text += fmt.Sprintf(": %d km credited from %s", c.Km, t.Date(c.Effective))
		}
	}
	return text
}

// Remedy tells the driver what follows from a refusal. A refused claim is made again; of a dispatch whose report is refused there is none.
func Remedy(kind wire.Kind, r wire.Reason) string {
	switch {
	case kind != wire.KindReport:
	case r == wire.ReasonFuture:
		return "a clock in the car runs ahead; there is no report of that dispatch, have the clock checked"
	case r == wire.ReasonCharter:
		return "the data charter that it was made under was out of date, or the car reported more often in a year than that allows; there is no report of that dispatch"
	case r == wire.ReasonEpoch:
		return "the vehicle has already reported for that time, or was not registered then; there is no other report of that dispatch"
	}
	switch r {
	case wire.ReasonGap, wire.ReasonStale:
		return "the collector stands at another snapshot, or the car was sold there; the next claim begins or ends there"
	case wire.ReasonUnknownVehicle:
		return "the collector does not know this vehicle; ask the dealer to register it"
	case wire.ReasonUnknownKey:
		return "the attestation ECU is not bound to this vehicle; ask the workshop to register it"
	case wire.ReasonRevoked:
		return "the attestation ECU in this car is no longer the one registered for it: it was replaced, released or revoked; ask the workshop to register the one that is installed"
	case wire.ReasonFuture:
		return "a clock in the car runs ahead; it will be tried again later"
	case wire.ReasonPolicy:
		return "the rules on this car are out of date; it asks for new ones and tries again later"
	case wire.ReasonCharter:
		return "the data charter on this car is out of date; update it"
	case wire.ReasonEpoch:
		return "the vehicle has already reported for that time"
	case wire.ReasonBudget:
		return "the record of the privacy budget on this car is an older copy, so that what was spent is unknown: it makes no more reports; have the workshop enrol the vehicle anew"
	case wire.ReasonMalformed, wire.ReasonSignature, wire.ReasonProof:
		return "the agent made something the collector cannot accept; update the agent"
	}
	return "" // for no reason of package wire
}

// SaltNote is what the driver is told of an ECU that used a salt twice.
const SaltNote = "The attestation ECU used a random number twice. Such snapshots could tell more than they should and are not used, " +
	"so their distance may not be credited; have the ECU checked."
