package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"rawstone/agent/internal/decode"
)

func newDecode() *cobra.Command {
	var o decode.Options
	cmd := &cobra.Command{
		Use:   "decode (--dbc FILE | --vss MAP) [--signals A,B] CAPTURE",
		Short: "Print what the signals of a capture say, as t,bus,id,signal,value",
		Long: `Decode candump text (candump -L), plain or gzip; - is standard input.

A value that its sender marks as not available is empty, or null in JSON. What the DBC file and the capture have of broken lines is
told on standard error and costs those lines only. A DBC file loads unless it is not empty and no message in it can be understood.`,
		Example: "  agent decode --dbc car.dbc --signals Odometer,Speed drive.log.gz\n" +
			"  agent decode --dbc can0=engine.dbc --dbc can1=body.dbc --stats drive.log\n" +
			"  candump -L can0 | agent decode --vss car.yaml --json -",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("cannot decode %d captures: name one file of candump text, or - for standard input", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Capture, o.Stdin, o.Diagnostics = args[0], cmd.InOrStdin(), cmd.ErrOrStderr()
			return decode.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.DBC, "dbc", nil, "DBC file for every bus, or NAME=FILE for one; may be repeated")
	flags.StringSliceVar(&o.Signals, "signals", nil, "signals to decode, as Signal or Message.Signal (default all)")
	flags.StringVar(&o.Map, "vss", "", "signal map of a vehicle: decode its VSS paths in their units")
	flags.BoolVar(&o.Stats, "stats", false, "print a summary: frames, identifiers, and each signal's first, last, min and max on each bus")
	flags.BoolVar(&o.JSON, "json", false, "print JSON: a line a value, or one document of the summary")
	flags.BoolVar(&o.Raw, "raw", false, "print the raw number beside each value")
	return cmd
}
