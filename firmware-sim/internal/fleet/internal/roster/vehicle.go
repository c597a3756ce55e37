package roster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

// Number returns the number of the vehicle of a name.
func (r *Roster) Number(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, strings.TrimSuffix(r.Name(0), "000000"))
	i, err := strconv.Atoi(digits)
	return i, ok && err == nil && i >= 0 && i < r.N
}

// derive returns 32 bytes that only who has the seed can know.
func (r *Roster) derive(use string, i, again int) [32]byte {
	text := append(r.seed[:len(r.seed):len(r.seed)], use...)
	text = binary.BigEndian.AppendUint64(text, uint64(i))
	return sha256.Sum256(binary.BigEndian.AppendUint32(text, uint32(again)))
}

// Name returns a vehicle's id. That of another seed is another, so that two rosters can drive for one collector.
func (r *Roster) Name(i int) string {
	h := r.derive("name", 0, 0)
	return fmt.Sprintf("F%s%06d", base32.StdEncoding.EncodeToString(h[:5]), i)
}

// A Key signs the same message the same way each time (RFC 6979), so that a claim that is made again is the same claim.
type Key struct{ *ecdsa.PrivateKey }

func (k Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// The uses of a vehicle's keys.
const (
	ecuKey    = "ecu"
	deviceKey = "device"
)

func (r *Roster) key(use string, i int) (Key, error) {
	for again := range 8 { // 32 bytes are no key once in 2³²
		b := r.derive(use, i, again)
		if k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b[:]); err == nil {
			return Key{k}, nil
		}
	}
	return Key{}, fmt.Errorf("cannot make %s key of vehicle %s", use, r.Name(i))
}

// begin is where a vehicle's drive begins in the chain. Vehicles that play at the same time are at different spans.
func (r *Roster) begin(i int) int { return i * r.Days % (r.chain.Len() - r.Days + 1) }

// snapshot signs a vehicle's snapshot seq, 0 to days.
func (r *Roster) snapshot(ecu Key, i, seq int) (wire.Snapshot, error) {
	return attest.Sign(ecu, r.Program.ProgramID, uint64(seq), r.birth+uint32(seq), r.chain.Commitment(r.begin(i)+seq))
}

// Identity returns the identity of a vehicle's ECU at birth and the manufacturer's certificate of its key, both in PEM.
func (r *Roster) Identity(i int, now time.Time) (identity, certificate []byte, err error) {
	ecu, err := r.key(ecuKey, i)
	if err != nil {
		return nil, nil, err
	}
	id := attest.Identity{Program: r.Program.ProgramID}
	if id.Key, err = wire.NewPublicKey(ecu.Public()); err != nil {
		return nil, nil, err
	}
	if id.Snapshot, err = r.snapshot(ecu, i, 0); err != nil {
		return nil, nil, err
	}
	if identity, err = attest.EncodeIdentity(id); err != nil {
		return nil, nil, err
	}
	// As `collector ca ecu` makes it: for life (RFC 5280 §4.1.2.5).
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		Subject: pkix.Name{CommonName: id.Key.ID().String()}, NotBefore: now.Add(-time.Hour), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, r.Program.ecuCA, ecu.Public(), r.Program.ecuCAKey)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot certify ECU: %w", err)
	}
	return identity, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// DeviceKey returns a vehicle's device key.
func (r *Roster) DeviceKey(i int) (Key, error) { return r.key(deviceKey, i) }

// Km is what a vehicle's claim is worth: claim k, from 0, over the day that follows snapshot k.
func (r *Roster) Km(i, k int) uint32 { return r.policy.Credit(r.chain.Tier(r.begin(i)+k), 1) }

// Claims encodes a vehicle's claims from number k on.
func (r *Roster) Claims(i, k int) (all [][]byte, err error) {
	ecu, err := r.key(ecuKey, i)
	if err != nil {
		return nil, err
	}
	pub, err := wire.NewPublicKey(ecu.Public())
	if err != nil {
		return nil, err
	}
	from, err := r.snapshot(ecu, i, k)
	if err != nil {
		return nil, err
	}
	for ; k < r.Days; k++ {
		to, err := r.snapshot(ecu, i, k+1)
		if err != nil {
			return nil, err
		}
		at, factor := r.begin(i)+k, r.derive("factor", i, k)
		proof, err := r.chain.Proof(at, binary.BigEndian.Uint64(factor[:]))
		if err != nil {
			return nil, err
		}
		c := wire.Claim{
			Version: wire.Version, ECU: pub.ID(), From: wire.NewOrigin(from), To: to,
			Proofs: []wire.ClaimProof{{Policy: r.policy.Serial, Tier: uint8(r.chain.Tier(at)), Proof: proof}},
		}
		b, err := c.Encode()
		if err != nil {
			return nil, err
		}
		all, from = append(all, b), to
	}
	return all, nil
}
