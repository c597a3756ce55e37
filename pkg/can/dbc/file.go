package dbc

import (
	"fmt"
	"io"
	"os"
)

// ReadFile returns the text of the DBC file at path for Parse. It refuses what is no regular file, before opening it, which might
// never end, and what is larger than MaxFile; it reads no more than that of a file that grows meanwhile.
func ReadFile(path string) ([]byte, error) {
	// Of a file that is not there, the opening tells.
	if info, err := os.Stat(path); err == nil && (!info.Mode().IsRegular() || info.Size() > MaxFile) {
		return nil, fmt.Errorf("cannot read DBC file %s: it is no regular file of at most %d bytes", path, MaxFile)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read DBC file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read DBC file: %w", err)
	}
	return text, nil
}
