package publish

import (
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/charter"
	"rawstone/pkg/command"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

func newCharter() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "charter",
		Short: "Build, show, sign and verify the data charter",
		Long: `Build, show, sign and verify the data charter.

The charter lists the only policy kinds, tier ratio and usage statistics that cars may ever be asked for. It is built from a source in YAML.
Each member of the oversight board looks at it (show) and adds a signature (sign), to what the member before handed on; once a quorum has
signed, it counts.`,
	}
	cmd.AddCommand(newCharterBuild(), newCharterShow(), newCharterSign(), newCharterVerify())
	return cmd
}

// withBoard gives cmd the flags that name a program and returns how to open it for charters.
func withBoard(cmd *cobra.Command) func() (*charter.Program, error) {
	root, program := programFlags(cmd)
	return func() (*charter.Program, error) { return charter.OpenProgram(*root, *program) }
}

func newCharterBuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "build --root FILE --program FILE --out FILE SOURCE",
		Short:   "Build an unsigned charter from its source",
		Example: "  collector charter build --root program/root.pub --program program/program.cose --out charter.cbor charter.yaml",
		Args:    cobra.ExactArgs(1),
	}
	open := withBoard(cmd)
	out := cmd.Flags().String("out", "", "file to write, which must not exist (required)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		c, err := p.Build(args[0])
		if err != nil {
			return err
		}
		b, err := wire.Marshal(c)
		if err != nil {
			return fmt.Errorf("cannot build charter %s: %w", args[0], err)
		}
		if err := writeDocument(*out, b); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: charter %d, unsigned, SHA-256 %s\n", *out, c.Serial, wire.ID(b))
		return err
	}
	return command.Require(cmd, "out")
}

func newCharterShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Print a charter, signed or not, as a source with what it allows in words",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := charter.Read(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), d)
			return err
		},
	}
}

func newCharterSign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --root FILE --program FILE --key FILE --out FILE CHARTER",
		Short: "Add a board member's signature to a charter, unsigned or signed by others",
		Args:  cobra.ExactArgs(1),
	}
	open := withBoard(cmd)
	key := cmd.Flags().String("key", "", "the board member's key (required)")
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
		d, err := charter.Read(args[0])
		if err != nil {
			return err
		}
		signed, n, err := p.Sign(k, d)
		if err != nil {
			return fmt.Errorf("cannot sign charter %s: %w", args[0], err)
		}
		if err := writeDocument(*out, signed); err != nil {
			return err
		}
		next := "it counts"
		if missing := int(p.BoardQuorum) - n; missing > 0 {
			next = fmt.Sprintf("%d more must sign it", missing)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: charter %d, SHA-256 %s, signed by %d of a board of %d: %s\n", *out, d.Serial, d.ID, n, len(p.Board), next)
		return err
	}
	return command.Require(cmd, "key", "out")
}

func newCharterVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --root FILE --program FILE CHARTER...",
		Short: "Check that a quorum of a program's board signed charters",
		Args:  cobra.MinimumNArgs(1),
	}
	open := withBoard(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		for _, path := range args {
			d, err := p.Verify(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: charter %d, SHA-256 %s, is signed by %d of the board for program %s\n", path, d.Serial, d.ID, len(d.Signers), p.Name)
		}
		return nil
	}
	return cmd
}
