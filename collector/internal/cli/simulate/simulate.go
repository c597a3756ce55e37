// Package simulate is the command `collector simulate`. It parses, calls package simulation and shows progress where somebody watches.
package simulate

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rawstone/collector/internal/gallery"
	"rawstone/collector/internal/simulation"
	"rawstone/pkg/command"
)

// Command returns the command.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate --vehicles N --years Y --profile FILE [--out DIR]",
		Short: "Run the rules of stones over a growing fleet and draw what owners get",
		Long: `Run the rules of stones over a fleet that a profile describes, and write a page with charts and the same figures as JSON: stones per
owner by joining date and by distance, the Gini coefficient over time, supply left. The same profile gives the same result.`,
		Example: "  collector simulate --vehicles 1000000 --years 10 --profile configs/simulation/launch.yaml --out simulation",
		Args:    cobra.NoArgs,
	}
	vehicles := cmd.Flags().Int("vehicles", 0, fmt.Sprintf("vehicles when all have joined, 1 to %d (required)", simulation.MaxVehicles))
	years := cmd.Flags().Int("years", 0, fmt.Sprintf("years of 365 program days, 1 to %d (required)", simulation.MaxYears))
	profile := cmd.Flags().String("profile", "", "file that describes the fleet (required)")
	out := cmd.Flags().String("out", "simulation", "directory for the page and the data")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := simulation.LoadProfile(*profile)
		if err != nil {
			return err
		}
		c := simulation.Config{Profile: p, Vehicles: *vehicles, Years: *years}
		bar := newBar(cmd.ErrOrStderr(), time.Now)
		if bar != nil {
			c.Progress = bar.show
		}
		result, err := simulation.Run(cmd.Context(), c)
		bar.end()
		if err != nil {
			return err
		}
		if err := gallery.Write(*out, result); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(*out, gallery.PageFile))
		return err
	}
	return command.Require(cmd, "vehicles", "years", "profile")
}

// A bar shows progress on a line of its own. A nil bar shows nothing.
type bar struct {
	w           io.Writer
	now         func() time.Time
	start, last time.Time
}

// newBar returns nil when w is no terminal.
func newBar(w io.Writer, now func() time.Time) *bar {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return nil
	}
	return &bar{w: w, now: now, start: now()}
}

// show redraws the line, at most five times a second.
func (b *bar) show(done, all uint32) {
	now := b.now()
	if now.Sub(b.last) < 200*time.Millisecond && done < all {
		return
	}
	b.last = now
	const width = 30
	full := int(uint64(width) * uint64(done) / uint64(all))
	left := now.Sub(b.start) * time.Duration(all-done) / time.Duration(done)
	fmt.Fprintf(b.w, "\r[%s%s] %3d %%  day %d of %d  %s left\x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*uint64(done)/uint64(all), done, all, left.Round(time.Second))
}

// end leaves the line.
func (b *bar) end() {
	if b != nil {
		fmt.Fprintln(b.w)
	}
}
