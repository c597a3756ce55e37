// Package rite is the commands of the setup ceremony. They read and write files and decide nothing: package ceremony does.
package rite

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"rawstone/pkg/ceremony"
	"rawstone/pkg/command"
)

// Command returns the command ceremony.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ceremony",
		Short: "Make the proof system's production keys among several parties",
		Long: `Make the proof system's production keys among several parties.

  init        begin a transcript, a directory of files that everybody may see
  contribute  check the file received, add a secret, write the next file: pass it on and publish its SHA-256
  seal        end phase 1 with a public beacon; later end phase 2 with another and write the keys
  verify      check a transcript from nothing, and the keys that are said to come from it

Nobody can forge proofs unless every contributor to a phase keeps the secret and they pool them. A beacon is public randomness that
nobody knew before the last contribution: announce which drand round or block it will be, and wait for it.`,
	}
	cmd.AddCommand(newInit(), newContribute(), newSeal(), newVerify())
	return cmd
}

func newInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "init --dir DIR",
		Short:   "Begin a transcript with the first file of phase 1, which holds no secret",
		Example: "  collector ceremony init --dir transcript",
		Args:    cobra.NoArgs,
	}
	dir := cmd.Flags().String("dir", "", "directory to write, which must be empty or missing (required)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := ceremony.New()
		if err != nil {
			return err
		}
		s, err := c.Init(*dir)
		return tell(cmd, s, err)
	}
	return command.Require(cmd, "dir")
}

func newContribute() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "contribute --in FILE [--dir DIR]",
		Short: "Check a file of either phase, add a secret and write the next file",
		Long: `Check a file of either phase against the predecessor that it carries, add a secret and write the next file. One file in, one file out.

The secret is drawn from the operating system, is held in memory only and is never written; core dumps are turned off. The program
cannot wipe it with certainty before it ends, nor see what the machine keeps: contribute on a machine without swap or hibernation,
offline if possible, and turn it off afterwards. Publish the SHA-256 printed, so that anybody can see your part in the transcript.`,
		Example: "  collector ceremony contribute --in phase1-002.mpc",
		Args:    cobra.NoArgs,
	}
	in := cmd.Flags().String("in", "", "the latest file of the ceremony (required)")
	dir := cmd.Flags().String("dir", "", "directory for the next file; that of the file received by default")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := syscall.Setrlimit(syscall.RLIMIT_CORE, new(syscall.Rlimit)); err != nil {
			return fmt.Errorf("cannot turn off core dumps: %w", err)
		}
		c, err := ceremony.New()
		if err != nil {
			return err
		}
		if *dir == "" {
			*dir = filepath.Dir(*in)
		}
		s, err := c.Contribute(*in, *dir)
		return tell(cmd, s, err)
	}
	return command.Require(cmd, "in")
}

func newSeal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "seal --dir DIR --beacon HEX [--keys DIR]",
		Short: "Check a transcript and end phase 1, or with --keys phase 2 and the ceremony",
		Long: `Check a transcript from nothing and end its phase with a public beacon. Without --keys it ends phase 1 and writes the first file of
phase 2; with --keys it ends phase 2, writes the seal and the keys with a lock that says production. A sealed transcript gives the
same keys again.

The beacon is 32 to 64 bytes in hexadecimal that nobody could know before the phase's last contribution, such as the randomness of a
drand round or the hash of a block, whose number was announced before. The phases need different ones.`,
		Example: "  collector ceremony seal --dir transcript --beacon 9f2c…\n  collector ceremony seal --dir transcript --beacon 04d1… --keys claim",
		Args:    cobra.NoArgs,
	}
	dir := cmd.Flags().String("dir", "", "the transcript (required)")
	beacon := cmd.Flags().String("beacon", "", "the public randomness in hexadecimal (required)")
	keys := cmd.Flags().String("keys", "", "directory for the keys, which must not hold any; ends the ceremony")
	minimum := cmd.Flags().Int("min-contributions", ceremony.DefaultMinimum, "refuse a phase with fewer contributions")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		random, err := hex.DecodeString(*beacon)
		if err != nil {
			return fmt.Errorf("cannot use --beacon: %w; give the public randomness in hexadecimal", err)
		}
		c, err := ceremony.New()
		if err != nil {
			return err
		}
		if *keys == "" {
			s, err := c.EndPhase1(*dir, random, *minimum)
			return tell(cmd, s, err)
		}
		lock, err := c.Seal(*dir, *keys, random, *minimum)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "transcript %s\n", lock.Transcript)
		return err
	}
	return command.Require(cmd, "dir", "beacon")
}

func newVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify --dir DIR [--keys DIR]",
		Short: "Check a transcript from nothing and say what it holds",
		Long: `Check every file of a transcript from nothing: circuit, chain of hashes, each contribution, beacons, resulting keys. What no program
can check is left to the reader: that each contributor published the SHA-256 beside their file, that they are different people, and
that the beacons are what their sources said, after the last contribution before them.`,
		Example: "  collector ceremony verify --dir transcript --keys program/claim",
		Args:    cobra.NoArgs,
	}
	dir := cmd.Flags().String("dir", "", "the transcript (required)")
	keys := cmd.Flags().String("keys", "", "directory of keys that must be the ceremony's")
	partial := cmd.Flags().Bool("partial", false, "accept a transcript that is not sealed yet")
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := ceremony.New()
		if err != nil {
			return err
		}
		r, err := c.Verify(*dir, *keys)
		if err != nil {
			return err
		}
		if !r.Sealed && !*partial {
			return errors.New("cannot accept transcript: it is not sealed; with --partial it is checked as far as it goes")
		}
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
		}
		return printReport(cmd.OutOrStdout(), r)
	}
	return command.Require(cmd, "dir")
}

func printReport(out io.Writer, r ceremony.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tSHA-256\tBEACON")
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Hash, s.Beacon)
	}
	fmt.Fprintf(w, "\ncircuit\t%s\n", r.Circuit)
	if r.Sealed {
		fmt.Fprintf(w, "proving key\t%s\nverifying key\t%s\ntranscript\t%s\n", r.ProvingKey, r.VerifyingKey, r.Transcript)
	} else {
		fmt.Fprintln(w, "not sealed yet")
	}
	fmt.Fprintf(w, "contributions\t%d and %d, all valid\n", r.Contributions[0], r.Contributions[1])
	return w.Flush()
}

// tell prints what was written.
func tell(cmd *cobra.Command, s ceremony.Step, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", s.Name, s.Hash)
	return err
}
