package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// State is how far a file is acknowledged. It only saves time: ids are deterministic, so an import that
// has lost its state sends everything again and the log counts it once.
type State struct {
	File     string `json:"file"`   // absolute path
	Target   string `json:"target"` // where it went: ingest URL and tenant
	Mapping  string `json:"mapping"`
	Content  string `json:"content"` // size and hash of the first bytes: another file under the old name starts anew
	Line     int    `json:"line"`    // every line up to here is acknowledged or rejected
	Accepted int    `json:"accepted"`
	Rejected int    `json:"rejected"`
	Done     bool   `json:"done"`

	path string
}

const headBytes = 64 << 10

// OpenState finds the state of importing file with a mapping to a target, in dir. A state that does not
// fit the file any more is empty.
func OpenState(dir, file, mapping, target string) (*State, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("import state: %w", err)
	}
	content, err := contentMark(abs)
	if err != nil {
		return nil, fmt.Errorf("import state: %w", err)
	}
	fresh := &State{File: abs, Target: target, Mapping: digest([]byte(mapping)), Content: content}
	fresh.path = filepath.Join(dir, digest([]byte(abs + "\x00" + target + "\x00" + fresh.Mapping))[:24]+".json")
	text, err := os.ReadFile(fresh.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	}
	if err != nil {
		return nil, fmt.Errorf("import state: %w", err)
	}
	old := &State{}
	if err := json.Unmarshal(text, old); err != nil || old.Content != content || old.Target != target || old.Mapping != fresh.Mapping {
		return fresh, nil //nolint:nilerr // a damaged or foreign state costs time, not correctness
	}
	old.path = fresh.path
	return old, nil
}

// Save writes the state, atomically.
func (s *State) Save() error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("import state: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("import state: %w", err)
	}
	tmp := s.path + ".tmp"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("import state: %w", err)
	}
	if err := os.Rename(tmp, s.path); err != nil {
		return fmt.Errorf("import state: %w", err)
	}
	return nil
}

func contentMark(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // read only
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	head, err := io.ReadAll(io.LimitReader(f, headBytes))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%s", st.Size(), digest(head)), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
