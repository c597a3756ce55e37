package cli

import (
	"github.com/spf13/cobra"

	"rawstone/pkg/command"
)

func newReceipts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipts",
		Short: "Show or save the collector's signed receipts whose credits are not proven to be in the public ledger",
		Args:  cobra.NoArgs,
	}
	page := func(use, short, long, page string) {
		cmd.AddCommand(command.WithConfig(&cobra.Command{
			Use: use + " --config FILE", Short: short, Long: long, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return ask(cmd, page) },
		}))
	}
	page("list", "Print the receipts without a proof and their age, as JSON; the agent must be running", `Print the receipts of accepted claims whose credits are not yet proven to be in the public ledger, oldest first, as JSON.

The collector promises the proof within 24 hours. The agent asks for it whenever it is connected anyway, and forgets the receipt once the
proof holds. One that is older means something only when the agent was connected since; "agent status" says whether it is overdue.`, "/receipts")
	page("export", "Print the receipts without a proof with their signed bytes, as JSON, for an auditor; the agent must be running", `Print the receipts without a proof as JSON, with the bytes that the collector has signed and every proof that did not hold.

They are the evidence that the collector owes the credits: whoever has the program's document can check the signatures. They name the
vehicle and what it was credited, and nothing else.`, "/receipts/export")
	return cmd
}
