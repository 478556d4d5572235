package control

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"
)

// ErrChecksum: this is no API key, or one that was cut off or mistyped.
var ErrChecksum = errors.New("not an API key, or damaged: its checksum is wrong")

// An API key is chk_<id>_<secret><checksum>: 64 bits of id, 256 bits of secret, CRC-32 of all before it,
// each in base 62. The checksum tells a damaged key from a wrong one without asking anybody, and lets
// secret scanners recognise keys.
const (
	tokenPrefix    = "chk_"
	idLength       = 11
	secretLength   = 43
	checksumLength = 6
	tokenLength    = len(tokenPrefix) + idLength + 1 + secretLength + checksumLength
)

// NewToken makes an API key that exists nowhere yet, for CreateWithSecret.
func NewToken() string {
	body := tokenPrefix + random(8, idLength) + "_" + random(32, secretLength)
	return body + checksum(body)
}

// random is size random bytes in base 62, length characters. crypto/rand never fails (Go 1.24).
func random(size, length int) string {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return base62(new(big.Int).SetBytes(b), length)
}

func base62(n *big.Int, length int) string {
	digits := n.Text(62)
	return strings.Repeat("0", length-len(digits)) + digits
}

func checksum(body string) string {
	return base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(body)))), checksumLength)
}

// parse takes a token apart: its id, and the hash that stands for its secret.
func parse(token string) (id string, hash [sha256.Size]byte, err error) {
	if len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix) {
		return "", hash, ErrChecksum
	}
	body := token[:tokenLength-checksumLength]
	id = body[len(tokenPrefix) : len(tokenPrefix)+idLength]
	secret := body[len(body)-secretLength:]
	if checksum(body) != token[len(body):] || body[len(tokenPrefix)+idLength] != '_' || !alphanumeric(id) || !alphanumeric(secret) {
		return "", hash, ErrChecksum
	}
	return id, sha256.Sum256([]byte(secret)), nil
}

func alphanumeric(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
