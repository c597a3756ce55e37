package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"rawstone/pkg/wire"
)

// A record is version, kind, created and due (nanoseconds since 1970), identifier, CRC-32C of what stands before it, and the
// submission, which its identifier checks.
const (
	recordVersion = 1
	sumAt         = 1 + 1 + 8 + 8 + 32
	headLen       = sumAt + 4
)

var kinds = [...]wire.Kind{1: wire.KindClaim, 2: wire.KindReport}

func kindCode(k wire.Kind) byte {
	for i := 1; i < len(kinds); i++ {
		if kinds[i] == k {
			return byte(i)
		}
	}
	return 0
}

func encodeRecord(item Item) []byte {
	b := make([]byte, 0, headLen+len(item.Bytes))
	b = append(b, recordVersion, kindCode(item.Kind))
	b = binary.BigEndian.AppendUint64(b, uint64(item.Created.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, uint64(item.Due.UnixNano()))
	b = append(b, item.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, item.Bytes...)
}

// decodeRecord reads a record; the item's bytes are a copy.
func decodeRecord(b []byte) (Item, error) {
	if len(b) <= headLen || len(b) > headLen+MaxItemLen {
		return Item{}, fmt.Errorf("record has %d bytes", len(b))
	}
	if b[0] != recordVersion {
		return Item{}, fmt.Errorf("record has version %d, want %d", b[0], recordVersion)
	}
	if crc32.Checksum(b[:sumAt], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b[sumAt:]) {
		return Item{}, errors.New("record's head does not match its checksum")
	}
	if b[1] == 0 || int(b[1]) >= len(kinds) {
		return Item{}, fmt.Errorf("record has the unknown kind %d", b[1])
	}
	item := Item{
		ID:      wire.Hash(b[18:sumAt]),
		Kind:    kinds[b[1]],
		Created: time.Unix(0, int64(binary.BigEndian.Uint64(b[2:]))),
		Due:     time.Unix(0, int64(binary.BigEndian.Uint64(b[10:]))),
		Bytes:   append([]byte(nil), b[headLen:]...),
	}
	if wire.ID(item.Bytes) != item.ID {
		return Item{}, errors.New("record's submission does not match its identifier")
	}
	return item, nil
}
