package stack

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DefaultTenant is whose keys `up` makes.
const DefaultTenant = "default"

const (
	analystUser = "analyst"
	adminFile   = "admin.key"
	analystFile = "analyst.password"

	operatorLogin = "admin"
	operatorFile  = "operator.password"
)

// secrets are made once per directory and stay the same across restarts.
type secrets struct {
	admin   string // API key; "" until ensureKeys has made it
	analyst string // password

	operator string // password; "" until ensureOperator has made it

	operatorStale bool // nobody can sign in with it any more
}

func loadSecrets(dir string) (secrets, error) {
	var s secrets
	var err error
	if s.admin, err = readSecret(filepath.Join(dir, adminFile)); err != nil {
		return s, err
	}
	if s.operator, err = readSecret(filepath.Join(dir, operatorFile)); err != nil {
		return s, err
	}
	path := filepath.Join(dir, analystFile)
	if s.analyst, err = readSecret(path); err != nil || s.analyst != "" {
		return s, err
	}
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return s, fmt.Errorf("make analyst password: %w", err)
	}
	s.analyst = hex.EncodeToString(random)
	return s, writeAtomically(path, []byte(s.analyst+"\n"))
}

func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
