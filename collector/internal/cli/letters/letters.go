// Package letters is the commands about the intake's dead letters. They ask the running collector and decide nothing.
package letters

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/admin"
	"rawstone/pkg/command"
)

// A Find returns the path of the socket of the collector whose configuration a command names.
type Find func(cmd *cobra.Command) (socket string, err error)

// Command returns the command dead-letter.
func Command(find Find) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead-letter",
		Short: "Show and replay the messages that the intake has set aside",
		Long: "Show and replay the messages that the intake has set aside: those that are too long, on a subject that no vehicle has, or that failed\n" +
			"again and again while others were decided. The collector must be running, and these commands run as its user: they reach it\n" +
			"through admin.sock in its state_dir.",
	}
	cmd.AddCommand(newList(find), newReplay(find))
	return cmd
}

func newList(find Find) *cobra.Command {
	cmd := &cobra.Command{Use: "list --config FILE", Short: "List the dead letters, oldest first", Args: cobra.NoArgs}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		socket, err := find(cmd)
		if err != nil {
			return err
		}
		all, err := admin.Dial(socket).Letters(cmd.Context())
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NUMBER\tSET ASIDE\tREASON\tSUBJECT\tBYTES\tDELIVERIES\tDETAIL")
		for _, l := range all {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%d\t%s\n",
				l.Seq, l.Time.Format(time.RFC3339), l.Reason, strconv.QuoteToASCII(l.Subject), l.Length, l.Deliveries, l.Detail)
		}
		return w.Flush()
	}
	return command.WithConfig(cmd)
}

func newReplay(find Find) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay --config FILE {--all | NUMBER…}",
		Short: "Put messages back into the queue that they came from",
		Long: "Put messages back into the queue that they came from, once the cause is mended. One that fails again comes back as another letter. With\n" +
			"--all, letters that cannot be replayed are named and left.",
		Example: "  collector dead-letter replay --config collector.yaml --all",
	}
	all := cmd.Flags().Bool("all", false, "replay every letter")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) > 0) {
			return errors.New("cannot replay dead letters: give their numbers, or --all")
		}
		var numbers []uint64
		for _, a := range args {
			n, err := strconv.ParseUint(a, 10, 64)
			if err != nil {
				return fmt.Errorf("cannot replay dead letter %q: it is no number: `collector dead-letter list` shows them", a)
			}
			numbers = append(numbers, n)
		}
		socket, err := find(cmd)
		if err != nil {
			return err
		}
		client := admin.Dial(socket)
		if *all {
			letters, err := client.Letters(cmd.Context())
			if err != nil {
				return err
			}
			for _, l := range letters {
				numbers = append(numbers, l.Seq)
			}
		}
		done, left := 0, []error(nil)
		for _, n := range numbers {
			err := client.Replay(cmd.Context(), n)
			var refusal *admin.Refusal
			if errors.As(err, &refusal) && refusal.Skip {
				left = append(left, err)
				continue
			}
			if err != nil {
				return errors.Join(append(left, err)...)
			}
			done++
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%d messages are in the queue again\n", done); err != nil {
			return err
		}
		return errors.Join(left...)
	}
	return command.WithConfig(cmd)
}
