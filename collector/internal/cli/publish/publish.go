// Package publish is the commands that make what a program publishes beside its policies: its data charter, offers, changes of its
// validators, and the yearly announcement. They read and write files and decide nothing: packages charter, offering, witness and announce do.
package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/policy"
	"rawstone/pkg/command"
)

// Commands returns the commands charter, offers, witness, announce and equity.
func Commands() []*cobra.Command {
	return []*cobra.Command{newCharter(), newOffers(), newWitness(), newAnnounce(), newEquity()}
}

// withProgram gives cmd the flags that name a program and returns how to open it.
func withProgram(cmd *cobra.Command) func() (*policy.Program, error) {
	root, program := programFlags(cmd)
	charter := cmd.Flags().String("charter", "", "the data charter; without it, whether it allows the kinds that prove tasks stays unchecked")
	return func() (*policy.Program, error) { return policy.OpenProgram(*root, *program, *charter) }
}

func programFlags(cmd *cobra.Command) (root, program *string) {
	root = cmd.Flags().String("root", "", "file that pins the program root (required)")
	program = cmd.Flags().String("program", "", "the program's document (required)")
	command.Require(cmd, "root", "program")
	return root, program
}

// writeDocument writes a document that anybody may read to a path that must not exist.
func writeDocument(path string, b []byte) error { return write(path, b, 0o644) }

func write(path string, b []byte, mode fs.FileMode) (err error) {
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
