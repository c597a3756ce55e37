package publish

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/offering"
	"rawstone/pkg/command"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

func newOffers() *cobra.Command {
	cmd := &cobra.Command{Use: "offers", Short: "Build offers (tasks, mine boxes, catalogue) from readable sources, show, sign and verify them"}
	cmd.AddCommand(newOffersBuild(), newOffersShow(), newOffersSign(), newOffersVerify())
	return cmd
}

func newOffersBuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build --root FILE --program FILE --out DIR [--from-day DAY] SOURCE",
		Short: "Build unsigned offers from their source, a file offers-SERIAL.cbor",
		Example: "  collector offers build --root program/root.pub --program program/program.cose --charter program/charter.cose \\\n" +
			"    --from-day 20800 --out . configs/offers/launch.yaml",
		Args: cobra.ExactArgs(1),
	}
	open := withProgram(cmd)
	out := cmd.Flags().String("out", "", "directory to write to, which must exist (required)")
	fromDay := cmd.Flags().Uint32("from-day", 0, "first program day in force, in place of the source's; they are to be logged at least 14 program days before")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		o, err := offering.Build(p, sources[0], *fromDay)
		if err != nil {
			return err
		}
		b, err := wire.Marshal(o)
		if err != nil {
			return err
		}
		path := filepath.Join(*out, "offers-"+strconv.Itoa(int(o.Serial))+".cbor")
		if err := writeDocument(path, b); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: offers %d, from %s, unsigned, SHA-256 %s\n", path, o.Serial, p.Timing.Date(o.FromDay), wire.ID(b))
		return err
	}
	return command.Require(cmd, "out")
}

func newOffersShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print offers, signed or not, as a source that builds them again, with odds, averages and worst cases in words",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := offering.Read(args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(d)
		}
		return d.WriteYAML(cmd.OutOrStdout())
	}
	return cmd
}

func newOffersSign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --root FILE --program FILE --key FILE --out FILE OFFERS",
		Short: "Sign unsigned offers with one of the program's policy keys",
		Args:  cobra.ExactArgs(1),
	}
	open := withProgram(cmd)
	key := cmd.Flags().String("key", "", "the policy key (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		k, err := keyfile.Load(*key)
		if err != nil {
			return err
		}
		d, err := offering.Read(args[0])
		if err != nil {
			return err
		}
		signed, err := offering.Sign(p, k, d)
		if err != nil {
			return fmt.Errorf("cannot sign offers %s: %w", args[0], err)
		}
		if err := writeDocument(*out, signed); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: offers %d, signed\n", *out, d.Serial)
		return err
	}
	return command.Require(cmd, "key", "out")
}

func newOffersVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --root FILE --program FILE OFFERS...",
		Short: "Check signed offers under a program's policy keys",
		Args:  cobra.MinimumNArgs(1),
	}
	open := withProgram(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		docs, err := offering.Verify(p, args)
		if err != nil {
			return err
		}
		for i, o := range docs {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: offers %d, %d tasks, %d boxes, %d items, from %s, are signed for program %s\n",
				args[i], o.Serial, len(o.Tasks), len(o.Boxes), len(o.Catalogue), p.Timing.Date(o.FromDay), p.Name)
		}
		return nil
	}
	return cmd
}
