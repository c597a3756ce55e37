package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
	"rawstone/pkg/wire"
)

func newAccount(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Make accounts for people without a car, and look accounts up",
		Long: "Make accounts for people without a car, and look accounts up. An account comes with a vehicle that is registered without one, or from\n" +
			"here; its owner gives it a key and activates it through the collector's API. Nothing here tells what an account holds, nor a secret.",
	}
	cmd.AddCommand(newAccountAdd(administer), newAccountList(administer), newAccountShow(administer), newAccountRekey(administer))
	return cmd
}

func newAccountAdd(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add --config FILE [--id ID | --list FILE]",
		Short: "Make an account without a car and print its id",
		Long: "Make an account without a car and print its id, a random one by default. With --list, the accounts of a file with an id on each line;\n" +
			"blank lines and those that are there already are passed over, so that the same list may be given again after an interruption.",
		Example: "  collector account add --config collector.yaml\n" +
			"  collector account add --config collector.yaml --list members.txt",
		Args: cobra.NoArgs,
	}
	id := cmd.Flags().String("id", "", "the account's id, at most 64 printable ASCII characters without spaces; a random one by default")
	list := cmd.Flags().String("list", "", "file with many ids, instead")
	cmd.MarkFlagsMutuallyExclusive("id", "list")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("list") {
			return addAccounts(cmd, administer, *list)
		}
		if cmd.Flags().Changed("id") && *id == "" { // an unset variable asks for no random id
			return errors.New("cannot add account: --id is empty: leave it out for a random id")
		}
		var made string
		err := administer(cmd, func(d *registry.Desk) (err error) {
			made, err = d.AddAccount(cmd.Context(), *id)
			return err
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), made)
		return err
	}
	return command.WithConfig(cmd)
}

// addAccounts makes the accounts of a list, and says how many also when it could not go on.
func addAccounts(cmd *cobra.Command, administer Administer, list string) error {
	var added, passed int
	err := administer(cmd, func(d *registry.Desk) (err error) {
		added, passed, err = d.AddAccounts(cmd.Context(), list)
		return err
	})
	_, err2 := fmt.Fprintf(cmd.OutOrStdout(), "%d accounts are made now, %d were there before\n", added, passed)
	return errors.Join(err, err2)
}

func newAccountList(administer Administer) *cobra.Command {
	cmd := &cobra.Command{Use: "list --config FILE", Short: "List the accounts", Args: cobra.NoArgs}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var all []registry.Account
		err := administer(cmd, func(d *registry.Desk) (err error) {
			all, err = d.Accounts(cmd.Context())
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		return printAccounts(cmd.OutOrStdout(), all)
	}
	return command.WithConfig(cmd)
}

func newAccountShow(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show --config FILE --id ID",
		Short:   "Show whether an account is activated and owns a car, and its vehicles",
		Example: "  collector account show --config collector.yaml --id A7K2M4QZ",
		Args:    cobra.NoArgs,
	}
	id := cmd.Flags().String("id", "", "the account's id (required)")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var a registry.Account
		err := administer(cmd, func(d *registry.Desk) (err error) {
			a, err = d.Account(cmd.Context(), *id)
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(a)
		}
		return printAccounts(cmd.OutOrStdout(), []registry.Account{a})
	}
	return command.WithConfig(command.Require(cmd, "id"))
}

func newAccountRekey(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rekey --config FILE --id ID --key (FILE | HEX)",
		Short: "Give an account another key, for an owner who has lost the one in force",
		Long: "Give an account another key, for an owner who has lost the one in force: through the API a key is replaced with its own consent alone.\n" +
			"Be sure who asks, and that the key is theirs: whoever holds it may spend what the account has. The change is an entry of the ledger, and\n" +
			"the account's history and statement show it. --key is the compressed point in hexadecimal, or a file with that or with a public key in PEM.",
		Example: "  collector account rekey --config collector.yaml --id A7K2M4QZ --key new.pub",
		Args:    cobra.NoArgs,
	}
	id := cmd.Flags().String("id", "", "the account's id (required)")
	key := cmd.Flags().String("key", "", "the new public key, or a file with it (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var done registry.Rekeying
		err := administer(cmd, func(d *registry.Desk) (err error) {
			done, err = d.Rekey(cmd.Context(), *id, *key)
			return err
		})
		if err != nil {
			return err
		}
		from := "which had none"
		if done.From != (wire.KeyID{}) {
			from = "instead of " + done.From.String()
		}
		activated := "it is not activated"
		if done.Activated > 0 {
			activated = fmt.Sprintf("it stays activated since day %d", done.Activated)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "account %s has the key %s, %s; %s\n", *id, done.To, from, activated)
		return err
	}
	return command.WithConfig(command.Require(cmd, "id", "key"))
}

func printAccounts(out io.Writer, all []registry.Account) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ACCOUNT\tACTIVATED ON DAY\tOWNER\tVEHICLES")
	for _, a := range all {
		activated, owner, vehicles := "never", "no", "none"
		if a.Activated > 0 {
			activated = strconv.FormatUint(uint64(a.Activated), 10)
		}
		if a.Owner {
			owner = "yes"
		}
		if len(a.Vehicles) > 0 {
			vehicles = strings.Join(a.Vehicles, ",")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.ID, activated, owner, vehicles)
	}
	return w.Flush()
}
