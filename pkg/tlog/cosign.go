package tlog

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/wire"
)

// algCosignature is cosignature/v1's identifier of its kind of signature (C2SP signed-note).
const algCosignature = 4

// A Cosigner is who may cosign a log's checkpoints.
type Cosigner struct {
	// Name is not empty and holds neither white space nor a plus.
	Name string
	Key  [ed25519.PublicKeySize]byte
}

// A Cosigned says who cosigned a checkpoint and when by its own clock.
type Cosigned struct {
	Name string
	At   time.Time
}

// CosignCheckpoint returns the line (C2SP tlog-cosignature, cosignature/v1) with which an Ed25519 key says that it saw a checkpoint at a
// time and that it is consistent with all that it cosigned before: that this is so is the caller's to have checked. The signed text begins
// with cosignature/v1, so that the key may sign other things that do not. The log's own signature is not looked at.
func CosignCheckpoint(key crypto.Signer, name string, checkpoint []byte, at time.Time) (line []byte, err error) {
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("cannot cosign checkpoint: the key is not an Ed25519 key")
	}
	if !validName(name) {
		return nil, fmt.Errorf("cannot cosign checkpoint: %q cannot name a key: it must have neither white space nor a plus", name)
	}
	text, err := checkpointText(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot cosign checkpoint: %w", err)
	}
	if at.Unix() < 0 {
		return nil, errors.New("cannot cosign checkpoint: the time is before 1970")
	}
	signature, err := key.Sign(rand.Reader, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at.Unix(), text), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("cannot cosign checkpoint: %w", err)
	}
	b := binary.BigEndian.AppendUint32(nil, keyHash(name, public))
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()))
	return fmt.Appendf(nil, "— %s %s\n", name, base64.StdEncoding.EncodeToString(append(b, signature...))), nil
}

// keyHash names a cosigner's key (C2SP signed-note).
func keyHash(name string, public ed25519.PublicKey) uint32 {
	h := sha256.Sum256(append([]byte(name+"\n"+string(rune(algCosignature))), public...))
	return binary.BigEndian.Uint32(h[:])
}

func validName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsSpace) && !strings.Contains(name, "+")
}

// checkpointText returns what is signed of a checkpoint: everything before the empty line, with its last line break.
func checkpointText(checkpoint []byte) ([]byte, error) {
	if len(checkpoint) > MaxCheckpointLen {
		return nil, fmt.Errorf("it has %d bytes, at most %d allowed", len(checkpoint), MaxCheckpointLen)
	}
	text, _, ok := bytes.Cut(checkpoint, []byte("\n\n"))
	var c flog.Checkpoint
	if !ok {
		return nil, errors.New("it is not a signed note")
	}
	text = append(bytes.Clone(text), '\n')
	if _, err := c.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("it is not a checkpoint: %w", err)
	}
	return text, nil
}

// AddCosignatures returns a signed checkpoint with further lines, each once.
func AddCosignatures(checkpoint []byte, lines ...[]byte) []byte {
	all := bytes.Clone(checkpoint)
	for _, line := range lines {
		if !bytes.Contains(all, append([]byte("\n"), line...)) {
			all = append(all, line...)
		}
	}
	return all
}

// VerifyCosignatures checks a checkpoint's signature by the log, whose key is a note verifier text, and all those lines that claim to be one of
// the cosigners'. It returns who of them cosigned, in their order; how many are enough is the caller's question. Lines by others are passed
// over, as C2SP signed-note asks.
func VerifyCosignatures(log string, cosigners []Cosigner, checkpoint []byte) (c Checkpoint, by []Cosigned, err error) {
	v, err := note.NewVerifier(log)
	if err != nil {
		return c, nil, fmt.Errorf("cannot use log key: %w", err)
	}
	if len(checkpoint) > MaxCheckpointLen {
		return c, nil, fmt.Errorf("cannot accept checkpoint: %d bytes, at most %d allowed", len(checkpoint), MaxCheckpointLen)
	}
	var others []note.Verifier
	for _, w := range cosigners {
		if !validName(w.Name) {
			return c, nil, fmt.Errorf("cannot accept checkpoint: %q cannot name a key", w.Name)
		}
		key := append([]byte{algCosignature}, w.Key[:]...)
		text := fmt.Sprintf("%s+%08x+%s", w.Name, keyHash(w.Name, w.Key[:]), base64.StdEncoding.EncodeToString(key))
		o, err := fnote.NewVerifierForCosignatureV1(text)
		if err != nil {
			return c, nil, fmt.Errorf("cannot use key of cosigner %s: %w", w.Name, err)
		}
		others = append(others, o)
	}
	p, _, n, err := flog.ParseCheckpoint(checkpoint, v.Name(), v, others...)
	if err != nil {
		return c, nil, fmt.Errorf("cannot accept checkpoint: %w", err)
	}
	if len(p.Hash) != len(c.Root) {
		return c, nil, fmt.Errorf("cannot accept checkpoint: root of %d bytes, want %d", len(p.Hash), len(c.Root))
	}
	for _, o := range others {
		for _, s := range n.Sigs {
			if s.Name == o.Name() && s.Hash == o.KeyHash() {
				at, err := fnote.CoSigV1Timestamp(s)
				if err != nil {
					return c, nil, fmt.Errorf("cannot accept checkpoint: %w", err)
				}
				by = append(by, Cosigned{s.Name, at})
			}
		}
	}
	return Checkpoint{Size: p.Size, Root: wire.Hash(p.Hash)}, by, nil
}
