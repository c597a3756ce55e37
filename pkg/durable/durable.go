// Package durable makes changes to directories last over a power cut. A file's own bytes are its writer's to sync.
package durable

import (
	"errors"
	"os"
)

// SyncDir puts on disk which files a directory holds, and under what names: a rename or a removal lasts only after it (fsync(2)).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
