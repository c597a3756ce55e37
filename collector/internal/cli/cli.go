// Package cli is the command line of the collector. It parses, calls package daemon, or the rooms that work on files alone, and turns
// errors into one sentence and an exit code; it decides nothing else.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"rawstone/collector/daemon"
	"rawstone/pkg/command"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "collector",
		Short: "Verify claims, credit kilometres, draw stones and write the ledger",
	}
	root.AddCommand(newServe(), newInit(), newVehicle(), newOpenings(), newAudit(), newCeremony(), newCheckConfig())
	root.AddCommand(newPolicy(), newClaim(), newRegistry())
	return command.Main(root, args, stdout, stderr)
}

func load(cmd *cobra.Command) (*daemon.Config, error) { return daemon.Load(command.ConfigPath(cmd)) }

func newServe() *cobra.Command {
	return command.WithConfig(&cobra.Command{
		Use:     "serve --config FILE",
		Short:   "Run the collector until it is told to stop",
		Example: "  collector serve --config /etc/rawstone/collector.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger, err := command.Logger(cmd)
			if err != nil {
				return err
			}
			klog.SetSlogLogger(logger) // Tessera's own words
			cfg, err := load(cmd)
			if err != nil {
				return err
			}
			return daemon.Run(cmd.Context(), cfg, daemon.Deps{Logger: logger})
		},
	})
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

func newVehicle() *cobra.Command {
	cmd := &cobra.Command{Use: "vehicle", Short: "Register vehicles and list them"}
	cmd.AddCommand(newVehicleAdd(), newVehicleList())
	return cmd
}

func newVehicleAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "add --config FILE --id ID --ecu-key FILE --device-key FILE",
		Short:   "Bind an attestation ECU and a device key to a vehicle; its first head is logged",
		Example: "  collector vehicle add --config collector.yaml --id CAR1 --ecu-key CAR1.identity.pem --device-key CAR1.device.pub",
		Args:    cobra.NoArgs,
	}
	var v daemon.Vehicle
	cmd.Flags().StringVar(&v.ID, "id", "", "the vehicle's id, 1 to 32 characters of A-Z and 0-9 (required)")
	cmd.Flags().StringVar(&v.ECUKey, "ecu-key", "", "file with the ECU's identity (required)")
	cmd.Flags().StringVar(&v.DeviceKey, "device-key", "", "file with the device key's public half (required)")
	cmd.Flags().StringVar(&v.Account, "account", "", "an existing account; a new one by default")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		account, err := daemon.AddVehicle(cmd.Context(), cfg, v, time.Now)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "vehicle %s earns for account %s\n", v.ID, account)
		return err
	}
	return command.WithConfig(command.Require(cmd, "id", "ecu-key", "device-key"))
}

func newVehicleList() *cobra.Command {
	cmd := &cobra.Command{Use: "list --config FILE", Short: "List the registered vehicles", Args: cobra.NoArgs}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(cmd)
		if err != nil {
			return err
		}
		all, err := daemon.ListVehicles(cmd.Context(), cfg, time.Now)
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

func newAudit() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "audit --ledger DIR --root FILE [--openings FILE]",
		Short:   "Replay a ledger from nothing and say what was checked",
		Example: "  collector audit --ledger state/ledger --root program/root.pub",
		Args:    cobra.NoArgs,
	}
	ledger := cmd.Flags().String("ledger", "", "the ledger's directory (required)")
	root := cmd.Flags().String("root", "", "file that pins the program root (required)")
	openings := cmd.Flags().String("openings", "", "the auditor's openings; without them weights and draws stay unchecked")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := daemon.Audit(cmd.Context(), *ledger, *root, *openings)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), report)
		return err
	}
	return command.Require(cmd, "ledger", "root")
}

func newCheckConfig() *cobra.Command {
	return command.CheckConfig(func(path string) error {
		_, err := daemon.Load(path)
		return err
	})
}
