// Package command is what the command lines of the three programs share: signals, exit codes, the log, the configuration flag.
//
// Exit codes: 0 after success, 1 after an error, which is one sentence on standard error. A program that is interrupted or told to
// terminate stops in order and exits 0.
package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs root with args until it ends or the process is interrupted or terminated, and returns the exit code.
func Main(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentFlags().String("log-format", "json", "form of the log on standard error: json or text")
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), err)
		return 1
	}
	return 0
}

// Logger returns the log that --log-format asks for.
func Logger(cmd *cobra.Command) (*slog.Logger, error) {
	format, err := cmd.Flags().GetString("log-format")
	if err != nil {
		return nil, err
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)), nil
	case "text":
		return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)), nil
	}
	return nil, fmt.Errorf("cannot log: --log-format %q is neither json nor text", format)
}

// WithConfig gives cmd the required flag --config.
func WithConfig(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().String("config", "", "configuration file (required)")
	return Require(cmd, "config")
}

// ConfigPath returns the value of --config.
func ConfigPath(cmd *cobra.Command) string { return cmd.Flags().Lookup("config").Value.String() }

// CheckConfig returns the command that loads a configuration file and does nothing else.
func CheckConfig(load func(path string) error) *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file and report every fault with line and column",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return load(args[0]) },
	}
}

// Require marks flags of cmd as required; they must have been defined.
func Require(cmd *cobra.Command, flags ...string) *cobra.Command {
	for _, f := range flags {
		if err := cmd.MarkFlagRequired(f); err != nil {
			panic("command: " + err.Error()) // a flag that the program's own text does not define
		}
	}
	return cmd
}
