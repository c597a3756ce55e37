package owner

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/person"
	"rawstone/collector/internal/store"
	"rawstone/pkg/command"
)

// Records says where the records of the configuration are that a command names, and opens them for a role.
type Records func(cmd *cobra.Command, role store.Role) (store.Config, error)

// open opens the records for one role.
func (r Records) open(cmd *cobra.Command, role store.Role) (*store.DB, error) {
	c, err := r(cmd, role)
	if err != nil {
		return nil, err
	}
	return store.Open(cmd.Context(), c)
}

// named refuses an empty name of an account, such as an unset variable gives.
func named(account *string) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		if *account == "" {
			return errors.New("--account is empty: name the account (`collector account list` prints them)")
		}
		return nil
	}
}

func newExport(records Records) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export --config FILE --account NAME --out FILE",
		Short: "Write all that is kept of a person, for that person alone",
		Long: `Write all that the records hold of an account's person as one JSON document: the account with its secret and keys, vehicles, bindings, credits,
grants, mine boxes and redemptions with what opens their entries in the ledger, what the cars sent and were answered, and usage reports as they
came, with their noise.`,
		Example: "  collector owner export --config /etc/rawstone/collector.yaml --account 00112233445566778899aabbccddeeff --out anna.json",
		Args:    cobra.NoArgs,
	}
	account := cmd.Flags().String("account", "", "the account (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist; it is secret (required)")
	cmd.PreRunE = named(account)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		db, err := records.open(cmd, store.Person)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return create("export", *out, func(w io.Writer) error {
			return person.Export(cmd.Context(), person.Config{Reader: db}, *account, w)
		})
	}
	return command.WithConfig(command.Require(cmd, "account", "out"))
}

func newErase(records Records) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "erase --config FILE --account NAME --yes",
		Short: "Destroy what is kept of a person, for good",
		Long: `Destroy what the records hold of an account's person: the account with its secret and keys, and all that opens its entries in the ledger, what its
cars sent and were answered, usage reports, and the cars that nobody else had. The ledger stays whole. Validators destroy their copies
as soon as the collector reaches them.

Before: the person's cars are transferred to other accounts, or their ECUs released and the vehicles revoked. The account's stones and crystals
are nobody's afterwards; no one can ever claim them. Earlier backups, and files that were handed to an auditor, still hold what is destroyed
here: they are to be destroyed too.`,
		Example: "  collector owner export --config /etc/rawstone/collector.yaml --account 00112233445566778899aabbccddeeff --out anna.json\n" +
			"  collector owner erase --config /etc/rawstone/collector.yaml --account 00112233445566778899aabbccddeeff --yes",
		Args: cobra.NoArgs,
	}
	account := cmd.Flags().String("account", "", "the account (required)")
	yes := cmd.Flags().Bool("yes", false, "the person knows that nothing of it comes back")
	cmd.PreRunE = named(account)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if !*yes {
			return fmt.Errorf("cannot erase account %s without --yes: its stones and crystals are nobody's afterwards, and nothing of it comes back; `collector owner export` writes what there is", *account)
		}
		var e person.Erased
		err = records.both(cmd, func(ctx context.Context, c person.Config) (err error) {
			e, err = person.Erase(ctx, c, *account)
			return err
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "account %s is erased: %d entries of the ledger have lost their openings; destroy earlier backups, and what auditors were given\n", *account, e.Entries)
		return err
	}
	return command.WithConfig(command.Require(cmd, "account"))
}

// both opens the records for reading and for writing.
func (r Records) both(cmd *cobra.Command, do func(context.Context, person.Config) error) (err error) {
	var c person.Config
	// The administrator's first: that brings SQLite's schema up to date.
	if c.Writer, err = r.open(cmd, store.Admin); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Writer.Close()) }()
	if c.Reader, err = r.open(cmd, store.Person); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Reader.Close()) }()
	return do(cmd.Context(), c)
}
