package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"rawstone/agent/daemon"
	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/control"
	"rawstone/pkg/command"
)

func newConsent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "consent --config FILE [FAMILY|KIND on|off]",
		Short: "Show or decide what usage reports and claims may tell",
		Long: `Show what the driver has turned on and what could be, each with what it tells; or turn a family of usage statistics or a kind of claim on
or off. Everything is off until it is turned on here. It works whether the agent runs or not; what is turned off has stopped when the
command returns, and what was recorded of it cannot be read any more. What waited to tell of it is withdrawn: at once by an agent that
runs, and by one that does not before it sends anything again.`,
		Example: "  agent consent --config agent.yaml\n  agent consent --config agent.yaml hours on\n  agent consent --config agent.yaml feature/assist off",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) == 2 && (args[1] == "on" || args[1] == "off") {
				return nil
			}
			return errors.New("cannot change consent: name a family or a kind and on or off, or nothing to see them all")
		},
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return atDesk(cmd, func(d control.Desk) (err error) {
			var view consent.View
			if len(args) == 0 {
				view, err = d.Consent(cmd.Context())
			} else {
				view, err = d.Turn(cmd.Context(), args[0], args[1] == "on")
			}
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), view, *asJSON)
		})
	}
	return command.WithConfig(cmd)
}

func newCadence() *cobra.Command {
	return command.WithConfig(&cobra.Command{
		Use:     "cadence --config FILE daily|weekly|monthly",
		Short:   "Decide how often the car speaks",
		Long:    "Decide how often the car makes a claim and a usage report. Nothing is lost by waiting. It works whether the agent runs or not.",
		Example: "  agent cadence --config agent.yaml monthly",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("cannot set cadence: name one of daily, weekly, monthly")
			}
			_, err := consent.ParseCadence(args[0])
			return err
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return atDesk(cmd, func(d control.Desk) error {
				view, err := d.SetCadence(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return show(cmd.OutOrStdout(), view, false)
			})
		},
	})
}

func newPrivacy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "privacy --config FILE",
		Short: "Show what usage reports have cost of the year's privacy budget, on what, and what is left",
		Args:  cobra.NoArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return atDesk(cmd, func(d control.Desk) error {
			s, err := d.Privacy(cmd.Context())
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), s, *asJSON)
		})
	}
	return command.WithConfig(cmd)
}

func newReset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset --config FILE --yes",
		Short: "Take from the car what it knows of its driver, for a new owner; the agent must be stopped",
		Long: `Wipe the journal, what the driver turned on, what waits to be sent, the recorded usage, the ECU's snapshots, receipts, policies and keys,
the car's certificate, and the reports that the privacy budget's store keeps: what was not claimed is lost to the driver. What stays is the account of what was spent of the car's privacy
budget, which holds for whoever owns it, and the device key. The agent does not ask for another certificate with it, and sends nothing,
until the car is enrolled again with agent enroll. A reset that was cut short goes on when the agent starts.`,
		Args: cobra.NoArgs,
	}
	yes := cmd.Flags().Bool("yes", false, "say that it is meant (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !*yes {
			return errors.New("cannot reset: this wipes the journal, every decision and what was not claimed; say --yes if it is meant")
		}
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		if err := daemon.Reset(cfg); err != nil {
			return whose(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "The car knows nothing of its driver any more. It sends nothing until agent enroll is run with a token of its registration.")
		return err
	}
	return command.WithConfig(cmd)
}

// atDesk has f work at the driver's desk, and lets its stores go.
func atDesk(cmd *cobra.Command, f func(control.Desk) error) error {
	logger, err := command.Logger(cmd)
	if err != nil {
		return err
	}
	cfg, err := load(cmd)
	if err != nil {
		return err
	}
	desk, closer, err := daemon.Desk(cmd.Context(), cfg, daemon.Deps{Logger: logger})
	if err != nil {
		return whose(err)
	}
	return errors.Join(f(desk), closer.Close())
}

// whose says what helps where the agent's files are not the caller's.
func whose(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; run it as the agent's user", err)
	}
	return err
}

// show prints v as text or as JSON.
func show(w io.Writer, v interface{ Write(io.Writer) error }, asJSON bool) error {
	if !asJSON {
		return v.Write(w)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
