// Package validator is the command that runs a validator, and the one with which its operator answers a complaint.
package validator

import (
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"rawstone/collector/internal/validator/complaint"
	"rawstone/collector/internal/validator/daemon"
	"rawstone/pkg/command"
	"rawstone/pkg/wire"
)

// Command returns the command validator.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validator --config FILE",
		Short: "Run a validator: check every entry of the ledger with what is behind it, and cosign",
		Example: "  collector validator --config /etc/rawstone/validator.yaml\n" +
			"  collector validator acknowledge --config /etc/rawstone/validator.yaml --submission HEX",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := command.Logger(cmd)
			if err != nil {
				return err
			}
			klog.SetSlogLogger(logger) // Tessera's own words
			cfg, err := daemon.Load(command.ConfigPath(cmd))
			if err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), cfg, daemon.Deps{Logger: logger})
		},
	}
	cmd.AddCommand(acknowledge())
	return command.WithConfig(cmd)
}

func acknowledge() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "acknowledge --config FILE --submission HEX",
		Short: "Let a validator go on although a receipt that the collector signed is overdue; it may be running",
		Args:  cobra.NoArgs,
	}
	text := cmd.Flags().String("submission", "", "the submission whose receipt it is, as the validator logs it (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		id, err := hex.DecodeString(*text)
		if err != nil || len(id) != len(wire.Hash{}) {
			return fmt.Errorf("cannot use submission %q: it is not %d bytes in hexadecimal", *text, len(wire.Hash{}))
		}
		cfg, err := daemon.Load(command.ConfigPath(cmd))
		if err != nil {
			return err
		}
		return complaint.Acknowledge(cfg.StateDir, wire.Hash(id))
	}
	return command.WithConfig(command.Require(cmd, "submission"))
}
