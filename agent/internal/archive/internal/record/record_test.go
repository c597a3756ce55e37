package record

import (
	"bytes"
	"testing"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func FuzzDecodeReceipt(f *testing.F) {
	f.Add(must(codec.Encode(receiptRecord{Version: receiptVersion, Signed: []byte{signedTag}, Came: 7, Kinds: []string{"mileage"}, False: []byte{1}})))
	f.Add([]byte{signedTag, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		var r Receipt
		if err := r.Decode(WithSum(body)); err != nil || body[0] == signedTag {
			return
		}
		if again := must(r.Encode()); len(r.False) <= maxFalse && !bytes.Equal(again, WithSum(body)) {
			t.Errorf("%x re-encodes to %x", body, again)
		}
		r.Decode(body)
	})
}

// TestBounds: evidence is cut rather than refused, and what was cut can be read.
func TestBounds(t *testing.T) {
	r := Receipt{Signed: make([]byte, wire.ReceiptLen), Came: time.Unix(1, 0), False: make([]byte, maxFalse+1)}
	for range wire.MaxClaimProofs {
		r.Kinds = append(r.Kinds, string(make([]byte, 128)))
	}
	var got Receipt
	if err := got.Decode(must(r.Encode())); err != nil || len(got.False) != maxFalse {
		t.Errorf("%d bytes of evidence, %v", len(got.False), err)
	}
	if got.ReadKey(r.Key("")[1:]) || !got.ReadKey(r.Key("")) {
		t.Error("a key is read wrongly")
	}
}
