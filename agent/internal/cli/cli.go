// Package cli is the command line of the agent. It parses, calls package daemon, or asks the running agent's status page, and turns
// errors into one sentence and an exit code; it decides nothing else.
package cli

import (
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"

	"rawstone/agent/daemon"
	"rawstone/agent/internal/status"
	"rawstone/pkg/command"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:     "agent",
		Short:   "Prove driving thresholds and report noised usage from inside the car",
		Version: daemon.Version,
	}
	root.AddCommand(newRun(), newInit(), newCheckConfig(), newJournal(), newStatus(), newDecode())
	return command.Main(root, args, stdout, stderr)
}

func newRun() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "run --config FILE",
		Short:   "Run the agent until it is told to stop",
		Example: "  agent run --config /etc/rawstone/agent.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := command.Logger(cmd)
			if err != nil {
				return err
			}
			cfg, err := load(cmd)
			if err != nil {
				return err
			}
			// A head unit is small: the runtime collects early and often rather than grow.
			debug.SetMemoryLimit(int64(cfg.MemoryLimit) << 20)
			debug.SetGCPercent(50)
			return daemon.Run(cmd.Context(), cfg, daemon.Deps{Logger: logger})
		},
	}
	return command.WithConfig(cmd)
}

func newInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "init --config FILE --out FILE",
		Short:   "Make the vehicle's device key and write its public half for registration",
		Example: "  agent init --config agent.yaml --out CAR1.device.pub",
		Args:    cobra.NoArgs,
	}
	out := cmd.Flags().String("out", "", "file for the public key, which must not exist (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		return daemon.Init(cfg, *out)
	}
	return command.WithConfig(command.Require(cmd, "out"))
}

func newCheckConfig() *cobra.Command {
	return command.CheckConfig(daemon.Check)
}

func newJournal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal --config FILE",
		Short: "Print what left the car, why, and what it cost, as JSON; the agent must be running",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return ask(cmd, "/journal") },
	}
	return command.WithConfig(cmd)
}

func newStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status --config FILE",
		Short: "Print the running agent's state as JSON",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return ask(cmd, "/status") },
	}
	return command.WithConfig(cmd)
}

// ask prints a page of the running agent's local status server.
func ask(cmd *cobra.Command, page string) error {
	cfg, err := load(cmd)
	if err != nil {
		return err
	}
	return status.Ask(cmd.Context(), cfg.Status, page, cmd.OutOrStdout())
}

func load(cmd *cobra.Command) (*daemon.Config, error) { return daemon.Load(command.ConfigPath(cmd)) }
