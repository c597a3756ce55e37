package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
)

const (
	maxSetLen = 256 << 10
	maxKeys   = 32
	minRSA    = 2048 // bits (RFC 7518 §3.3)
	maxRSA    = 8192
)

// A key verifies signatures of one algorithm.
type key struct {
	algorithm string
	public    crypto.PublicKey
}

// jwk is a JSON Web Key as far as it counts here (RFC 7517, RFC 7518 §6, RFC 8037 §2).
type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Alg    string   `json:"alg"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	D      any      `json:"d"`
	K      any      `json:"k"`
}

// load reads a set of keys from a file.
func load(path string) (map[string]key, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read token keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read token keys: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSetLen+1))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read token keys: %w", err)
	}
	keys, err := parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot use token keys %s: %w", path, err)
	}
	return keys, info, nil
}

// parse reads a JWK Set. Keys for other uses and algorithms are passed over; a secret in the file, two keys of one name and a key
// that is broken are refused, and so is a set without any key that could be used.
func parse(text []byte) (map[string]key, error) {
	if len(text) > maxSetLen {
		return nil, fmt.Errorf("they are more than %d bytes", maxSetLen)
	}
	var set struct {
		Keys []jwk `json:"keys"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&set); err != nil {
		return nil, fmt.Errorf("they are no JWK Set: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JWK Set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("they are %d, at most %d allowed", len(set.Keys), maxKeys)
	}
	keys := make(map[string]key)
	for i := range set.Keys {
		j := &set.Keys[i]
		if j.D != nil || j.K != nil {
			return nil, fmt.Errorf("key %q is secret: the file takes public keys only; make a new pair and keep its secret at the issuer", j.Kid)
		}
		public, algorithm, err := j.public()
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", j.Kid, err)
		}
		if public == nil || j.Use != "" && j.Use != "sig" || j.Alg != "" && j.Alg != algorithm || j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
			continue
		}
		if j.Kid == "" {
			return nil, errors.New("a key has no kid: give each a name of its own")
		}
		if _, twice := keys[j.Kid]; twice {
			return nil, fmt.Errorf("two keys are called %q: give each a name of its own", j.Kid)
		}
		keys[j.Kid] = key{algorithm, public}
	}
	if len(keys) == 0 {
		return nil, errors.New("none can be used: give at least one on P-256 (ES256), Ed25519 (EdDSA) or RSA of 2048 bits or more (RS256)")
	}
	return keys, nil
}

// public returns the key and its algorithm; nil for one of another kind.
func (j *jwk) public() (crypto.PublicKey, string, error) {
	switch {
	case j.Kty == "EC" && j.Crv == "P-256":
		x, y, err := decode2(j.X, j.Y)
		if err != nil || len(x) != 32 || len(y) != 32 {
			return nil, "", errors.New("its coordinates are not 32 bytes each in base64url")
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err != nil {
			return nil, "", errors.New("it is not a point of P-256")
		}
		return public, "ES256", nil
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, "", errors.New("it is not 32 bytes in base64url")
		}
		return ed25519.PublicKey(x), "EdDSA", nil
	case j.Kty == "RSA":
		n, e, err := decode2(j.N, j.E)
		if err != nil || len(e) == 0 || len(e) > 4 {
			return nil, "", errors.New("its modulus or exponent is not in base64url, or its exponent exceeds 32 bits")
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA || public.E < 3 || public.E&1 == 0 {
			return nil, "", fmt.Errorf("its modulus has %d bits and its exponent is %d: want %d to %d bits and an odd number above 1", bits, public.E, minRSA, maxRSA)
		}
		return public, "RS256", nil
	default:
		return nil, "", nil
	}
}

func decode2(a, b string) (x, y []byte, err error) {
	x, err = base64.RawURLEncoding.DecodeString(a)
	if err != nil {
		return nil, nil, err
	}
	y, err = base64.RawURLEncoding.DecodeString(b)
	return x, y, err
}
