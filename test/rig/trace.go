package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/countinghouse/countinghouse/internal/localstack"
)

// traced is a part started under strace. Every system call stops the process, so it is slower than in
// another life; with --seccomp-bpf it would not be, but strace 6.1 then injects nothing.
func traced(part localstack.Part, options []string, output string) (localstack.Part, error) {
	exe, err := executable(part)
	if err != nil {
		return part, err
	}
	args := append([]string{"--follow-forks", "--quiet=all", "--output=" + output}, options...)
	part.Args = append(append(args, exe), part.Args...)
	part.Exe = "strace"
	return part, nil
}

// watched is a part under a strace that is not its parent: signals reach the part itself.
func watched(part localstack.Part, options []string, output string) (localstack.Part, error) {
	return traced(part, append([]string{"-D"}, options...), output)
}

func executable(part localstack.Part) (string, error) {
	if part.Exe == "" {
		return os.Executable()
	}
	return part.Exe, nil
}

// Inject are the options that kill a traced process at the n-th of some system calls that one of its
// threads makes: strace counts for each thread, and the engine spreads its work over dozens. The kill comes as the call begins: what it would have done is not done.
func Inject(calls string, n int) []string {
	return []string{"--trace=" + calls, fmt.Sprintf("--inject=%s:signal=KILL:when=%d", calls, n)}
}

// victim finds the call that was begun and never ended: strace shows its result as a question mark.
func victim(output string) string {
	text, err := os.ReadFile(output)
	if err != nil {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	for _, line := range slices.Backward(lines) {
		call, unfinished := strings.CutSuffix(strings.TrimSpace(line), "= ?")
		if !unfinished {
			continue
		}
		thread, _, _ := strings.Cut(call, " ")
		if strings.Contains(call, "resumed>") { // its arguments are on an earlier line
			for _, begun := range slices.Backward(lines) {
				if strings.HasPrefix(begun, thread+" ") && strings.Contains(begun, "<unfinished") {
					return begun
				}
			}
		}
		return call
	}
	return ""
}

// CanTrace says why strace cannot be used here, if it cannot.
func CanTrace(dir string) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("strace is needed to kill ClickHouse inside a system call: apt-get install strace, or make deps: %w", err)
	}
	name := filepath.Join(dir, "traced")
	out, err := exec.Command("strace", append([]string{"--follow-forks", "--output=" + name}, "--trace=execve", "true")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("strace cannot trace here; allow ptrace (in a container: --cap-add SYS_PTRACE): %w: %s", err, out)
	}
	return nil
}
