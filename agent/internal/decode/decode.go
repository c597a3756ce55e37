// Package decode is what `agent decode` does: it prints what the signals of a capture say, as rows or JSON lines, or a summary.
//
// It streams: memory depends on the DBC files and not on the length of the capture. A line of the capture or of a DBC file that
// cannot be understood is told and costs itself only. The package refuses to guess: a signal that is asked for by name and cannot
// be decoded is an error, and a value that its sender marks as not available is printed as none, never as a number.
package decode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"rawstone/agent/internal/decode/capture"
	"rawstone/agent/internal/decode/tally"
	"rawstone/pkg/can"
)

// Options say what to decode and how to print it.
type Options struct {
	// DBC are the databases: FILE for every bus, or NAME=FILE for the bus of that name in the capture.
	DBC []string
	// Signals are the names of the wanted signals, "Signal" or "Message.Signal"; nil means every signal of the databases.
	Signals []string
	// Map is the path of a vehicle's signal map, which stands in place of DBC and Signals; its VSS paths are what is printed.
	Map string
	// Stats prints a summary in place of the values.
	Stats bool
	// JSON prints lines of JSON, or the summary as one document.
	JSON bool
	// Raw prints the raw number beside every value.
	Raw bool
	// Capture is the path of candump text, plain or gzip; "-" is Stdin.
	Capture string
	Stdin   io.Reader
	// Diagnostics takes what is said about the DBC files and the capture, one sentence a line.
	Diagnostics io.Writer
}

// A column is one wanted signal.
type column struct {
	name string // as printed
	long string // unique, for the summary
}

// A value is what one frame says about one column.
type value struct {
	column    int
	time      int64
	number    float64
	raw       uint64
	signed    bool // raw is in two's complement
	available bool
}

// A source takes values out of frames. Two kinds exist: databases and a vehicle's signal map.
type source interface {
	// columns are what values point into.
	columns() []column
	// begin tells the name of the next bus of the capture.
	begin(bus string)
	// read calls emit for each value of a frame, in order.
	read(ctx context.Context, f *can.Frame, emit func(*value)) error
	// buses are the names of the buses that the source is bound to.
	buses() []string
	// summary describes where the columns come from.
	summary() []tally.Database
}

// A sink takes what is read. It keeps no pointer.
type sink interface {
	begin(bus string)
	frame(f *can.Frame)
	value(f *can.Frame, v *value) error
	end(broken int) error
}

// Run decodes a capture to out. It returns nil when ctx ends or the reader of out has gone: what was printed is right then, and
// is not all.
func Run(ctx context.Context, o Options, out io.Writer) error {
	if o.Diagnostics == nil {
		o.Diagnostics = io.Discard
	}
	src, err := open(&o)
	if err != nil {
		return err
	}
	log, err := capture.Open(ctx, o.Capture, o.Stdin)
	if err != nil {
		if errors.Is(err, ctx.Err()) {
			return nil
		}
		return err
	}
	defer log.Close()
	buffered := bufio.NewWriterSize(out, 64<<10)
	var to sink
	if o.Stats {
		to = newSummary(src, &o, buffered)
	} else if to, err = newRows(src, &o, log.Spelling, buffered); err != nil {
		return quiet(err)
	}
	readErr := copyFrames(ctx, src, to, log.Reader)
	broken, first := log.Broken()
	if errors.Is(readErr, errWrite) {
		return quiet(readErr)
	}
	if err = to.end(broken); err == nil {
		err = buffered.Flush()
	}
	if err != nil {
		return quiet(fmt.Errorf("%w: %w", errWrite, err))
	}
	if readErr == nil {
		tellAbsent(&o, src, log.Buses())
	}
	if broken > 0 {
		fmt.Fprintf(o.Diagnostics, "capture %s: %d broken lines are left out; %s\n", o.Capture, broken, first)
	}
	if errors.Is(readErr, io.ErrUnexpectedEOF) {
		return fmt.Errorf("cannot read capture %s to its end: the gzip file is cut short or damaged, what comes before that is decoded", o.Capture)
	}
	if readErr != nil && !errors.Is(readErr, ctx.Err()) {
		return fmt.Errorf("cannot read capture %s to its end: %w", o.Capture, readErr)
	}
	return nil
}

// tellAbsent names the buses that src waits for in vain: a name misspelled would otherwise look like a signal that is never sent.
func tellAbsent(o *Options, src source, present []string) {
	if len(present) == 0 {
		return
	}
	for _, name := range src.buses() {
		if !slices.Contains(present, name) {
			fmt.Fprintf(o.Diagnostics, "capture %s: it has no frame of bus %q; its buses are %s\n", o.Capture, name, strings.Join(present[:min(len(present), maxWarnings)], ", "))
		}
	}
}

// errWrite marks an error of the output.
var errWrite = errors.New("cannot write")

// quiet forgives an output that nobody reads any more, as under `| head`.
func quiet(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// copyFrames reads log to its end.
func copyFrames(ctx context.Context, src source, to sink, log *can.Reader) error {
	var (
		f       can.Frame
		buses   int
		problem error
	)
	emit := func(v *value) {
		if problem == nil {
			problem = to.value(&f, v)
		}
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := log.Next(&f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if int(f.Bus) >= buses {
			for _, name := range log.Buses()[buses:] {
				src.begin(name)
				to.begin(name)
				buses++
			}
		}
		to.frame(&f)
		if err := src.read(ctx, &f, emit); err != nil {
			return err
		}
		if problem != nil {
			return fmt.Errorf("%w: %w", errWrite, problem)
		}
	}
}

// open makes the source that o asks for.
func open(o *Options) (source, error) {
	switch {
	case o.Map != "" && (len(o.DBC) > 0 || len(o.Signals) > 0):
		return nil, errors.New("cannot decode: a signal map names its own DBC files and signals, leave out --dbc and --signals")
	case o.Map != "":
		return openMap(o)
	case len(o.DBC) == 0:
		return nil, errors.New("cannot decode: name a DBC file with --dbc, or a signal map with --vss")
	case o.Signals != nil && len(o.Signals) == 0 || slices.Contains(o.Signals, ""):
		return nil, errors.New("cannot decode: a name in --signals is empty, leave out --signals for all")
	}
	return openDatabases(o)
}
