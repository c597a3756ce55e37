package enroll

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ProblemType is the content type of refusals.
const ProblemType = "application/problem+json"

// A Reason says why a request was refused; agents act on it.
type Reason string

// The reasons. Nobody learns from them which vehicles there are: a wrong token and a vehicle that is not registered are one reason, and
// so are a wrong key and such a vehicle.
const (
	// ReasonMalformed: the request is not one that this collector reads. Update the agent.
	ReasonMalformed Reason = "malformed"
	// ReasonToken: the token is not valid for this vehicle, was used, or has expired. Have a new one made with `collector vehicle token`.
	ReasonToken Reason = "token"
	// ReasonKey: the vehicle is not enrolled with this device key. Enrol again with a new token.
	ReasonKey Reason = "key"
	// ReasonTaken: the device key already belongs to another vehicle or to an ECU. Make a new device key.
	ReasonTaken Reason = "taken"
	// ReasonRevoked: the vehicle is revoked. Stop and tell the driver.
	ReasonRevoked Reason = "revoked"
	// ReasonLate: the last certificate ended more than 24 months ago. Enrol again with a new token.
	ReasonLate Reason = "late"
	// ReasonBusy: too many attempts, or the collector cannot look now. Try again after the header Retry-After, in seconds.
	ReasonBusy Reason = "busy"
)

// Final reports whether asking again without an operator's help is of no use.
func (r Reason) Final() bool { return r != ReasonBusy }

func (r Reason) known() bool {
	switch r {
	case ReasonMalformed, ReasonToken, ReasonKey, ReasonTaken, ReasonRevoked, ReasonLate, ReasonBusy:
		return true
	}
	return false
}

// A Problem is a refusal: problem details (RFC 9457) with a reason.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is one sentence for people.
	Detail string `json:"detail"`
	Reason Reason `json:"reason"`
}

// Error implements error.
func (p *Problem) Error() string {
	return fmt.Sprintf("cannot get a certificate: the collector refuses: %s", p.Detail)
}

// DecodeProblem reads a refusal. Whatever is not one, as from a proxy in between, is an error and no reason to give up.
func DecodeProblem(b []byte) (*Problem, error) {
	if len(b) > MaxLen {
		return nil, fmt.Errorf("cannot read refusal: %d bytes, at most %d allowed", len(b), MaxLen)
	}
	var p Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("cannot read refusal: %w", err)
	}
	if !p.Reason.known() || p.Detail == "" {
		return nil, errors.New("cannot read refusal: it gives no reason that is known")
	}
	return &p, nil
}
