package credit

import (
	"context"

	"rawstone/collector/internal/credit/internal/usage"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// report returns the candidate of a usage report's bytes. Only what is no report at all, whoever might have signed it, is malformed.
func (j *Judge) report(vehicle string, body []byte) *candidate {
	r, malformed := wire.ReadReport(body)
	return &candidate{
		read: func(ctx context.Context, tx *store.Tx) (state, error) {
			s, err := j.vehicleState(ctx, tx, vehicle)
			if err != nil || !s.known || malformed != nil {
				return s, err
			}
			s.charges, err = tx.Charges(ctx, store.Report{Vehicle: vehicle, Device: s.device.ID(), Epoch: r.Epoch, Charge: r.Charge, Charter: r.Charter})
			return s, err
		},
		decide: func(s state, checks *checks) verdict {
			switch {
			case !s.known:
				return verdict{reason: wire.ReasonUnknownVehicle}
			case malformed != nil:
				return verdict{reason: wire.ReasonMalformed}
			case !checks.sealed(sealed{s.device, vehicle, string(body)}):
				return verdict{reason: wire.ReasonSignature}
			}
			if reason := j.usage[r.Charter].Judge(r, usage.Facts{Today: s.today, Added: s.added, Charges: s.charges}); reason != "" {
				return verdict{reason: reason}
			}
			return verdict{report: r}
		},
	}
}
