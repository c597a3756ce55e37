package fleet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
)

func newVehicle(administer Administer) *cobra.Command {
	cmd := &cobra.Command{Use: "vehicle", Short: "Register vehicles, let them enrol, transfer, revoke and list them"}
	cmd.AddCommand(newVehicleAdd(administer), newVehicleToken(administer), newVehicleModel(administer), newVehicleTransfer(administer), newVehicleRevoke(administer), newVehicleList(administer))
	return cmd
}

func newVehicleAdd(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add --config FILE (--vehicle ID --ecu-key FILE --ecu-cert FILE | --list FILE --tokens FILE)",
		Short: "Bind an attestation ECU to a vehicle, log its first head, and print the token for its enrolment",
		Long: "Bind an attestation ECU to a vehicle; its first head is logged. Standard output is the token with which the vehicle enrols, once:\n" +
			"nothing else shows it again. Give it to the vehicle's `agent enroll` over a way that nobody else reads.\n\n" +
			"With --list, many vehicles at once: a CSV file whose first line is id,ecu_key,ecu_cert and may go on with ,account and then ,model.\n" +
			"ecu_key and ecu_cert are names of files, relative to the list's, or their PEM text itself. A line VEHICLE TOKEN for each goes to the end of the\n" +
			"file --tokens, which nobody else may read; where a vehicle has several, the last is good. Vehicles that are registered already are\n" +
			"passed over, so that the same list may be given again after an interruption.",
		Example: "  collector vehicle add --config collector.yaml --vehicle CAR1 --ecu-key CAR1.identity.pem --ecu-cert CAR1.cert.pem > CAR1.token\n" +
			"  collector vehicle add --config collector.yaml --list cars.csv --tokens cars.tokens",
		Args: cobra.NoArgs,
	}
	var v registry.Vehicle
	idIsVehicle(cmd)
	cmd.Flags().StringVar(&v.ID, "vehicle", "", "the vehicle's id, 1 to 32 characters of A-Z and 0-9")
	cmd.Flags().StringVar(&v.ECUKey, "ecu-key", "", "file with the ECU's identity")
	cmd.Flags().StringVar(&v.ECUCert, "ecu-cert", "", "file with the manufacturer's certificate of the ECU's key, in PEM")
	cmd.Flags().StringVar(&v.Account, "account", "", "an existing account; a new one by default")
	cmd.Flags().StringVar(&v.Model, "model", "", "the vehicle's model, by which usage statistics are told apart; unknown by default")
	list := cmd.Flags().String("list", "", "file with many vehicles, instead")
	tokens := cmd.Flags().String("tokens", "", "file that gets the tokens of those in the list")
	cmd.MarkFlagsOneRequired("vehicle", "list")
	cmd.MarkFlagsMutuallyExclusive("vehicle", "list")
	cmd.MarkFlagsMutuallyExclusive("account", "list")
	cmd.MarkFlagsMutuallyExclusive("model", "list")
	cmd.MarkFlagsRequiredTogether("vehicle", "ecu-key", "ecu-cert")
	cmd.MarkFlagsRequiredTogether("list", "tokens")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("list") {
			return addList(cmd, administer, *list, *tokens)
		}
		var account, token string
		err := administer(cmd, func(d *registry.Desk) (err error) {
			account, token, err = d.AddVehicle(cmd.Context(), v)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "vehicle %s earns for account %s\n", v.ID, account)
		_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
		return err
	}
	return command.WithConfig(cmd)
}

// addList registers the vehicles of a list, and says how many also when it could not go on.
func addList(cmd *cobra.Command, administer Administer, list, tokens string) error {
	var added, passed int
	err := administer(cmd, func(d *registry.Desk) (err error) {
		added, passed, err = d.AddList(cmd.Context(), list, tokens)
		return err
	})
	_, err2 := fmt.Fprintf(cmd.OutOrStdout(), "%d vehicles are registered now, %d were before\n", added, passed)
	return errors.Join(err, err2)
}

func newVehicleToken(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token --config FILE --vehicle ID",
		Short: "Print a new token for a vehicle's enrolment; the one before is good no more",
		Long: "Print a new token for a vehicle's enrolment, the first one or another, as with a new head unit. The token before it is good no more;\n" +
			"a vehicle that has enrolled stays connected until it enrols again.",
		Example: "  collector vehicle token --config collector.yaml --vehicle CAR1 > CAR1.token",
		Args:    cobra.NoArgs,
	}
	vehicle := vehicleFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var token string
		var expires time.Time
		err := administer(cmd, func(d *registry.Desk) (err error) {
			token, expires, err = d.Token(cmd.Context(), *vehicle)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "vehicle %s may enrol until %s\n", *vehicle, expires.Format(time.RFC3339))
		_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
		return err
	}
	return command.WithConfig(command.Require(cmd, "vehicle"))
}

func newVehicleModel(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model --config FILE --vehicle ID --model NAME",
		Short: "Say of what model a registered vehicle is",
		Long: "Say of what model a registered vehicle is, for one that was added without or with a wrong one. Usage statistics count its further reports\n" +
			"under that model; what they have counted stays where it is.",
		Example: "  collector vehicle model --config collector.yaml --vehicle CAR1 --model \"Granite 2\"",
		Args:    cobra.NoArgs,
	}
	vehicle := vehicleFlag(cmd)
	model := cmd.Flags().String("model", "", "the model's name; empty for unknown (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := administer(cmd, func(d *registry.Desk) error { return d.SetModel(cmd.Context(), *vehicle, *model) }); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "vehicle %s is of model %s\n", *vehicle, cmp.Or(*model, "unknown"))
		return err
	}
	return command.WithConfig(command.Require(cmd, "vehicle", "model"))
}

func newVehicleRevoke(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --config FILE --vehicle ID",
		Short: "Keep a vehicle from connecting and enrolling, for good",
		Long: "Keep a vehicle from connecting and from getting a certificate, for good. A running collector cuts its connection within seconds. Its\n" +
			"ECU's key is not revoked: `collector ecu revoke` does that, and `collector ecu release` frees it for another vehicle.",
		Example: "  collector vehicle revoke --config collector.yaml --vehicle CAR1",
		Args:    cobra.NoArgs,
	}
	vehicle := vehicleFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := administer(cmd, func(d *registry.Desk) error { return d.RevokeVehicle(cmd.Context(), *vehicle) }); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "vehicle %s is revoked\n", *vehicle)
		return err
	}
	return command.WithConfig(command.Require(cmd, "vehicle"))
}

func newVehicleList(administer Administer) *cobra.Command {
	cmd := &cobra.Command{Use: "list --config FILE", Short: "List the registered vehicles", Args: cobra.NoArgs}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var all []registry.Registered
		err := administer(cmd, func(d *registry.Desk) (err error) {
			all, err = d.Vehicles(cmd.Context())
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "VEHICLE\tACCOUNT\tMODEL\tADDED ON DAY\tLAST SEEN\tSTATE\tCERTIFICATE UNTIL")
		for _, v := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", v.ID, v.Account, cmp.Or(v.Model, "unknown"), v.AddedDay, at(v.LastSeen, "never"), v.State, at(v.Certificate, "none"))
		}
		return w.Flush()
	}
	return command.WithConfig(cmd)
}

func at(t time.Time, otherwise string) string {
	if t.IsZero() {
		return otherwise
	}
	return t.Format(time.RFC3339)
}
