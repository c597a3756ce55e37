package publish

import (
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/witness"
	"rawstone/pkg/command"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func newWitness() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Make validators' keys, and build, show, sign and verify changes of a program's validators",
		Long: `Make validators' keys, and build, show, sign and verify changes of a program's validators.

Each validator makes its own key (key), keeps the file and hands on the line that is printed. Whoever holds the program root collects
the lines of all validators, those that stay included, builds the change and signs it; it is logged at least a program day before it
takes over.`,
	}
	cmd.AddCommand(newWitnessKey(), newWitnessPublic(), newWitnessBuild(), newWitnessShow(), newWitnessSign(), newWitnessVerify())
	return cmd
}

func newWitnessKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "key --name NAME --out FILE",
		Short:   "Make a validator's key, a file that only its owner may read, and print its public part",
		Example: "  collector witness key --name auditor.example/validator --out validator.key > auditor.pub",
		Args:    cobra.NoArgs,
	}
	name := cmd.Flags().String("name", "", "the validator's name in cosignatures, 1 to 64 bytes without colon (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist; it is secret (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := ledger.GenerateValidatorKey(*name)
		if err != nil {
			return err
		}
		line := witness.Line(k.Public())
		if _, err := witness.Parse([]byte(line)); err != nil {
			return fmt.Errorf("cannot make validator key: its name %q is no plain text", *name)
		}
		if err := keyfile.Write(*out, k.Encode()); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
		return err
	}
	return command.Require(cmd, "name", "out")
}

func newWitnessPublic() *cobra.Command {
	return &cobra.Command{
		Use:   "public KEY",
		Short: "Print the public part of a validator's key",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := keyfile.Read(args[0])
			if err != nil {
				return err
			}
			k, err := ledger.ParseValidatorKey(text)
			if err != nil {
				return fmt.Errorf("cannot use %s: %w", args[0], err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), witness.Line(k.Public()))
			return err
		},
	}
}

// withRoot gives cmd the flags that name a program and returns how to open it with its root.
func withRoot(cmd *cobra.Command) func() (*witness.Program, error) {
	root, program := programFlags(cmd)
	return func() (*witness.Program, error) { return witness.OpenProgram(*root, *program) }
}

func newWitnessBuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build --root FILE --program FILE --serial N --from-day DAY --out FILE PUBLIC...",
		Short: "Build an unsigned change of validators from files with their public parts, in the order of the files",
		Example: "  collector witness build --root program/root.pub --program program/program.cose --serial 1 --from-day 20800 \\\n" +
			"    --out validators.cbor maker.pub auditor.pub bank.pub owners.pub",
		Args: cobra.MinimumNArgs(1),
	}
	open := withRoot(cmd)
	serial := cmd.Flags().Uint16("serial", 0, "number of the change, above that of the last one (required)")
	fromDay := cmd.Flags().Uint32("from-day", 0, "first program day of the new validators (required)")
	out := cmd.Flags().String("out", "", "file to write, which must not exist (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		var validators []terms.Validator
		for _, path := range args {
			text, err := terms.ReadDocument(path)
			if err != nil {
				return err
			}
			list, err := witness.Parse(text)
			if err != nil {
				return fmt.Errorf("cannot use %s: %w", path, err)
			}
			validators = append(validators, list...)
		}
		w, err := p.Build(*serial, *fromDay, validators)
		if err != nil {
			return err
		}
		b, err := wire.Marshal(w)
		if err != nil {
			return err
		}
		if err := writeDocument(*out, b); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: witness change %d, %s, unsigned, SHA-256 %s\n", *out, w.Serial, validatorsFrom(p, w), wire.ID(b))
		return err
	}
	return command.Require(cmd, "serial", "from-day", "out")
}

// validatorsFrom says how many validators of a change there are, how many must agree and from when.
func validatorsFrom(p *witness.Program, w *ledger.Witness) string {
	return fmt.Sprintf("%d of %d validators from %s", p.Quorum, len(w.Validators), p.Timing.Date(w.FromDay))
}

func newWitnessShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Print a change of validators, signed or not, with their public parts",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := witness.Read(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), d)
			return err
		},
	}
}

func newWitnessSign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --root FILE --program FILE --key FILE --out FILE CHANGE",
		Short: "Sign an unsigned change of validators with the program root's key, and print who they are",
		Args:  cobra.ExactArgs(1),
	}
	open := withRoot(cmd)
	key := cmd.Flags().String("key", "", "the program root's key (required)")
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
		d, err := witness.Read(args[0])
		if err != nil {
			return err
		}
		signed, err := p.Sign(k, d)
		if err != nil {
			return fmt.Errorf("cannot sign witness change %s: %w", args[0], err)
		}
		if err := writeDocument(*out, signed); err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "%s: witness change %d, %s, signed\n", *out, d.Serial, validatorsFrom(p, d.Witness))
		for _, v := range d.Validators {
			fmt.Fprintf(w, "%q\n", v.Name)
		}
		return nil
	}
	return command.Require(cmd, "key", "out")
}

func newWitnessVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --root FILE --program FILE CHANGE...",
		Short: "Check signed changes of validators, in the order in which they are to be logged, under a program's root",
		Args:  cobra.MinimumNArgs(1),
	}
	open := withRoot(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		changes, err := p.Verify(args)
		if err != nil {
			return err
		}
		for i, w := range changes {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: witness change %d, %s, is signed for program %s\n", args[i], w.Serial, validatorsFrom(p, w), p.Name)
		}
		return nil
	}
	return cmd
}
