package publish

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/equity"
	"rawstone/pkg/command"
)

func newEquity() *cobra.Command {
	var cfg equity.Config
	cmd := &cobra.Command{
		Use:   "equity --ledger DIR|URL --root F --openings F --day D --value-fen N --out FILE",
		Short: "Split the equity value among all stones at the end of a program day",
		Long: "Replays the ledger with its openings, as `collector audit` does, and splits 4.9 % of the founding-round equity value by the largest\n" +
			"remainder. The file is for api.exchange and for the auditor, who makes the same one.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&cfg.Ledger, "ledger", "", "directory of the ledger, or URL of a server that hands it out (required)")
	cmd.Flags().StringVar(&cfg.Root, "root", "", "file that pins the program root (required)")
	cmd.Flags().StringVar(&cfg.Openings, "openings", "", "file that \"collector openings\" wrote (required)")
	cmd.Flags().Uint32Var(&cfg.Day, "day", 0, "program day at whose end stones are counted (required)")
	cmd.Flags().Uint64Var(&cfg.ValueFen, "value-fen", 0, "founding-round equity value in fen (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist; it says what each account holds (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := equity.Make(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := s.Write(&text); err != nil {
			return err
		}
		if err := write(*out, text.Bytes(), 0o600); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d accounts with %d milli-stones share %d of 1000 parts of %d fen\n", len(s.Portions), s.AllMilli, s.PerMille, s.ValueFen)
		return err
	}
	return command.Require(cmd, "ledger", "root", "openings", "day", "value-fen", "out")
}
