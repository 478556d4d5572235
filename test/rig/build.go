package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Mutation is a bug to plant: in File, Old becomes New. It is how the tests know that they see.
type Mutation struct {
	File     string // from the module's root
	Old, New string
}

// Build builds cmd/countinghouse into dir with the crash points, and with bugs planted if any are given.
// The tree is not touched: the compiler is shown other files in its place.
func Build(ctx context.Context, dir string, bugs ...Mutation) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "countinghouse")
	args := []string{"build", "-tags", "faultpoint", "-o", program}
	if len(bugs) > 0 {
		overlay, err := plant(root, dir, bugs)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/countinghouse")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // linked in a third of the time
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return program, nil
}

func plant(root, dir string, bugs []Mutation) (string, error) {
	replace := map[string]string{}
	for i, bug := range bugs {
		original := filepath.Join(root, bug.File)
		from := original
		if replace[original] != "" {
			from = replace[original]
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), bug.Old); n != 1 {
			return "", fmt.Errorf("plant a bug: %s has %d places of %q, want 1: write the mutation anew", bug.File, n, bug.Old)
		}
		changed := filepath.Join(dir, fmt.Sprintf("planted%d.go", i))
		if err := os.WriteFile(changed, []byte(strings.Replace(string(text), bug.Old, bug.New, 1)), 0o600); err != nil {
			return "", err
		}
		replace[original] = changed
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// moduleRoot is the folder of go.mod above the working directory, which for a test is its package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no go.mod above the working directory")
}
