package fleet

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
)

func newVehicleTransfer(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer --config FILE --vehicle ID --to (ACCOUNT | new) (--final FILE [--old] | --at-head)",
		Short: "Give a car to another account: its stones stay, its future kilometres go",
		Long: "Give a car to another account. The ECU stays in the car. What was credited stays with the seller; what the car drives from the cut on\n" +
			"earns for the buyer; both steps are logged in the ledger, blinded. Let the ECU make its identity when the car changes hands and give\n" +
			"that as --final: the cut is there, and the car may still claim for the seller what it drove before. --at-head cuts where the car was\n" +
			"credited last: what it has not claimed by then goes to the buyer. An identity from before yesterday is refused unless --old says that the\n" +
			"car stood still since.\n\n" +
			"--to new makes an account and prints its id.",
		Example: "  collector vehicle transfer --config collector.yaml --vehicle CAR1 --to A7K2M4QZ --final CAR1.identity.pem\n" +
			"  collector vehicle transfer --config collector.yaml --vehicle CAR1 --to new --at-head",
		Args: cobra.NoArgs,
	}
	id := vehicleFlag(cmd)
	to := cmd.Flags().String("to", "", "the buyer's account, or new for one that is made (required)")
	final := cmd.Flags().String("final", "", "file with the identity that the ECU made when the car changed hands")
	atHead := cmd.Flags().Bool("at-head", false, "cut where the car was credited last; the rest goes to the buyer")
	old := cmd.Flags().Bool("old", false, "take a --final from before yesterday")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// What the flags hold decides: an unset variable must neither make an account nor give the seller's kilometres away.
		if *to == "" {
			return errors.New("cannot transfer vehicle: --to is empty: name the buyer's account, or new")
		}
		if *atHead == (*final != "") {
			return errors.New("cannot transfer vehicle: give the file that the ECU made as --final, or --at-head to give the buyer all that is not claimed yet")
		}
		var t identity.Transfer
		err := administer(cmd, func(d *registry.Desk) (err error) {
			t, err = d.Transfer(cmd.Context(), *id, *to, *final, *old)
			return err
		})
		if err != nil {
			return err
		}
		seller := fmt.Sprintf("may still earn up to snapshot %d", t.Cut)
		if t.Cut == t.Head {
			seller = fmt.Sprintf("has earned all up to snapshot %d", t.Head)
		}
		if *atHead {
			fmt.Fprintf(cmd.ErrOrStderr(), "what vehicle %s drove since day %d and has not claimed is the buyer's\n", t.Vehicle, t.HeadDay)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "vehicle %s earns for account %s from snapshot %d on; account %s %s\n", t.Vehicle, t.To, t.Cut, t.From, seller)
		_, err = fmt.Fprintln(cmd.OutOrStdout(), t.To)
		return err
	}
	return command.WithConfig(command.Require(cmd, "vehicle", "to"))
}
