// Package audit is the command `collector audit`. It parses, calls package auditor and prints what was checked.
package audit

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/evidence/auditor"
	"rawstone/pkg/command"
)

// Command returns the command.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit --ledger DIR|URL --root FILE [--openings FILE [--proofs DIR --keys DIR...]]",
		Short: "Replay a ledger from nothing and say what was checked",
		Long: `Replay a ledger from nothing and say what was checked. Without openings this is what any stranger can check; with them also whose each
credit is, every weight and every draw; with archived claims also that each credit was proven: signatures, spans, policies and proofs.`,
		Example: "  collector audit --ledger state/ledger --root program/root.pub\n" +
			"  collector audit --ledger https://collector.example/log/ --root program/root.pub --openings openings.json \\\n" +
			"    --proofs claims --keys program/claim",
		Args: cobra.NoArgs,
	}
	var c auditor.Config
	cmd.Flags().StringVar(&c.Ledger, "ledger", "", "the ledger's directory, or the URL where a collector hands it out (required)")
	cmd.Flags().StringVar(&c.Root, "root", "", "file that pins the program root (required)")
	cmd.Flags().StringVar(&c.Openings, "openings", "", "the auditor's openings; without them weights and draws stay unchecked")
	cmd.Flags().StringVar(&c.Claims, "proofs", "", "directory that \"collector claim export\" wrote: each credit needs a claim that proves it")
	cmd.Flags().StringArrayVar(&c.Keys, "keys", nil, "directory with the verifying key and the lock file of a setup that policies name; with --proofs")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := auditor.Audit(cmd.Context(), c)
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
