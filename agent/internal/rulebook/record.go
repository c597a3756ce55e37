package rulebook

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/durable"
	"rawstone/pkg/notice"
)

const (
	recordVersion = 1
	maxRecordLen  = notice.MaxLen + 64
	recordFile    = "notice"
)

// A record is the notice in force as it is on flash. The notice vouches for itself by its signatures; a wrong Heard does no more than
// make news due at another time.
//
// It is a file rather than an entry of the car's store because it is large, is replaced whole, and must not grow: the store keeps values
// of this size in a log that nobody tidies.
type record struct {
	Version uint8 `cbor:"0,keyasint"`
	// Heard is when the last valid notice came, in Unix seconds.
	Heard  int64  `cbor:"1,keyasint"`
	Notice []byte `cbor:"2,keyasint"`
}

// decodeRecord reads what write wrote.
func decodeRecord(b []byte) (r record, err error) {
	if err := codec.Decode(b, &r, maxRecordLen); err != nil {
		return record{}, err
	}
	if r.Version != recordVersion {
		return record{}, fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	return r, nil
}

// readRecord returns dir's record. The error wraps fs.ErrNotExist where there is none.
func readRecord(dir string) (record, error) {
	f, err := os.Open(filepath.Join(dir, recordFile))
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecordLen+1))
	if err != nil {
		return record{}, err
	}
	return decodeRecord(b)
}

// writeRecord replaces dir's record; the new one is on flash when it returns, and the old one stays when it fails.
func writeRecord(dir string, heard time.Time, body []byte) (err error) {
	b, err := codec.Encode(record{Version: recordVersion, Heard: heard.Unix(), Notice: body})
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, recordFile+".tmp") // one name: what a crash leaves is written over
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
