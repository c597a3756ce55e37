// Package cli is the command line of the agent. It parses, calls package daemon, or asks the running agent's status page, and turns
// errors into one sentence and an exit code; it decides nothing else.
package cli

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"

	"rawstone/agent/daemon"
	"rawstone/agent/internal/status"
	"rawstone/pkg/command"
)

// maxToken bounds what is read of a token's file in bytes.
const maxToken = 4 << 10

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return command.Main(root(), args, stdout, stderr)
}

// root returns the program's command with all others below it.
func root() *cobra.Command {
	root := &cobra.Command{
		Use:     "agent",
		Short:   "Prove driving thresholds and report noised usage from inside the car",
		Version: daemon.Version,
	}
	root.AddCommand(newRun(), newEnroll(), newConsent(), newCadence(), newPrivacy(), newReset(), newCheckConfig(), newJournal(), newReceipts(), newStatus(),
		newDecode())
	return root
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

func newEnroll() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enroll --config FILE --token-file FILE",
		Short: "Make the vehicle's device key and get its client certificate with the token of its registration",
		Long: `Make the vehicle's device key, unless it is there, and get its first client certificate with the token that
"collector vehicle add" or "collector vehicle token" printed; - is standard input. It can be repeated. An agent that runs goes by the new
certificate within a minute; after the device key was replaced it must be restarted.`,
		Example: "  agent enroll --config agent.yaml --token-file CAR1.token",
		Args:    cobra.NoArgs,
	}
	file := cmd.Flags().String("token-file", "", "file with the token, - for standard input (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		logger, err := command.Logger(cmd)
		if err != nil {
			return err
		}
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		token, err := readToken(cmd, *file)
		if err != nil {
			return fmt.Errorf("cannot read token: %w", err)
		}
		return daemon.Enroll(cmd.Context(), cfg, token, daemon.Deps{Logger: logger})
	}
	return command.WithConfig(command.Require(cmd, "token-file"))
}

// readToken returns a file's text, or that of standard input for -, as far as a token can be in it.
func readToken(cmd *cobra.Command, path string) (string, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxToken))
	return string(text), err
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
