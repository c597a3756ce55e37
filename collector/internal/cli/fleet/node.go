package fleet

import (
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/role"
	"rawstone/pkg/command"
)

func newCANode() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node --dir DIR --name NAME --role ROLE[,ROLE] [--host HOST[,HOST]] --out DIR",
		Short: "Make the key of one of the collector's own processes and its certificate, NAME.key and NAME.pem, for 397 days",
		Example: "  collector ca node --dir ca --name b1 --role broker --host 10.0.0.1 --out nodes\n" +
			"  collector ca node --dir ca --name i1 --role ingest --out nodes",
		Args: cobra.NoArgs,
	}
	dir := caDir(cmd)
	name := cmd.Flags().String("name", "", "the process's name: 1 to 32 characters of a-z, 0-9 and -, beginning with a letter; a broker's is its cluster.node (required)")
	roles := cmd.Flags().StringSlice("role", nil, "the roles that the process may have (required)")
	hosts := cmd.Flags().StringSlice("host", nil, "DNS names or IP addresses that other processes reach a broker or a validator by")
	out := cmd.Flags().String("out", "", "directory to write to (required)")
	cmd.RunE = func(*cobra.Command, []string) error {
		r, err := role.Parse(*roles)
		if err != nil {
			return err
		}
		return ca.IssueNode(*dir, *name, r.List(), *hosts, *out, time.Now())
	}
	return command.Require(cmd, "dir", "name", "role", "out")
}
