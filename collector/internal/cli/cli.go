// Package cli is the command line of the collector. It parses, calls package daemon, or the rooms that work on files alone, and turns
// errors into one sentence and an exit code; it decides nothing else.
package cli

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"rawstone/collector/daemon"
	"rawstone/collector/internal/cli/audit"
	"rawstone/collector/internal/cli/fleet"
	"rawstone/collector/internal/cli/letters"
	"rawstone/collector/internal/cli/owner"
	"rawstone/collector/internal/cli/publish"
	"rawstone/collector/internal/cli/rite"
	"rawstone/collector/internal/cli/simulate"
	"rawstone/collector/internal/cli/statistics"
	"rawstone/collector/internal/cli/validator"
	"rawstone/collector/internal/registry"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
	"rawstone/pkg/command"
	"rawstone/pkg/terms"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return command.Main(root(), args, stdout, stderr)
}

// root returns the program's command with all others below it.
func root() *cobra.Command {
	root := &cobra.Command{
		Use:   "collector",
		Short: "Verify claims, credit kilometres, draw stones and write the ledger",
	}
	root.AddCommand(newServe(), newInit(), newMigrate(), newBackup(), newRestore(), newOpenings(), newAudit(), rite.Command(), simulate.Command(), newCheckConfig())
	root.AddCommand(fleet.Commands(administer)...)
	root.AddCommand(newPolicy(), newClaim(), newRegistry(), statistics.Command(estimator), letters.Command(socket), validator.Command())
	root.AddCommand(publish.Commands()...)
	root.AddCommand(owner.Command(writeStatement, records))
	return root
}

func newAudit() *cobra.Command {
	cmd := audit.Command()
	cmd.AddCommand(owner.Audit())
	return cmd
}

// records says where the records of the configuration are that the command names.
func records(cmd *cobra.Command, role store.Role) (store.Config, error) {
	cfg, err := load(cmd)
	if err != nil {
		return store.Config{}, err
	}
	return cfg.Store(role)
}

// writeStatement writes an account's statement from the records and the log of the configuration that the command names.
func writeStatement(cmd *cobra.Command, w io.Writer, account string, since uint64) (err error) {
	cfg, err := load(cmd)
	if err != nil {
		return err
	}
	root, err := terms.LoadRoot(cfg.Program.Root)
	if err != nil {
		return err
	}
	records, err := cfg.Store(store.Statements)
	if err != nil {
		return err
	}
	desk, err := statement.Open(cmd.Context(), records, cfg.Statements(root, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desk.Close()) }()
	return desk.Write(cmd.Context(), w, account, since)
}

// load reads the configuration of any of the collector's processes, for a command that runs none.
func load(cmd *cobra.Command) (*daemon.Config, error) {
	return daemon.LoadFor(command.ConfigPath(cmd), 0)
}

// roles adds the flag that says what a process is.
func roles(cmd *cobra.Command) func() (role.Set, error) {
	names := cmd.Flags().StringSlice("role", role.All.List(), "what this process is, where it is not the whole collector")
	return func() (role.Set, error) { return role.Parse(*names) }
}

// administer does an errand in the registry of the configuration that the command names.
func administer(cmd *cobra.Command, do func(*registry.Desk) error) error {
	cfg, err := load(cmd)
	if err != nil {
		return err
	}
	return daemon.Administer(cmd.Context(), cfg, time.Now, do)
}

// socket is where the collector of the configuration that the command names is reached.
func socket(cmd *cobra.Command) (string, error) {
	cfg, err := load(cmd)
	if err != nil {
		return "", err
	}
	return cfg.AdminSocket(), nil
}

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve --config FILE [--role ROLE,ROLE]",
		Short: "Run the collector, or one of its processes, until it is told to stop",
		Example: "  collector serve --config /etc/rawstone/collector.yaml\n" +
			"  collector serve --config /etc/rawstone/b1.yaml --role broker",
		Args: cobra.NoArgs,
	}
	which := roles(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		logger, err := command.Logger(cmd)
		if err != nil {
			return err
		}
		klog.SetSlogLogger(logger) // Tessera's own words
		roles, err := which()
		if err != nil {
			return err
		}
		cfg, err := daemon.LoadFor(command.ConfigPath(cmd), roles)
		if err != nil {
			return err
		}
		// A server collects less often than the runtime's default until it is big; whoever sets GOGC or GOMEMLIMIT knows better.
		if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
			debug.SetGCPercent(300)
			debug.SetMemoryLimit(384 << 20)
		}
		return daemon.Run(cmd.Context(), cfg, daemon.Deps{Logger: logger})
	}
	return command.WithConfig(cmd)
}

func newInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "init --source FILE --dir DIR",
		Short:   "Begin a development program: keys, documents and a single-party setup of the proof system",
		Example: "  collector init --source configs/demo/program.yaml --dir program",
		Args:    cobra.NoArgs,
	}
	source := cmd.Flags().String("source", "", "the program's source (required)")
	dir := cmd.Flags().String("dir", "", "directory to write, which must not hold a program (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		id, err := daemon.Init(*source, *dir, time.Now)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "program %s\n", id)
		return err
	}
	return command.Require(cmd, "source", "dir")
}

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "migrate --config FILE [--owner-url-file FILE]",
		Short:   "Bring the records in PostgreSQL up to date: tables, logins and their rights",
		Example: "  collector migrate --config /etc/rawstone/collector.yaml --owner-url-file owner.url",
		Args:    cobra.NoArgs,
	}
	owner := cmd.Flags().String("owner-url-file", "", "file with the server's address for the login rawstone_owner; records.postgres.url_file by default")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		if err := daemon.Migrate(cmd.Context(), cfg, *owner); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "the records are up to date")
		return err
	}
	return command.WithConfig(cmd)
}

func newOpenings() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "openings --config FILE --out FILE",
		Short: "Write what the auditor needs to see behind the ledger's blinded entries",
		Args:  cobra.NoArgs,
	}
	out := cmd.Flags().String("out", "", "file to write, which must not exist; it is secret (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		return daemon.WriteOpenings(cmd.Context(), cfg, *out)
	}
	return command.WithConfig(command.Require(cmd, "out"))
}

func newCheckConfig() *cobra.Command {
	var which func() (role.Set, error)
	cmd := command.CheckConfig(func(path string) error {
		roles, err := which()
		if err != nil {
			return err
		}
		_, err = daemon.LoadFor(path, roles)
		return err
	})
	which = roles(cmd)
	return cmd
}
