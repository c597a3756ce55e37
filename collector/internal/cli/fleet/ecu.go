package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rawstone/collector/internal/identity"
	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
)

func newECU(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ecu",
		Short: "Bind attestation ECUs to vehicles, hand them over and revoke their keys",
		Long: "An ECU's key earns for one vehicle at a time. A hand-over ends that: the vehicle may still claim what lies before it, and the key\n" +
			"may be bound to another vehicle from there on. Every step is logged in the ledger, blinded. When an ECU is taken out, let it make\n" +
			"its identity once more and give that as --final: the hand-over is there. An ECU that is dead cannot, and its binding ends where\n" +
			"it was credited last: --dead says that what was not claimed by then may be lost.",
	}
	cmd.AddCommand(newECUBind(administer), newECURelease(administer), newECUReplace(administer), newECURevoke(administer), newECUList(administer))
	return cmd
}

// ecuFlags adds the flags that name an ECU to bind.
func ecuFlags(cmd *cobra.Command) *registry.ECU {
	e := new(registry.ECU)
	cmd.Flags().StringVar(&e.Key, "ecu-key", "", "file with the identity of the ECU to bind (required)")
	cmd.Flags().StringVar(&e.Certificate, "ecu-cert", "", "file with the manufacturer's certificate of its key, in PEM (required)")
	return e
}

// finalFlags adds the flags that say how a binding ends, and returns how to read them: the file with the last identity, or none for an
// ECU that is dead. What they hold decides, not whether they are there: an empty file name would pass for a dead ECU and lose what it drove.
func finalFlags(cmd *cobra.Command) func() (string, error) {
	final := cmd.Flags().String("final", "", "file with the identity that the ECU made when it was taken out")
	dead := cmd.Flags().Bool("dead", false, "the ECU makes no identity any more: end the binding where it was credited last")
	return func() (string, error) {
		if *dead == (*final != "") {
			return "", errors.New("cannot end binding: give the file that the ECU made as --final, or --dead when it makes none")
		}
		return *final, nil
	}
}

func vehicleFlag(cmd *cobra.Command) *string {
	idIsVehicle(cmd)
	return cmd.Flags().String("vehicle", "", "the vehicle's id (required)")
}

// idIsVehicle takes --id for --vehicle, as some commands called it first; only the latter is told of.
func idIsVehicle(cmd *cobra.Command) {
	cmd.Flags().SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "id" {
			name = "vehicle"
		}
		return pflag.NormalizedName(name)
	})
}

func newECUBind(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bind --config FILE --vehicle ID --ecu-key FILE --ecu-cert FILE",
		Short:   "Bind an ECU, new or released elsewhere, to a vehicle that has none; its first head is logged",
		Example: "  collector ecu bind --config collector.yaml --vehicle CAR2 --ecu-key ecu7.identity.pem --ecu-cert ecu7.cert.pem",
		Args:    cobra.NoArgs,
	}
	vehicle, ecu := vehicleFlag(cmd), ecuFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := administer(cmd, func(d *registry.Desk) error { return d.Bind(cmd.Context(), *vehicle, *ecu) }); err != nil {
			return err
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "an ECU is bound to vehicle %s\n", *vehicle)
		return err
	}
	return command.WithConfig(command.Require(cmd, "vehicle", "ecu-key", "ecu-cert"))
}

func newECURelease(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "release --config FILE --vehicle ID (--final FILE | --dead)",
		Short:   "Take a vehicle's ECU out: the key may then be bound to another vehicle",
		Example: "  collector ecu release --config collector.yaml --vehicle CAR1 --final ecu7.identity.pem",
		Args:    cobra.NoArgs,
	}
	vehicle, end := vehicleFlag(cmd), finalFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		final, err := end()
		if err != nil {
			return err
		}
		return handOver(cmd, administer, "released", func(d *registry.Desk) (identity.Handover, error) {
			return d.Release(cmd.Context(), *vehicle, final)
		})
	}
	return command.WithConfig(command.Require(cmd, "vehicle"))
}

func newECUReplace(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replace --config FILE --vehicle ID (--final FILE | --dead) --ecu-key FILE --ecu-cert FILE",
		Short: "Release a vehicle's ECU and bind another in its place, both or none",
		Example: "  collector ecu replace --config collector.yaml --vehicle CAR1 --dead --ecu-key ecu8.identity.pem \\\n" +
			"    --ecu-cert ecu8.cert.pem",
		Args: cobra.NoArgs,
	}
	vehicle, end, ecu := vehicleFlag(cmd), finalFlags(cmd), ecuFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		final, err := end()
		if err != nil {
			return err
		}
		return handOver(cmd, administer, "replaced", func(d *registry.Desk) (identity.Handover, error) {
			return d.Replace(cmd.Context(), *vehicle, final, *ecu)
		})
	}
	return command.WithConfig(command.Require(cmd, "vehicle", "ecu-key", "ecu-cert"))
}

func newECURevoke(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --config FILE (--key ID | --ecu-key FILE)",
		Short: "Revoke an ECU's key for good: it earns nothing more and is bound never again",
		Long: "Revoke an ECU's key for good, because it is or may be in wrong hands. It earns nothing more, also of what was driven before, and\n" +
			"is bound never again. An ECU that is sound and only leaves its vehicle is released instead.",
		Example: "  collector ecu revoke --config collector.yaml --key 0123456789abcdef0123456789abcdef",
		Args:    cobra.NoArgs,
	}
	id := cmd.Flags().String("key", "", "the key's identifier, as \"collector ecu list\" prints it")
	key := cmd.Flags().String("ecu-key", "", "file with an identity of the ECU, old or new")
	cmd.MarkFlagsOneRequired("key", "ecu-key")
	cmd.MarkFlagsMutuallyExclusive("key", "ecu-key")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return handOver(cmd, administer, "revoked", func(d *registry.Desk) (identity.Handover, error) {
			return d.Revoke(cmd.Context(), *id, *key)
		})
	}
	return command.WithConfig(cmd)
}

// handOver ends a binding and says what that means for who drove.
func handOver(cmd *cobra.Command, administer Administer, did string, do func(*registry.Desk) (identity.Handover, error)) error {
	var h identity.Handover
	err := administer(cmd, func(d *registry.Desk) (err error) {
		h, err = do(d)
		return err
	})
	if err != nil {
		return err
	}
	rest := fmt.Sprintf("may claim up to snapshot %d", h.Cut)
	final := cmd.Flags().Lookup("final") // revoke has none
	switch {
	case h.Cut == h.Head && final != nil && final.Value.String() != "":
		rest = fmt.Sprintf("has claimed all that lies before it, up to snapshot %d", h.Head)
	case h.Cut == h.Head:
		rest = fmt.Sprintf("was credited up to snapshot %d: what it has not claimed beyond that is lost", h.Head)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "ECU key %s is %s; vehicle %s %s\n", h.ECU, did, h.Vehicle, rest)
	return err
}

func newECUList(administer Administer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list --config FILE",
		Short: "List the ECU keys with their states and bindings",
		Long: "List the ECU keys, one line for each binding. FIRST is the snapshot it was bound with, HEAD the last one credited, and CUT the one\n" +
			"beyond which nothing counts under the binding.",
		Args: cobra.NoArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var keys []registry.Key
		err := administer(cmd, func(d *registry.Desk) (err error) {
			keys, err = d.Keys(cmd.Context())
			return err
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(keys)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ECU KEY\tSTATE\tCERTIFICATE\tVEHICLE\tFIRST\tHEAD\tCUT")
		for _, k := range keys {
			certificate := "none"
			if k.Certified {
				certificate = "kept"
			}
			for _, b := range k.Bindings {
				cut := "-"
				if b.Cut != nil {
					cut = strconv.FormatUint(*b.Cut, 10)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", k.ID, k.State, certificate, b.Vehicle, b.First, b.Head, cut)
			}
		}
		return w.Flush()
	}
	return command.WithConfig(cmd)
}
