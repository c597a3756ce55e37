package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rawstone/firmware-sim/internal/demo"
)

// newDemo is the command that `make demo` runs.
func newDemo() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "demo --plan FILE --bin DIR",
		Short:   "Run a collector, cars and agents on this machine and tell their journey",
		Example: "  firmware-sim demo --plan configs/demo/demo.yaml --bin build",
		Args:    cobra.NoArgs,
	}
	var opt demo.Options
	cmd.Flags().StringVar(&opt.Plan, "plan", filepath.Join("configs", "demo", "demo.yaml"), "what to run")
	cmd.Flags().StringVar(&opt.Bin, "bin", "build", "directory of the programs agent, collector and firmware-sim")
	cmd.Flags().StringVar(&opt.Captures, "captures", captures(), "folder of recorded drives; RAWSTONE_CAPTURES by default")
	cmd.Flags().BoolVar(&opt.Once, "once", false, "end at the first drop that issues stones after every car holds an accepted claim, and audit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		opt.Out = cmd.OutOrStdout()
		return demo.Run(cmd.Context(), opt)
	}
	return cmd
}

func captures() string {
	if dir := os.Getenv("RAWSTONE_CAPTURES"); dir != "" {
		return dir
	}
	return filepath.Join("..", "shared", "captures")
}
