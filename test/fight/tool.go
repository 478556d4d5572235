package fight

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"slices"
	"time"
)

// toolWait bounds a command that makes tables of what a test has counted, on a machine with other work.
const toolWait = 15 * time.Minute

// Tool runs a command of the tool that has a lease, and decodes what it says into answer; env arms a crash point, the
// code is -1 where it was killed. One that does not end fails the test.
func (f *Fight) Tool(name string, env []string, answer any, args ...string) (code int, stderr string) {
	f.T.Helper()
	ctx, cancel := context.WithTimeout(f.T.Context(), toolWait)
	defer cancel()
	code, stderr = f.Said(f.Command(ctx, name, env, args...), answer)
	if ctx.Err() != nil {
		f.T.Fatalf("%s does not end\n%s", name, stderr)
	}
	return code, stderr
}

// Command is a command of the tool that has a lease.
func (f *Fight) Command(ctx context.Context, name string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, Program(), slices.Concat([]string{name, "-o", "json", "--lease-ttl", "2s"}, f.Rig.ToolFlags(), args)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// Said runs a command and decodes what it says into answer; the code is -1 where it was killed.
func (f *Fight) Said(cmd *exec.Cmd, answer any) (code int, stderr string) {
	f.T.Helper()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.T.Fatalf("%s: %v", cmd.Args[1], err)
	}
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), answer); err != nil {
			f.T.Fatalf("%s says no JSON: %v\n%s", cmd.Args[1], err, out.String())
		}
	}
	return cmd.ProcessState.ExitCode(), log.String()
}
