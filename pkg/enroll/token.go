package enroll

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"

	"rawstone/pkg/wire"
)

const (
	tokenBytes = 20 // 160 bits: not to be guessed, nor found from its hash
	tokenLen   = tokenBytes * 8 / 5
)

// NewToken returns a fresh token, which lets one vehicle enrol once: 160 random bits as 32 characters of base32 (RFC 4648 §6).
func NewToken() string {
	var b [tokenBytes]byte
	rand.Read(b[:])
	return base32.StdEncoding.EncodeToString(b[:])
}

// ParseToken reads the text of a token file: a token with white space around it.
func ParseToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	return token, checkToken(token)
}

// checkToken never quotes what it refuses: it may be a token with a letter too many.
func checkToken(token string) error {
	if len(token) == tokenLen {
		// The decoder skips line ends, and so what it returns has to be whole.
		if b, err := base32.StdEncoding.DecodeString(token); err == nil && len(b) == tokenBytes {
			return nil
		}
	}
	return errors.New("the token is not one: it is 32 characters of A-Z and 2-7, as `collector vehicle add` printed it")
}

// HashToken is what the collector keeps of a token: its SHA-256, which is enough because tokens are random.
func HashToken(token string) wire.Hash { return wire.ID([]byte(token)) }

// Matches reports whether a token has this hash, in a time that does not tell how much of it is right.
func Matches(token string, hash wire.Hash) bool {
	got := HashToken(token)
	return subtle.ConstantTimeCompare(got[:], hash[:]) == 1
}
