package wire

import (
	"errors"
	"fmt"
)

// NumCounters is the number of counters an attestation ECU keeps.
const NumCounters = 7

// Indices into Counters. Every counter is non-decreasing over the life of an ECU and fits 32 bits.
const (
	OdometerM  = iota // metres driven
	DriveTimeS        // seconds with the vehicle moving
	OverspeedS        // seconds above the configured speed
	HardBrakeN        // decelerations beyond 3.5 m/s²
	NightTimeS        // seconds driven at night
	AssistedM         // metres driven with driver assistance engaged
	EnergyWh          // watt-hours taken from the battery for driving
)

// CounterNames returns the counters' names in order, as policies and explanations spell them.
func CounterNames() [NumCounters]string {
	return [NumCounters]string{"odometer_m", "drive_time_s", "overspeed_s", "hard_brake_n", "night_time_s", "assisted_m", "energy_wh"}
}

// Counters are the values of one snapshot; they never leave the car.
type Counters [NumCounters]uint32

// A Salt blinds a commitment: 31 random bytes, so that it is one element of BN254's scalar field.
type Salt [31]byte

// A Commitment is a canonical big-endian element of BN254's scalar field.
type Commitment [32]byte

// An Opening is what a commitment hides.
type Opening struct {
	Counters Counters `cbor:"0,keyasint"`
	Salt     Salt     `cbor:"1,keyasint"`
}

// A Snapshot is the public part of what the attestation ECU emits once a program day.
type Snapshot struct {
	// Seq is strictly increasing over the life of an ECU key; 0 is the snapshot of its birth.
	Seq uint64 `cbor:"0,keyasint"`
	// Day is the program day by the ECU's own clock.
	Day uint32 `cbor:"1,keyasint"`
	// Commitment hides the counters.
	Commitment Commitment `cbor:"2,keyasint"`
	// Signature is the ECU's, over the encoding that package attest makes.
	Signature Signature `cbor:"3,keyasint"`
}

// A Head is the last snapshot of an ECU key that a credit reached.
type Head struct {
	Seq        uint64     `cbor:"0,keyasint"`
	Day        uint32     `cbor:"1,keyasint"`
	Commitment Commitment `cbor:"2,keyasint"`
}

// Head returns the snapshot without its signature.
func (s Snapshot) Head() Head { return Head{Seq: s.Seq, Day: s.Day, Commitment: s.Commitment} }

// An Origin is where a claim begins: a whole snapshot, or the sequence number alone when that is the collector's head.
type Origin struct {
	Seq        uint64 `cbor:"0,keyasint"`
	Day        uint32 `cbor:"1,keyasint,omitempty"`
	Commitment []byte `cbor:"2,keyasint,omitempty"`
	Signature  []byte `cbor:"3,keyasint,omitempty"`
}

// NewOrigin returns an origin that carries the whole snapshot.
func NewOrigin(s Snapshot) Origin {
	return Origin{Seq: s.Seq, Day: s.Day, Commitment: s.Commitment[:], Signature: s.Signature[:]}
}

// Snapshot returns the snapshot that the origin carries, or false when it carries only the sequence number.
func (o Origin) Snapshot() (Snapshot, bool) {
	if o.Commitment == nil {
		return Snapshot{}, false
	}
	return Snapshot{Seq: o.Seq, Day: o.Day, Commitment: Commitment(o.Commitment), Signature: Signature(o.Signature)}, true
}

func (o Origin) validate() error {
	if len(o.Commitment) == 0 && len(o.Signature) == 0 {
		if o.Day != 0 {
			return errors.New("origin has a day but no commitment")
		}
		return nil
	}
	if len(o.Commitment) != len(Commitment{}) || len(o.Signature) != len(Signature{}) {
		return fmt.Errorf("origin has %d bytes of commitment and %d of signature, want 32 and 64", len(o.Commitment), len(o.Signature))
	}
	return nil
}

const (
	// RowsPerStatement is the number of inequalities that the circuit proves at once.
	RowsPerStatement = 4
	// MaxRowBound bounds |B| of a row, so that the slack Σ a·Δ − b of 32-bit counters and coefficients fits 66 bits.
	MaxRowBound = 1 << 62
)

// A Row is one linear inequality over the growth Δ of the counters: Σ A[j]·Δ[j] − B ≥ 0.
type Row struct {
	_ struct{} `cbor:",toarray"`
	A [NumCounters]int32
	B int64
}
