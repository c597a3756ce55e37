package evidence

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rawstone/pkg/audit"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
)

// Audit replays the ledger in a directory from nothing under the pinned root, with openings when a file of them is named.
func Audit(ctx context.Context, dir, rootPath, openingsPath string) (audit.Report, error) {
	root, err := terms.LoadRoot(rootPath)
	if err != nil {
		return audit.Report{}, err
	}
	if _, err := os.Stat(dir); err != nil {
		return audit.Report{}, fmt.Errorf("cannot audit ledger: %w; name the directory ledger below the collector's state_dir, or a copy of it", err)
	}
	c := audit.Config{Dir: dir, Root: root}
	if openingsPath != "" {
		f, err := os.Open(openingsPath)
		if err != nil {
			return audit.Report{}, fmt.Errorf("cannot read openings: %w; `collector openings` writes them", err)
		}
		defer f.Close()
		opened, err := opening.Read(f)
		if err != nil {
			return audit.Report{}, fmt.Errorf("cannot use openings %s: %w", openingsPath, err)
		}
		c.Openings = opened
	}
	report, err := audit.Audit(ctx, c)
	if errors.Is(err, tlog.ErrEmpty) {
		err = fmt.Errorf("%w; name the directory ledger below the collector's state_dir, or a copy of it", err)
	}
	return report, err
}
