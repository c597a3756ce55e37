package fleet

import (
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/registry"
	"rawstone/pkg/command"
)

func newCA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Play the manufacturer in development: certify ECUs and servers",
		Long: "Play the manufacturer in development: make four authorities, for attestation ECUs, for the collector's servers, for vehicles\n" +
			"and for the collector's own processes, and issue certificates. The collector's program.ecu_ca is the directory's ecu-ca.pem, its vehicles.ca_certificate and ca_key are\n" +
			"vehicle-ca.pem and .key, the agents' collector_ca is server-ca.pem. A manufacturer uses its own public-key infrastructure instead;\n" +
			"the authority for vehicles is the collector's in production too.",
	}
	cmd.AddCommand(newCAInit(), newCAECU(), newCAServer(), newCANode(), newCABridge())
	return cmd
}

func caDir(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", "", "directory of the authorities (required)")
}

func newCAInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "init --dir DIR",
		Short:   "Make the authorities: ecu-ca, server-ca, vehicle-ca and internal-ca, each a certificate .pem and a secret .key",
		Example: "  collector ca init --dir ca",
		Args:    cobra.NoArgs,
	}
	dir := caDir(cmd)
	cmd.RunE = func(*cobra.Command, []string) error { return ca.Init(*dir, time.Now()) }
	return command.Require(cmd, "dir")
}

func newCAECU() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ecu --dir DIR --ecu-key FILE --out FILE",
		Short:   "Certify an ECU's key, for life",
		Example: "  collector ca ecu --dir ca --ecu-key CAR1.identity.pem --out CAR1.cert.pem",
		Args:    cobra.NoArgs,
	}
	dir := caDir(cmd)
	key := cmd.Flags().String("ecu-key", "", "file with the ECU's identity (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist (required)")
	cmd.RunE = func(*cobra.Command, []string) error {
		id, err := registry.ReadIdentity(*key)
		if err != nil {
			return err
		}
		text, err := ca.IssueECU(*dir, id, time.Now())
		if err != nil {
			return err
		}
		return ca.Write(*out, text)
	}
	return command.Require(cmd, "dir", "ecu-key", "out")
}

func newCAServer() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "server --dir DIR --host HOST[,HOST] --out FILE --out-key FILE",
		Short:   "Make a server's key and its certificate, for 397 days",
		Example: "  collector ca server --dir ca --host 127.0.0.1,collector.example --out server.pem --out-key server.key",
		Args:    cobra.NoArgs,
	}
	dir := caDir(cmd)
	hosts := cmd.Flags().StringSlice("host", nil, "DNS names or IP addresses that vehicles reach it by (required)")
	out := cmd.Flags().String("out", "", "certificate to write, which must not exist (required)")
	outKey := cmd.Flags().String("out-key", "", "secret key to write, which must not exist (required)")
	cmd.RunE = func(*cobra.Command, []string) error { return ca.IssueServer(*dir, *hosts, *out, *outKey, time.Now()) }
	return command.Require(cmd, "dir", "host", "out", "out-key")
}

func newCABridge() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bridge --dir DIR --out FILE --out-key FILE [--name NAME]",
		Short:   "Make the key of the collector's bridge to an external MQTT broker, and its certificate, for 397 days",
		Example: "  collector ca bridge --dir ca --out bridge.pem --out-key bridge.key",
		Args:    cobra.NoArgs,
	}
	dir := caDir(cmd)
	name := cmd.Flags().String("name", ca.BridgeName, "the bridge's name at the broker, which its access rules must know")
	out := cmd.Flags().String("out", "", "certificate to write, which must not exist (required)")
	outKey := cmd.Flags().String("out-key", "", "secret key to write, which must not exist (required)")
	cmd.RunE = func(*cobra.Command, []string) error { return ca.IssueBridge(*dir, *name, *out, *outKey, time.Now()) }
	return command.Require(cmd, "dir", "out", "out-key")
}
