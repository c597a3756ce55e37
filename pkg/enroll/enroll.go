// Package enroll is how a vehicle gets its client certificate: the messages of enrolment and renewal, for both ends.
//
// A vehicle posts a request to EnrolPath, once, with the token that its registration printed, and to RenewPath ever after. A request
// carries a certification request (PKCS #10, RFC 2986) that the device key signs, which proves that whoever made it had that key. A
// request that is sent again by somebody else yields a certificate of the same key, of no use without it. The answer is the chain of a
// short-lived certificate whose subject is the vehicle; a refusal is problem details (RFC 9457) in JSON with a reason.
//
// Requests and answers are in the deterministic CBOR of package codec; enroll.cddl beside this file is the grammar (RFC 8610). There is one
// certification request for each subject and key, but for its signature: the package refuses extensions, attributes, other names, other
// keys than ECDSA on P-256, and bytes behind it. It decides nothing: whether a vehicle gets a certificate is the collector's question.
package enroll

import (
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	// EnrolPath and RenewPath are where requests are posted.
	EnrolPath = "/v1/enroll"
	RenewPath = "/v1/renew"
	// ContentType is that of requests and answers.
	ContentType = "application/cbor"

	// Version is the version of requests and answers; decoders refuse others.
	Version = 1
	// MaxLen bounds a request, an answer and a refusal in bytes.
	MaxLen = 4 << 10

	maxCSRLen         = 1 << 10
	maxCertificateLen = 2 << 10
	maxChain          = 4
)

// A Request asks for a certificate.
type Request struct {
	Version uint8  `cbor:"0,keyasint"`
	Vehicle string `cbor:"1,keyasint"`
	// CSR is the certification request in DER.
	CSR []byte `cbor:"2,keyasint"`
	// Token is for enrolment alone: NewToken.
	Token string `cbor:"3,keyasint,omitempty"`

	key wire.PublicKey
}

// Validate checks everything that needs no records, the certification request's signature too.
func (r *Request) Validate() (err error) {
	if r.Version != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", r.Version, Version)
	}
	if err := wire.CheckVehicle(r.Vehicle); err != nil {
		return err
	}
	if r.Token != "" {
		if err := checkToken(r.Token); err != nil {
			return err
		}
	}
	r.key, err = checkCSR(r.CSR, r.Vehicle)
	return err
}

// Key returns the device key that signed the request, once Validate has returned nil, as it has where DecodeRequest returned it.
func (r *Request) Key() wire.PublicKey { return r.key }

// Encode validates the request and returns its encoding.
func (r *Request) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode request for a certificate: %w", err)
	}
	return codec.Encode(r)
}

// DecodeRequest reads a request and validates it.
func DecodeRequest(b []byte) (*Request, error) {
	var r Request
	if err := codec.Decode(b, &r, MaxLen); err != nil {
		return nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("cannot accept request for a certificate: %w", err)
	}
	return &r, nil
}

// An Answer grants a certificate.
type Answer struct {
	Version uint8 `cbor:"0,keyasint"`
	// Chain is the vehicle's certificate in DER and then those above it, if any, without the root: 1 to 4.
	Chain [][]byte `cbor:"1,keyasint"`
}

// Validate checks the answer's bounds.
func (a *Answer) Validate() error {
	if a.Version != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", a.Version, Version)
	}
	if len(a.Chain) < 1 || len(a.Chain) > maxChain {
		return fmt.Errorf("%d certificates, want 1 to %d", len(a.Chain), maxChain)
	}
	total := 0
	for _, c := range a.Chain {
		if len(c) == 0 || len(c) > maxCertificateLen {
			return fmt.Errorf("certificate of %d bytes, want 1 to %d", len(c), maxCertificateLen)
		}
		total += len(c)
	}
	if total > MaxLen-32 {
		return errors.New("its certificates are too large")
	}
	return nil
}

// Encode validates the answer and returns its encoding.
func (a *Answer) Encode() ([]byte, error) {
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode answer with a certificate: %w", err)
	}
	return codec.Encode(a)
}

// DecodeAnswer reads an answer and validates its bounds; Leaf says whether it is the one that was asked for.
func DecodeAnswer(b []byte) (*Answer, error) {
	var a Answer
	if err := codec.Decode(b, &a, MaxLen); err != nil {
		return nil, err
	}
	if err := a.Validate(); err != nil {
		return nil, fmt.Errorf("cannot accept answer with a certificate: %w", err)
	}
	return &a, nil
}
