package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"rawstone/collector/daemon"
	"rawstone/collector/internal/keep"
	"rawstone/pkg/command"
)

// copies completes a command that copies, to or from the directory that a flag names, and then says what.
func copies(cmd *cobra.Command, o *keep.Options, flag, usage, said string, do func(context.Context, *daemon.Config, keep.Options) (*keep.Summary, error)) *cobra.Command {
	cmd.Flags().StringVar(&o.Dir, flag, "", usage)
	cmd.Flags().StringVar(&o.OwnerURL, "owner-url-file", "", "file with PostgreSQL's address for the login rawstone_owner; records.postgres.url_file by default")
	cmd.Flags().StringVar(&o.Programs, "postgres-programs", "", "folder of pg_dump and pg_restore; those on PATH by default")
	cmd.Args, o.Now = cobra.NoArgs, time.Now
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if o.Logger, err = command.Logger(cmd); err != nil {
			return err
		}
		klog.SetSlogLogger(o.Logger)
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		m, err := do(cmd.Context(), cfg, *o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "program %.8s as of %s, %d ledger entries, %d files: %s\n", m.Program, m.Time.Format(time.RFC3339), m.Records, len(m.Files), said)
		return err
	}
	return command.WithConfig(command.Require(cmd, flag))
}

func newBackup() *cobra.Command {
	return copies(&cobra.Command{Use: "backup --config FILE --out DIR",
		Short: "Copy records, ledger and the files that the configuration names, secret keys among them, while the collector runs"}, new(keep.Options), "out", "directory to write, which must not exist or be empty; whoever has it can sign as the collector does (required)",
		"backed up with the secret keys; keep this as you keep them", keep.Backup)
}

func newRestore() *cobra.Command {
	o := new(keep.Options)
	cmd := &cobra.Command{Use: "restore --config FILE --from DIR [--checkpoint FILE]",
		Short: "Check a backup and put it where the configuration says; nothing else may be there"}
	cmd.Flags().StringVar(&o.Checkpoint, "checkpoint", "", "the newest checkpoint of the ledger that a witness or an auditor has; a backup that is behind it is refused")
	return copies(cmd, o, "from", "the backup's directory (required)", "restored; start the collector, and let the one that was backed up never run again", keep.Restore)
}
