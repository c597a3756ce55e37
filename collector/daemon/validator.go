package daemon

import (
	"context"

	"rawstone/collector/internal/validator/daemon"
)

// A Validator is a validator's configuration file.
type Validator = daemon.Config

// ValidatorDeps are what RunValidator is given besides it.
type ValidatorDeps = daemon.Deps

// LoadValidator reads and checks it.
func LoadValidator(path string) (*Validator, error) { return daemon.Load(path) }

// RunValidator runs a validator until ctx is done or something fails, as `collector validator` does.
func RunValidator(ctx context.Context, c *Validator, d ValidatorDeps) error {
	return daemon.Run(ctx, c, d)
}
