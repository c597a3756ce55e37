package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/policy"
	"rawstone/pkg/command"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Build policies from readable sources, show, sign and verify them"}
	cmd.AddCommand(newPolicyBuild(), newPolicyShow(), newPolicySign(), newPolicyVerify())
	return cmd
}

// withProgram gives cmd the flags that name a program and returns how to open it.
func withProgram(cmd *cobra.Command) func() (*policy.Program, error) {
	root := cmd.Flags().String("root", "", "file that pins the program root (required)")
	program := cmd.Flags().String("program", "", "the program's document (required)")
	charter := cmd.Flags().String("charter", "", "the data charter; without it, whether it allows the policy stays unchecked")
	command.Require(cmd, "root", "program")
	return func() (*policy.Program, error) { return policy.OpenProgram(*root, *program, *charter) }
}

// writeDocument writes a document that anybody may read to a path that must not exist.
func writeDocument(path string, b []byte) error { return writeNew(path, b, 0o644) }

func writeNew(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write %s: it exists; choose another name or remove it", path)
	} else if err != nil {
		return fmt.Errorf("cannot write document: %w; choose a directory that exists and may be written", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("cannot write document: %w", err)
	}
	return f.Sync()
}

func newPolicyBuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "build --root FILE --program FILE --keys DIR --out DIR SOURCE...",
		Short: "Build unsigned policies from their sources, one file SERIAL.cbor each",
		Example: "  collector policy build --root program/root.pub --program program/program.cose --charter program/charter.cose \\\n" +
			"    --keys program/claim --out . configs/policies/mileage.yaml",
		Args: cobra.MinimumNArgs(1),
	}
	open := withProgram(cmd)
	keys := cmd.Flags().String("keys", "", "directory with the lock file of the proof system's keys (required)")
	out := cmd.Flags().String("out", "", "directory to write to, which must exist (required)")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		docs, err := p.Build(sources, *keys)
		if err != nil {
			return err
		}
		for _, d := range docs {
			b, err := wire.Marshal(d)
			if err != nil {
				return err
			}
			path := filepath.Join(*out, strconv.Itoa(int(d.Serial))+".cbor")
			if err := writeDocument(path, b); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: policy %d, %s, unsigned, SHA-256 %s\n", path, d.Serial, d.Kind, wire.ID(b))
		}
		return nil
	}
	return command.Require(cmd, "keys", "out")
}

func newPolicyShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Print a policy, signed or not, as a source that builds it again, with what it asks in words",
		Args:  cobra.ExactArgs(1),
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		d, err := policy.Read(args[0])
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

func newPolicySign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --root FILE --program FILE --key FILE --out FILE POLICY",
		Short: "Sign an unsigned policy with one of the program's policy keys",
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
		d, err := policy.Read(args[0])
		if err != nil {
			return err
		}
		signed, err := p.Sign(k, d)
		if err != nil {
			return fmt.Errorf("cannot sign policy %s: %w", args[0], err)
		}
		if err := writeDocument(*out, signed); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: policy %d, %s, signed\n", *out, d.Serial, d.Kind)
		return err
	}
	return command.Require(cmd, "key", "out")
}

func newPolicyVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --root FILE --program FILE POLICY...",
		Short: "Check signed policies under a program's policy keys, and that they can stand side by side",
		Args:  cobra.MinimumNArgs(1),
	}
	open := withProgram(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p, err := open()
		if err != nil {
			return err
		}
		docs, err := p.Verify(args)
		if err != nil {
			return err
		}
		for i, d := range docs {
			stop := ""
			if d.Stop {
				stop = ", a stop"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: policy %d, %s, %d tiers%s, from %s to %s, is signed for program %s\n",
				args[i], d.Serial, d.Kind, len(d.Tiers), stop, p.Timing.Date(d.FromDay), strings.TrimPrefix(p.Timing.Date(d.ToDay), "program "), p.Name)
		}
		return nil
	}
	return cmd
}
