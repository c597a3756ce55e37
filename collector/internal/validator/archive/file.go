package archive

import (
	"errors"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
)

// Keep writes a file beside a copy that lasts, in a directory that is made when missing.
func Keep(name string, text []byte) error {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(name+".new", name), durable.SyncDir(dir), durable.SyncDir(filepath.Dir(dir)))
}
