// Package cli is the command line of firmware-sim. It parses, calls package daemon and turns errors into one sentence and an exit
// code; it decides nothing else.
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"rawstone/firmware-sim/daemon"
	"rawstone/pkg/command"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return command.Main(root(), args, stdout, stderr)
}

// root returns the program's command with all others below it.
func root() *cobra.Command {
	root := &cobra.Command{
		Use:   "firmware-sim",
		Short: "Play a car and its attestation ECU on a CAN bus",
	}
	root.AddCommand(newDrive(), newReplay(), newECU(), newCheckConfig(), newDemo(), newFleet(), newApp())
	return root
}

func newDrive() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "drive --config FILE",
		Short:   "Invent a car's days: commuter, longhaul or parked",
		Example: "  firmware-sim drive --config configs/firmware-sim.yaml",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return run(cmd, daemon.ModeDrive, nil) },
	}
	return command.WithConfig(cmd)
}

func newReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "replay --config FILE [CAPTURE]",
		Short:   "Play a recorded drive (candump -L, plain or gzip); CAPTURE goes before the configuration's",
		Example: "  firmware-sim replay --config car.yaml --speed 60 --loop drive.log.gz",
		Args:    cobra.MaximumNArgs(1),
	}
	speed := cmd.Flags().Float64("speed", 1, "how many times faster than recorded, 0.01 to 100,000; the configuration's by default")
	loop := cmd.Flags().Bool("loop", false, "begin again at the end; the configuration's choice by default")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return run(cmd, daemon.ModeReplay, func(cfg *daemon.Config) error {
			if cmd.Flags().Changed("speed") {
				if err := daemon.CheckSpeed(*speed); err != nil {
					return fmt.Errorf("cannot use --speed: %w", err)
				}
				cfg.Replay.Speed = *speed
			}
			if len(args) > 0 {
				cfg.Replay.Capture = args[0]
			}
			if cmd.Flags().Changed("loop") {
				cfg.Replay.Loop = *loop
			}
			return nil
		})
	}
	return command.WithConfig(cmd)
}

func newECU() *cobra.Command {
	ecu := &cobra.Command{Use: "ecu", Short: "Make an attestation ECU or read its identity"}
	birth := &cobra.Command{
		Use:   "init --config FILE",
		Short: "Make the ECU's key and sign the snapshot of its birth; its identity goes to --out",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return identity(cmd, func(cfg *daemon.Config) ([]byte, error) { return daemon.Init(cfg, time.Now) })
		},
	}
	read := &cobra.Command{
		Use:   "identity --config FILE",
		Short: "Read the ECU's public key and latest snapshot",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return identity(cmd, daemon.Identity) },
	}
	for _, cmd := range []*cobra.Command{birth, read} {
		cmd.Flags().String("out", "-", "file to write the identity to, which must not exist; - is standard output")
		ecu.AddCommand(command.WithConfig(cmd))
	}
	return ecu
}

func newCheckConfig() *cobra.Command {
	return command.CheckConfig(func(path string) error {
		_, err := daemon.Load(path)
		return err
	})
}

func run(cmd *cobra.Command, mode daemon.Mode, override func(*daemon.Config) error) error {
	logger, err := command.Logger(cmd)
	if err != nil {
		return err
	}
	cfg, err := daemon.LoadAs(command.ConfigPath(cmd), mode)
	if err != nil {
		return err
	}
	if override != nil {
		if err := override(cfg); err != nil {
			return err
		}
	}
	return daemon.Run(cmd.Context(), cfg, daemon.Deps{Logger: logger})
}

// identity writes what read returns to --out. The file is opened first: an ECU whose identity cannot be handed out is not made.
func identity(cmd *cobra.Command, read func(*daemon.Config) ([]byte, error)) (err error) {
	cfg, err := daemon.Load(command.ConfigPath(cmd))
	if err != nil {
		return err
	}
	path, err := cmd.Flags().GetString("out")
	if err != nil {
		return err
	}
	if path == "-" {
		text, err := read(cfg)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write identity: %s exists; choose another name or remove it", path)
	} else if err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	text, err := read(cfg)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return fmt.Errorf("cannot write identity: %w", err)
	}
	return nil
}
