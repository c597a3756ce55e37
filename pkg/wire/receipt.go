package wire

import (
	"crypto"
	"errors"
	"fmt"
)

const (
	contextReceipt = "rawstone/receipt/v1"
	// ReceiptLen is the size of every signed receipt in bytes: whether it accepts does not show in it.
	ReceiptLen = 512
)

// A Reason says why a submission was refused; agents act on it.
type Reason string

// The reasons.
const (
	ReasonMalformed      Reason = "malformed"       // not a message of this package: update the agent
	ReasonUnknownVehicle Reason = "unknown_vehicle" // not registered
	ReasonUnknownKey     Reason = "unknown_key"     // the ECU key is not bound to this vehicle
	ReasonRevoked        Reason = "revoked"         // the ECU key was revoked
	ReasonSignature      Reason = "bad_signature"   // a snapshot's or report's signature does not hold
	ReasonProof          Reason = "bad_proof"       // a proof does not hold
	ReasonGap            Reason = "gap"             // the claim begins beyond the head: rebase to the head given, or, where that lies inside the claim, end the next claim there: the car was sold
	ReasonStale          Reason = "stale"           // the claim begins before the head: rebase to the head given
	ReasonFuture         Reason = "future_day"      // the claim ends more than a day ahead
	ReasonPolicy         Reason = "policy"          // no such policy, tier, or not in force on that day
	ReasonCharter        Reason = "charter"         // the report is not under the charter in force, or holds what none under it can hold
	ReasonEpoch          Reason = "epoch"           // the vehicle has already reported for that epoch
	ReasonBudget         Reason = "budget"          // the report's charge does not follow the last one known of this vehicle's privacy budget: its ledger was rolled back
)

func (r Reason) known() bool {
	switch r {
	case ReasonMalformed, ReasonUnknownVehicle, ReasonUnknownKey, ReasonRevoked, ReasonSignature, ReasonProof, ReasonGap,
		ReasonStale, ReasonFuture, ReasonPolicy, ReasonCharter, ReasonEpoch, ReasonBudget:
		return true
	}
	return false
}

// A Credit is what one proof of an accepted claim earned.
type Credit struct {
	// Policy is the serial of the policy.
	Policy uint16 `cbor:"0,keyasint"`
	// Km is the effective distance in kilometres; 0 for kinds that credit none.
	Km uint32 `cbor:"1,keyasint"`
	// Effective is the program day from which the credit counts.
	Effective uint32 `cbor:"2,keyasint"`
}

// A Receipt is the collector's final word on a submission.
type Receipt struct {
	Version uint8 `cbor:"0,keyasint"`
	// Submission is the identifier of the submission that it answers.
	Submission Hash   `cbor:"1,keyasint"`
	Vehicle    string `cbor:"2,keyasint"`
	// Accepted is the outcome; Reason is set when it is false.
	Accepted bool   `cbor:"3,keyasint"`
	Reason   Reason `cbor:"4,keyasint,omitempty"`
	// Head is the head of the ECU key after the decision, on answers to claims of a known key.
	Head *Head `cbor:"5,keyasint,omitempty"`
	// Credits lists what the claim earned, in the order of its proofs.
	Credits []Credit `cbor:"6,keyasint,omitempty"`
	// Original names the submission that earned these credits first, when that was another one over the same span.
	Original *Hash `cbor:"7,keyasint,omitempty"`
}

// Validate checks that the parts fit each other.
func (r *Receipt) Validate() error {
	if err := CheckVersion(r.Version); err != nil {
		return err
	}
	if err := CheckVehicle(r.Vehicle); err != nil {
		return err
	}
	switch {
	case r.Accepted && r.Reason != "":
		return errors.New("receipt accepts and gives a reason to refuse")
	case !r.Accepted && !r.Reason.known():
		return fmt.Errorf("receipt refuses for the unknown reason %q", r.Reason)
	case !r.Accepted && (len(r.Credits) != 0 || r.Original != nil):
		return errors.New("receipt refuses and gives credits")
	case !r.Accepted && (r.Reason == ReasonGap || r.Reason == ReasonStale) && r.Head == nil:
		return errors.New("receipt asks to rebase and names no head")
	case len(r.Credits) > MaxClaimProofs:
		return fmt.Errorf("receipt has %d credits, at most %d", len(r.Credits), MaxClaimProofs)
	}
	return nil
}

// SealReceipt signs the receipt with the collector's receipt key.
func SealReceipt(key crypto.Signer, r *Receipt) ([]byte, error) {
	b, err := Marshal(r)
	if err != nil {
		return nil, err
	}
	if b, err = Seal(key, contextReceipt, b); err != nil {
		return nil, err
	}
	return pad(b, ReceiptLen)
}

// OpenReceipt checks a signed receipt under the program's receipt keys. Whether it answers a submission of this vehicle is the
// caller's to compare.
func OpenReceipt(keys KeySet, b []byte) (*Receipt, error) {
	payload, err := openPadded(keys, contextReceipt, b, ReceiptLen)
	if err != nil {
		return nil, err
	}
	var r Receipt
	if err := Unmarshal(payload, &r, ReceiptLen); err != nil {
		return nil, err
	}
	return &r, nil
}
