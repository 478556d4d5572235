package control

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// argon2id with 19 MiB and two passes (OWASP's least): some 30 ms, which is what a guess costs as well.
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	argonBytes  = 32
	saltBytes   = 16

	passwordLeast = 12 // characters
	passwordMost  = 256
)

// hashing bounds how many hashes are made at a time: each takes 19 MiB.
type hashing chan struct{}

// hash is a password as it is stored: $argon2id$v=19$m=…,t=…,p=…$salt$hash.
func (h hashing) hash(password string) string {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the program instead
	sum := h.sum(password, salt, argonMemory, argonTime, argonLanes)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}

func (h hashing) sum(password string, salt []byte, memory, time uint32, lanes uint8) []byte {
	h <- struct{}{}
	defer func() { <-h }()
	return argon2.IDKey([]byte(password), salt, time, memory, lanes, argonBytes)
}

// matches compares a password with a stored hash. With "" for the hash it takes as long and says no: how long an
// answer takes must not tell which logins there are.
func (h hashing) matches(stored, password string) bool {
	parts := strings.Split(stored, "$")
	var memory, time uint32
	var lanes uint8
	if len(parts) != 6 {
		h.sum(password, make([]byte, saltBytes), argonMemory, argonTime, argonLanes)
		return false
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare(want, h.sum(password, salt, memory, time, lanes)) == 1
}

func checkPassword(password string) error {
	if n := utf8.RuneCountInString(password); n < passwordLeast || n > passwordMost || !utf8.ValidString(password) {
		return refused("password", "want %d to %d characters", passwordLeast, passwordMost)
	}
	return nil
}

// NewPassword makes a password for somebody who has none yet: 119 bits.
func NewPassword() string { return random(15, 21) }
