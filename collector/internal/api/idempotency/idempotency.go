// Package idempotency tells requests that are sent again from new ones: by the header Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header), the client that sent it, and a hash of what it asks for.
//
// It keeps nothing but which requests are under way; what was answered is kept with what was done (package answer).
package idempotency

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"

	"rawstone/collector/internal/api/problem"
	"rawstone/pkg/wire"
)

const (
	minKeyLen = 16
	maxKeyLen = 64
)

// Hash hashes a tag and texts, each with its length before it.
func Hash(tag string, texts ...string) wire.Hash {
	b := []byte(tag)
	for _, t := range texts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(t))), t...)
	}
	return sha256.Sum256(b)
}

// Key returns the request's key (draft-ietf-httpapi-idempotency-key-header): a string, in quotes as in RFC 8941 or without.
func Key(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) != 1 {
		return "", problem.New(problem.KeyHeader(), "The header Idempotency-Key is missing or stands twice.")
	}
	key := values[0]
	if n := len(key); n > 1 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if len(key) < minKeyLen || len(key) > maxKeyLen || strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return "", problem.New(problem.KeyHeader(), "The header Idempotency-Key is not 16 to 64 letters, digits, hyphens and underscores.")
	}
	return key, nil
}

// A Flight is a request that is not answered yet.
type Flight struct{ Client, Key string }

// Flights are those of this process; between processes the records see to it that only one of a key is done. The zero value has none. They may
// be used from several goroutines.
type Flights struct {
	mu   sync.Mutex
	busy map[Flight]bool
}

// Begin reports whether none like it is under way, and notes it then.
func (f *Flights) Begin(x Flight) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[x] {
		return false
	}
	if f.busy == nil {
		f.busy = make(map[Flight]bool)
	}
	f.busy[x] = true
	return true
}

// End forgets a flight that began.
func (f *Flights) End(x Flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.busy, x)
}
