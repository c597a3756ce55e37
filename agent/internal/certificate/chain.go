package certificate

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
	"rawstone/pkg/enroll"
)

const (
	// chainFile holds the chain in PEM, the vehicle's certificate first.
	chainFile = "chain.pem"
	blockType = "CERTIFICATE"
	maxFile   = 4 * enroll.MaxLen
)

// readChain returns the chain in dir. The error wraps fs.ErrNotExist where there is none.
func readChain(dir string) (*enroll.Answer, error) {
	f, err := os.Open(filepath.Join(dir, chainFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	return decodeChain(text)
}

// decodeChain reads what encodeChain wrote and nothing else.
func decodeChain(text []byte) (*enroll.Answer, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("file of more than %d bytes", maxFile)
	}
	a := &enroll.Answer{Version: enroll.Version}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		a.Chain = append(a.Chain, block.Bytes)
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(encodeChain(a), text) {
		return nil, errors.New("it is not as it was written")
	}
	return a, nil
}

func encodeChain(a *enroll.Answer) (text []byte) {
	for _, der := range a.Chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der})...)
	}
	return text
}

// stat returns what tells one chain on flash from another, nil where there is none.
func stat(dir string) os.FileInfo {
	info, err := os.Stat(filepath.Join(dir, chainFile))
	if err != nil {
		return nil
	}
	return info
}

func same(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// writeChain replaces the chain in dir; the new one is on flash when it returns, and the old one stays when it fails.
func writeChain(dir string, a *enroll.Answer) error {
	if err := replace(dir, encodeChain(a)); err != nil {
		return fmt.Errorf("cannot keep the new certificate: %w", err)
	}
	return nil
}

func replace(dir string, text []byte) error {
	temp := filepath.Join(dir, chainFile+".tmp") // one name: what a crash leaves is written over
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, chainFile)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
