// Package quorum has documents under the signatures of several: a CBOR array with one array in it, of COSE_Sign1 messages (RFC 9052) over the
// same text. Signatures are added one after another, by people who do not meet.
//
// A document's identity is that of its text: a further signature makes no other document of it. The package refuses messages over different
// texts, and keys that are not asked for, wherever they stand; a key that signs twice counts once, and Read and Add refuse it. It knows no document.
package quorum

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/codec"
	"rawstone/pkg/key"
)

// Max bounds the signatures of a document.
const Max = 16

// signatures is the document's outer form.
type signatures struct {
	_    struct{} `cbor:",toarray"`
	List [][]byte
}

func decode(b []byte, limit int) ([][]byte, error) {
	var s signatures
	if err := codec.Decode(b, &s, Max*limit); err != nil {
		return nil, err
	}
	if n := len(s.List); n < 1 || n > Max {
		return nil, fmt.Errorf("it has %d signatures, want 1 to %d", n, Max)
	}
	return s.List, nil
}

// Seal signs a text with each of the keys.
func Seal(keys []crypto.Signer, context string, text []byte) ([]byte, error) {
	var list [][]byte
	for _, k := range keys {
		m, err := key.Seal(k, context, text)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return encode(list)
}

func encode(list [][]byte) ([]byte, error) {
	if n := len(list); n < 1 || n > Max {
		return nil, fmt.Errorf("cannot sign: %d signatures, want 1 to %d", n, Max)
	}
	return codec.Encode(&signatures{List: list})
}

// Add adds a key's signature to a document that has some.
func Add(signer crypto.Signer, context string, b []byte, limit int) ([]byte, error) {
	text, signers, err := Read(b, limit)
	if err != nil {
		return nil, err
	}
	public, err := key.NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if slices.Contains(signers, public.ID()) {
		return nil, fmt.Errorf("key %s signed it already", public.ID())
	}
	list, err := decode(b, limit)
	if err != nil {
		return nil, err
	}
	m, err := key.Seal(signer, context, text)
	if err != nil {
		return nil, err
	}
	return encode(append(list, m))
}

// Read returns the text of a document and the keys that it says signed it. It checks no signature: nothing that it returns may be
// believed. Messages are at most limit bytes.
func Read(b []byte, limit int) (text []byte, signers []key.KeyID, err error) {
	list, err := decode(b, limit)
	if err != nil {
		return nil, nil, err
	}
	for i, m := range list {
		got, id, err := key.Peek(m)
		if err != nil {
			return nil, nil, fmt.Errorf("signature %d: %w", i+1, err)
		}
		if i > 0 && !bytes.Equal(got, text) {
			return nil, nil, errDifferent
		}
		if slices.Contains(signers, id) {
			return nil, nil, fmt.Errorf("key %s signed it twice", id)
		}
		text, signers = got, append(signers, id)
	}
	return text, signers, nil
}

var errDifferent = errors.New("its signatures are over different texts")

// Open checks that different ones of keys signed the document, as many as asked for, and returns its text.
func Open(keys key.KeySet, want int, context string, b []byte, limit int) (text []byte, err error) {
	list, err := decode(b, limit)
	if err != nil {
		return nil, err
	}
	signers := make(map[key.KeyID]bool)
	for i, m := range list {
		got, id, err := key.Open(keys, context, m, limit)
		if err != nil {
			return nil, err
		}
		if i > 0 && !bytes.Equal(got, text) {
			return nil, errDifferent
		}
		text, signers[id] = got, true
	}
	if len(signers) < want {
		return nil, fmt.Errorf("signed by %d of the keys, want %d", len(signers), want)
	}
	return text, nil
}
