package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestFlagUsages: a word in back quotes within a flag's usage is what pflag prints for the type of its value.
func TestFlagUsages(t *testing.T) {
	flags := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if flags++; f.Usage == "" || strings.Contains(f.Usage, "`") {
				t.Errorf("%s --%s: usage %q is empty or has back quotes", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	if walk(root()); flags < 5 {
		t.Errorf("%d flags were looked at", flags)
	}
}
