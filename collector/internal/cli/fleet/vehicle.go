package fleet

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
)

func newVehicle(administer Administer) *cobra.Command {
	cmd := &cobra.Command{Use: "vehicle", Short: "Register vehicles and list them"}
	cmd.AddCommand(newVehicleAdd(administer), newVehicleList(administer))
	return cmd
}

func newVehicleAdd(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add --config FILE --id ID --ecu-key FILE --ecu-cert FILE --device-key FILE",
		Short: "Bind an attestation ECU and a device key to a vehicle; its first head is logged",
		Example: "  collector vehicle add --config collector.yaml --id CAR1 --ecu-key CAR1.identity.pem --ecu-cert CAR1.cert.pem \\\n" +
			"    --device-key CAR1.device.pub",
		Args: cobra.NoArgs,
	}
	var v registry.Vehicle
	cmd.Flags().StringVar(&v.ID, "id", "", "the vehicle's id, 1 to 32 characters of A-Z and 0-9 (required)")
	cmd.Flags().StringVar(&v.ECUKey, "ecu-key", "", "file with the ECU's identity (required)")
	cmd.Flags().StringVar(&v.ECUCert, "ecu-cert", "", "file with the manufacturer's certificate of the ECU's key, in PEM (required)")
	cmd.Flags().StringVar(&v.DeviceKey, "device-key", "", "file with the device key's public half (required)")
	cmd.Flags().StringVar(&v.Account, "account", "", "an existing account; a new one by default")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var account string
		err := administer(cmd, func(d *registry.Desk) (err error) {
			account, err = d.AddVehicle(cmd.Context(), v)
			return err
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "vehicle %s earns for account %s\n", v.ID, account)
		return err
	}
	return command.WithConfig(command.Require(cmd, "id", "ecu-key", "ecu-cert", "device-key"))
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
		fmt.Fprintln(w, "VEHICLE\tACCOUNT\tADDED ON DAY\tLAST SEEN")
		for _, v := range all {
			seen := "never"
			if !v.LastSeen.IsZero() {
				seen = v.LastSeen.Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", v.ID, v.Account, v.AddedDay, seen)
		}
		return w.Flush()
	}
	return command.WithConfig(cmd)
}
