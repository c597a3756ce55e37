package publish

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/announce"
	"rawstone/pkg/command"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/tlog/remote"
)

func newAnnounce() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "announce --year YEAR --ledger DIR|URL --root FILE [--out DIR]",
		Short: "Render the yearly publication from a ledger: planned amounts, rules with their parameters, odds of every box",
		Long: `Render the yearly publication from a ledger, as a page and as JSON with its schema: planned amounts, rules with their exact parameters,
validators, policies, the odds of every mine box, tasks and catalogue. Nothing but the ledger is read, so that the same entries give
the same bytes to everybody.`,
		Example: "  collector announce --year 2027 --ledger state/ledger --root program/root.pub --out announcement",
		Args:    cobra.NoArgs,
	}
	year := cmd.Flags().Int("year", 0, "year of the calendar at the program's offset, 1970 to 9999 (required)")
	ledger := cmd.Flags().String("ledger", "", "the ledger's directory, or the URL where a collector hands it out (required)")
	root := cmd.Flags().String("root", "", "file that pins the program root (required)")
	out := cmd.Flags().String("out", "announcement", "directory for the page and the data")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		key, err := terms.LoadRoot(*root)
		if err != nil {
			return err
		}
		log, err := open(*ledger)
		if err != nil {
			return err
		}
		a, err := announce.Make(cmd.Context(), announce.Config{Log: log, Root: key, Year: *year})
		if err != nil {
			return err
		}
		if err := a.Write(*out); err != nil {
			return err
		}
		for _, name := range []string{announce.PageFile(*year), announce.DataFile(*year), announce.SchemaFile} {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(*out, name)); err != nil {
				return err
			}
		}
		return nil
	}
	return command.Require(cmd, "year", "ledger", "root")
}

// open returns the log in a directory or on a server.
func open(location string) (tlog.Source, error) {
	if strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://") {
		return remote.New(remote.Config{URL: location})
	}
	return tlog.Dir(location), nil
}
