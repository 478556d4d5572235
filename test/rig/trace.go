package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// traced is a part started under strace. With --seccomp-bpf only the calls that are asked for stop the
// process, so that it runs at nearly its own speed.
func traced(part localstack.Part, options []string) (localstack.Part, error) {
	exe := part.Exe
	if exe == "" {
		var err error
		if exe, err = os.Executable(); err != nil {
			return part, err
		}
	}
	args := append([]string{"--follow-forks", "--seccomp-bpf", "--quiet=all", "--output=" + os.DevNull}, options...)
	part.Args = append(append(args, exe), part.Args...)
	part.Exe = "strace"
	return part, nil
}

// Inject are the options that kill a traced process at the n-th of some system calls that one of its
// threads makes: strace counts for each thread, and the engine spreads its work over dozens. The kill comes as the call begins: what it would have done is not done.
func Inject(calls string, n int) []string {
	return []string{"--trace=" + calls, fmt.Sprintf("--inject=%s:signal=KILL:when=%d", calls, n)}
}

// CanTrace says why strace cannot be used here, if it cannot.
func CanTrace(dir string) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("strace is needed to kill ClickHouse inside a system call: apt-get install strace, or make deps: %w", err)
	}
	name := filepath.Join(dir, "traced")
	out, err := exec.Command("strace", append([]string{"--follow-forks", "--seccomp-bpf", "--output=" + name}, "--trace=execve", "true")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("strace cannot trace here; allow ptrace (in a container: --cap-add SYS_PTRACE): %w: %s", err, out)
	}
	return nil
}
