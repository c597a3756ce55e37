package archive

import (
	"bytes"
	"testing"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/attest"
	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzDecodeState(f *testing.F) {
	head := wire.Head{Seq: 1, Day: 2}
	f.Add(must(codec.Encode(State{Version: stateVersion})))
	f.Add(must(codec.Encode(State{Version: stateVersion, Head: &head, Reason: wire.ReasonGap})))
	f.Fuzz(func(t *testing.T, body []byte) {
		st, err := decodeState(record.WithSum(body))
		if err != nil {
			return
		}
		if again := must(codec.Encode(st)); !bytes.Equal(again, body) {
			t.Errorf("%x re-encodes to %x", body, again)
		}
		decodeState(body)
	})
}

func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(must(attest.Message{Snapshot: wire.Snapshot{Seq: 7}}.Encode()), uint64(7))
	f.Add(must(attest.Message{Snapshot: wire.Snapshot{Seq: 7}}.Encode()), uint64(8)) // under another key
	f.Fuzz(func(t *testing.T, body []byte, seq uint64) {
		m, err := decodeSnapshot(record.WithSum(body), seq)
		if err != nil {
			return
		}
		if again := must(m.Encode()); !bytes.Equal(again, body) || m.Snapshot.Seq != seq {
			t.Errorf("%x re-encodes to %x", body, again)
		}
		decodeSnapshot(body, seq)
	})
}
