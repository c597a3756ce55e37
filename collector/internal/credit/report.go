package credit

import (
	"context"

	"github.com/veraison/go-cose"

	"rawstone/collector/internal/store"
	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

// report returns the candidate of a usage report's bytes.
func (j *Judge) report(vehicle string, body []byte) *candidate {
	r := claimedReport(body)
	return &candidate{
		read: func(ctx context.Context, tx *store.Tx) (state, error) {
			s, err := j.vehicleState(ctx, tx, vehicle)
			if err != nil || !s.known || r == nil {
				return s, err
			}
			s.reported, err = tx.HasReport(ctx, vehicle, r.Epoch)
			return s, err
		},
		decide: func(s state, checks *checks) verdict {
			switch {
			case !s.known:
				return verdict{reason: wire.ReasonUnknownVehicle}
			case r == nil:
				return verdict{reason: wire.ReasonMalformed}
			}
			switch {
			case !checks.sealed(sealed{s.device, vehicle, string(body)}):
				return verdict{reason: wire.ReasonSignature}
			case j.cfg.Charter == nil || r.Charter != j.cfg.CharterID || r.Families&^j.cfg.Charter.Usage.Families != 0:
				return verdict{reason: wire.ReasonCharter}
			case r.Epoch > s.today && r.Epoch-s.today > 1:
				return verdict{reason: wire.ReasonFuture}
			case s.reported, r.Epoch < s.added:
				// A day before the registration was no dispatch: it would let one vehicle fill past periods as if it were many.
				return verdict{reason: wire.ReasonEpoch}
			}
			return verdict{report: r}
		},
	}
}

// claimedReport returns what the bytes say without asking who signed them, or nil when they are no report at all: only then is the
// sender told that its message is malformed.
func claimedReport(body []byte) *wire.Report {
	if len(body) > wire.MaxReportLen {
		return nil
	}
	var m cose.Sign1Message
	if m.UnmarshalCBOR(body) != nil {
		return nil
	}
	var r wire.Report
	if codec.Decode(m.Payload, &r, wire.MaxReportLen) != nil || r.Validate() != nil {
		return nil
	}
	return &r
}
