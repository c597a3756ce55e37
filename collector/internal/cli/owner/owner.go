// Package owner is the commands about one owner: the operator writes a statement, the owner verifies it; and what is kept of a person is handed over
// or destroyed when they ask for it.
//
// They parse, call packages statement, review and person, and say what came of it; they decide nothing.
package owner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/statement/review"
	"rawstone/pkg/command"
)

// A Write writes the statement of an account from the records of the configuration that a command names, beginning with the drop since.
type Write func(cmd *cobra.Command, w io.Writer, account string, since uint64) error

// Command returns the command `owner` with its errands `statement`, `export` and `erase`.
func Command(write Write, records Records) *cobra.Command {
	group := &cobra.Command{Use: "owner", Short: "Write what owners check their part of the ledger with; hand over or erase what is kept of a person"}
	group.AddCommand(newStatement(write), newExport(records), newErase(records))
	return group
}

func newStatement(write Write) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "statement --config FILE --account NAME --out FILE [--since STATE]",
		Short: "Write the statement of one account, which only its owner may have",
		Long: `Write the statement of one account: its entries of the log with what they hide and proofs of inclusion, its place in each day's tree, and the
blocks in between. It holds the account's secret. With the state that the owner has kept, only what is newer.`,
		Example: "  collector owner statement --config /etc/rawstone/collector.yaml --account 00112233445566778899aabbccddeeff --out anna.statement",
		Args:    cobra.NoArgs,
	}
	account := cmd.Flags().String("account", "", "the account (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist; it is secret (required)")
	since := cmd.Flags().String("since", "", "the state that \"collector audit owner\" has kept")
	cmd.PreRunE = named(account)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		drop := uint64(0)
		if *since != "" {
			state, err := review.Load(*since)
			if err != nil {
				return err
			}
			if state == nil {
				return fmt.Errorf("cannot read state: there is no %s; leave --since out for a whole statement", *since)
			}
			if state.Account() != *account {
				return fmt.Errorf("cannot use state %s: it is of account %q", *since, state.Account())
			}
			drop = state.Next()
		}
		return create("statement", *out, func(w io.Writer) error { return write(cmd, w, *account, drop) })
	}
	return command.WithConfig(command.Require(cmd, "account", "out"))
}

// create writes a file that must not exist, and leaves none behind after an error.
func create(what, path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write %s: %s exists; choose another name or remove it", what, path)
	} else if err != nil {
		return fmt.Errorf("cannot write %s: %w", what, err)
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Audit returns the command `owner` that belongs below `collector audit`.
func Audit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "owner --account NAME --statement FILE --root FILE [--state FILE] [--ledger DIR|URL]",
		Short: "Check one account's credits, draws and balances from its statement, without anybody else's data",
		Long: `Check one account's credits, weights, draws and balances from short proofs alone. With a state, statements need only hold what is newer. With
the ledger, it is also checked that the statement shows the log that others see.`,
		Example: "  collector audit owner --account 00112233445566778899aabbccddeeff --statement anna.statement --root root.pub --state anna.state \\\n" +
			"    --ledger https://collector.example/log/",
		Args: cobra.NoArgs,
	}
	var c review.Config
	cmd.Flags().StringVar(&c.Account, "account", "", "the account (required)")
	cmd.Flags().StringVar(&c.Statement, "statement", "", "the statement's file (required)")
	cmd.Flags().StringVar(&c.Root, "root", "", "file that pins the program root (required)")
	cmd.Flags().StringVar(&c.State, "state", "", "file that keeps what was verified; it is secret, and made when there is none")
	cmd.Flags().StringVar(&c.Ledger, "ledger", "", "the ledger's directory, or the URL where a collector hands it out")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := review.Check(cmd.Context(), c)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		}
		return report.Write(cmd.OutOrStdout())
	}
	return command.Require(cmd, "account", "statement", "root")
}
