// Package fleet is the commands about accounts, vehicles, their attestation ECUs and, in development, the ECUs' manufacturer.
//
// They parse, do their errand in package registry or package ca, and say what came of it; they decide nothing.
package fleet

import (
	"github.com/spf13/cobra"

	"rawstone/collector/internal/registry"
)

// An Administer does an errand in the registry of the configuration that a command names.
type Administer func(cmd *cobra.Command, do func(*registry.Desk) error) error

// Commands returns the commands account, vehicle, ecu and ca.
func Commands(administer Administer) []*cobra.Command {
	return []*cobra.Command{newAccount(administer), newVehicle(administer), newECU(administer), newCA()}
}
