package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"rawstone/pkg/wire"
)

// KindNote is the kind of an entry with which nothing left the car.
const KindNote = "note"

// An Entry is one submission as the driver sees it, or a note.
type Entry struct {
	// Submission identifies the bytes, in hexadecimal; a note has none.
	Submission string `json:"submission"`
	// Time is when it was sealed or noted.
	Time time.Time `json:"time"`
	// Kind is claim, report or note.
	Kind string `json:"kind"`
	// Bytes is the size; 0 for a note.
	Bytes int `json:"bytes"`
	// Contents says in plain words what the bytes tell, Cost what telling it costs.
	Contents string `json:"contents"`
	Cost     string `json:"cost"`
	// Outcome says how it ended, empty while it waits for a receipt; Ended is when.
	Outcome string     `json:"outcome,omitempty"`
	Ended   *time.Time `json:"ended,omitempty"`
}

// A record is the CRC-32C of an entry's JSON, and the JSON.
func encodeEntry(e Entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, text...), nil
}

func decodeEntry(b []byte) (e Entry, err error) {
	if len(b) < 4 || len(b) > 4+maxEntryLen {
		return e, fmt.Errorf("entry has %d bytes", len(b))
	}
	if crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b) {
		return e, errors.New("entry does not match its checksum")
	}
	if err := json.Unmarshal(b[4:], &e); err != nil {
		return e, err
	}
	if again, err := encodeEntry(e); err != nil || !bytes.Equal(again, b) {
		return e, errors.New("entry is not in the form that this package writes")
	}
	return e, nil
}

func parseID(text string) (id wire.Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no submission identifier", text)
	}
	return wire.Hash(b), nil
}

// clip keeps texts within their bound.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxTextLen)], "") }
