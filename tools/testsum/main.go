// Command testsum runs `go test -json` commands and other checks, and says plainly how it went.
//
// Guarantee: the exit code is 0 only if every command exited 0 and no test failed; a failing test's
// output is printed in full, a passing one's never; the last line is exactly "N passed, N failed".
// A test with subtests is not counted beside them, so a number is a number of things checked. A
// package that fails without a failing test (it does not compile, it panics, it runs out of time)
// and a command that fails without saying why each count as one failure.
//
//	testsum [-tally FILE] [-check NAME=COMMAND]… -- go test -json ./a/… [-- go test -json ./b/…]…
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(64)
	case !ok:
		os.Exit(1)
	}
}

// run executes the checks, then the test commands, one after another, and prints the summary.
func run(ctx context.Context, args []string, out io.Writer) (bool, error) {
	flags := flag.NewFlagSet("testsum", flag.ContinueOnError)
	tally := flags.String("tally", "", "append `passed failed` to this file")
	var checks []check
	flags.Func("check", "NAME=COMMAND: a shell command that counts as one test; may be repeated", func(s string) error {
		name, command, found := strings.Cut(s, "=")
		if !found {
			return fmt.Errorf("%q is not NAME=COMMAND", s)
		}
		checks = append(checks, check{name: name, command: command})
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	sum := newSummary(out, time.Now)
	for _, c := range checks {
		c.run(ctx, sum)
	}
	for _, command := range split(flags.Args()) {
		runTests(ctx, command, sum)
	}
	passed, failed := sum.finish()
	if *tally != "" {
		if err := record(*tally, passed, failed); err != nil {
			return false, err
		}
	}
	return failed == 0, nil
}

// split cuts the arguments at every "--".
func split(args []string) [][]string {
	var commands [][]string
	var current []string
	for _, arg := range append(args, "--") {
		switch {
		case arg != "--":
			current = append(current, arg)
		case len(current) > 0:
			commands = append(commands, current)
			current = nil
		}
	}
	return commands
}

// environment leaves out what the caller's shell tells the product: whoever has followed the README has a
// token and an address there, which are those of another stack than the tests'.
func environment(all []string) []string {
	forTests := []string{"COUNTINGHOUSE_DATA=", "COUNTINGHOUSE_BIN=", "COUNTINGHOUSE_ENGINE_CACHE=", "COUNTINGHOUSE_SOAK_MINUTES="}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		return strings.HasPrefix(v, "COUNTINGHOUSE_") && !slices.ContainsFunc(forTests, func(name string) bool { return strings.HasPrefix(v, name) })
	})
}

// check is a command that counts as one test.
type check struct{ name, command string }

func (c check) run(ctx context.Context, sum *summary) {
	start := time.Now()
	cmd := exec.CommandContext(ctx, "bash", "-c", c.command)
	cmd.Env = environment(os.Environ())
	output, err := cmd.CombinedOutput()
	sum.check(c.name, err == nil, time.Since(start), string(output))
}

// runTests feeds one command's test2json stream to the summary.
func runTests(ctx context.Context, command []string, sum *summary) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = environment(os.Environ())
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		sum.check(strings.Join(command, " "), false, 0, err.Error())
		return
	}
	before := sum.failures()
	lines := bufio.NewReaderSize(stdout, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			sum.line(line)
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil && sum.failures() == before {
		sum.check(strings.Join(command, " "), false, 0, err.Error())
	}
}

func record(path string, passed, failed int) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("record the tally: %w", err)
	}
	_, err = fmt.Fprintln(f, passed, failed)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
