package cli

import (
	"os"
	"time"

	"github.com/spf13/cobra"

	"rawstone/firmware-sim/internal/fleet"
	"rawstone/pkg/command"
)

// newFleet is the load generator.
func newFleet() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fleet --vehicles N --collector FILE --dir DIR",
		Short: "Play many enrolled vehicles with valid claims against a running collector",
		Long: "Play many enrolled vehicles with valid claims against a running collector, at a rate or flat out, and say what was accepted, what was\n" +
			"refused and why, how many claims a second there were and how long receipts took.\n\n" +
			"What is needed is made first: up to 2,000 proofs (some minutes, once), the vehicles' keys and ECU certificates, their registration\n" +
			"with `collector vehicle add --list`, and their enrolment. All of it is kept in --dir; the same command goes on where it was\n" +
			"interrupted. A fleet may grow: give more --vehicles. Each vehicle makes --days claims, of the program's last days.\n\n" +
			"--dir holds result.json, what this run printed, and truth.json, the kilometres and claims that each vehicle holds receipts for.\n" +
			"The exit code is 0 when every claim of the fleet has an accepting receipt that credits what was proven.",
		Example: "  firmware-sim fleet --vehicles 1000 --collector configs/demo/collector.yaml --bin build --dir build/fleet\n" +
			"  firmware-sim fleet --vehicles 5000 --days 3 --rate 200 --collector c.yaml --dir f --mqtt ssl://127.0.0.1:8883,ssl://127.0.0.1:8884",
		Args: cobra.NoArgs,
	}
	var opt fleet.Options
	cmd.Flags().IntVar(&opt.Vehicles, "vehicles", 0, "how many vehicles (required)")
	cmd.Flags().IntVar(&opt.Days, "days", 1, "how many claims each vehicle makes, one for each program day")
	cmd.Flags().StringVar(&opt.Place.Collector, "collector", "", "the collector's configuration file (required)")
	cmd.Flags().StringVar(&opt.Bin, "bin", "build", "directory of the program collector")
	cmd.Flags().StringVar(&opt.Dir, "dir", "", "the fleet's directory, made when missing (required)")
	cmd.Flags().Float64Var(&opt.Rate, "rate", 0, "claims a second of all vehicles together; 0 for flat out")
	cmd.Flags().IntVar(&opt.Connections, "connections", 1000, "how many vehicles are connected at a time")
	cmd.Flags().StringSliceVar(&opt.Place.MQTT, "mqtt", nil, "brokers as ssl://HOST:PORT, the next when one fails; default where the collector listens")
	cmd.Flags().StringVar(&opt.Place.HTTPS, "https", "", "the collector as https://HOST:PORT; default where it listens")
	cmd.Flags().StringVar(&opt.Place.CA, "ca", "", "authority of the collector's servers in PEM; default server-ca.pem beside program.ecu_ca")
	cmd.Flags().StringVar(&opt.Place.ECUCAKey, "ecu-ca-key", "", "key of the authority for ECUs; default beside program.ecu_ca")
	cmd.Flags().DurationVar(&opt.Patience, "patience", 5*time.Minute, "how long a vehicle tries without progress")
	cmd.Flags().BoolVar(&opt.Progress, "progress", terminal(os.Stderr), "show progress bars on standard error; default where that is a terminal")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt.Out, opt.Bars = cmd.OutOrStdout(), cmd.ErrOrStderr()
		_, err := fleet.Run(cmd.Context(), opt)
		return err
	}
	return command.Require(cmd, "vehicles", "collector", "dir")
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
