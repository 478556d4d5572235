package rig

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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
	if len(bugs) == 0 {
		return program, buildOnce(ctx, root, program)
	}
	overlay, err := plant(root, dir, bugs)
	if err != nil {
		return "", err
	}
	return program, compile(ctx, root, program, "-overlay", overlay)
}

// buildOnce builds into the user's cache, where several packages of tests, and later runs, find a program
// that is up to date, and copies it to where it was asked for.
func buildOnce(ctx context.Context, root, program string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return compile(ctx, root, program)
	}
	sum := sha256.Sum256([]byte(root))
	kept := filepath.Join(cache, "countinghouse", "test", hex.EncodeToString(sum[:8]), "countinghouse")
	if err := os.MkdirAll(filepath.Dir(kept), 0o750); err != nil {
		return err
	}
	lock, err := os.OpenFile(kept+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if err := compile(ctx, root, kept); err != nil {
		return err
	}
	text, err := os.ReadFile(kept)
	if err != nil {
		return err
	}
	return os.WriteFile(program, text, 0o700)
}

// compile runs the compiler; a program that is up to date is left as it is. It is run a second time when it fails: an
// entry of the build cache, which every go command of the user has, may be trimmed between being found and being read.
func compile(ctx context.Context, root, program string, more ...string) error {
	if build(ctx, root, program, more...) == nil {
		return nil
	}
	return build(ctx, root, program, more...)
}

func build(ctx context.Context, root, program string, more ...string) error {
	args := append([]string{"build", "-tags", "faultpoint", "-o", program}, more...)
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/countinghouse")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // linked in a third of the time
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
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
