// Package readme_test runs what README.md and docs/ tell a newcomer to type.
package readme_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// top is the root of the tree, seen from this folder.
var top = filepath.Join("..", "..")

const (
	readyWait = 5 * time.Minute // building is done by then; the engine may have to be fetched
	stopWait  = 3 * time.Minute // ten seconds are promised of a machine with nothing else to do
	soonWait  = 3 * time.Minute // likewise two
	// A test that asks for this month or the last one must not see a month end.
	monthSpare = 6 * time.Minute
)

// build makes the one binary that `up` needs.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "countinghouse")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./cmd/countinghouse")
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// endpoints is what the blocks of README need of endpoints.json.
type endpoints struct {
	Ingest   string `json:"ingest"`
	Reporter string `json:"reporter"`
}

// up starts the whole stack as `make up` does, on free ports, in home/.countinghouse.
func up(t *testing.T, program, home string) endpoints {
	t.Helper()
	dir := filepath.Join(home, ".countinghouse")
	var log bytes.Buffer
	cmd := exec.Command(program, "up", "--demo", "--ephemeral", "--dir", dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = time.Minute // after its end, for what it has said
	runtime.LockOSThread()      // until the test has ended: a run that is broken off takes its stack along
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("up ended with %v", err)
			}
		case <-time.After(stopWait):
			_ = cmd.Process.Kill()
			t.Errorf("up did not stop within %v of SIGTERM", stopWait)
		}
		if t.Failed() {
			t.Logf("up said:\n%s", log.String())
		}
	})
	file := filepath.Join(dir, "endpoints.json")
	var e endpoints
	eventually(t, readyWait, func() bool {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if err == nil {
			err = json.Unmarshal(content, &e)
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}, "up wrote no "+file)
	return e
}

// eventually asks ten times a second until ok or the deadline.
func eventually(t *testing.T, wait time.Duration, ok func() bool, otherwise string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatal(otherwise)
		case <-tick.C:
		}
	}
}

// notAtMonthsEnd waits for the next month when this one ends in a few minutes.
func notAtMonthsEnd(t *testing.T) {
	t.Helper()
	month := time.Now().UTC().Add(monthSpare).Month()
	eventually(t, 2*monthSpare, func() bool { return time.Now().UTC().Month() == month }, "the month does not end")
}

var runnable = regexp.MustCompile("(?s)\n```sh run\n(.*?\n)```\n")

// TestReadme runs the blocks of README.md that are marked to be run, in order, in one shell session
// after another with the same variables, and sees what README says one sees.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(top, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := runnable.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 3 {
		t.Fatalf("README.md has %d blocks to run; this test knows 3: send, read, audit", len(blocks))
	}
	home := t.TempDir()
	program := build(t)
	notAtMonthsEnd(t)
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, filepath.Join(home, "bin", "countinghouse")); err != nil {
		t.Fatal(err)
	}
	e := up(t, program, home)
	ports := strings.NewReplacer("http://127.0.0.1:8080", e.Ingest, "http://127.0.0.1:8081", e.Reporter)
	key, _, _ := strings.Cut(blocks[0][1], "\n")
	shell := func(block int) string {
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", ports.Replace(key+"\n"+blocks[block][1]))
		cmd.Dir = home
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("block %d: %v\n%s\n%s", block+1, err, blocks[block][1], out)
		}
		return string(out)
	}
	send := func() { // again while it is told to, as a producer does
		out := ""
		eventually(t, soonWait, func() bool {
			out = shell(0)
			return !strings.Contains(out, `"status":503`)
		}, "ingest does not take events")
		if !strings.Contains(out, `"accepted":1`) {
			t.Fatalf("sending said %s", out)
		}
	}
	const counted = ",12.5,1,12.5,1,"
	send()
	eventually(t, soonWait, func() bool {
		out := shell(1)
		return strings.Contains(out, counted) && strings.Contains(out, `"status":"stored"`)
	}, "the event did not show up in its month")
	send() // the same again
	eventually(t, soonWait, func() bool { return strings.Contains(shell(1), `"result":"duplicate"`) }, "nobody saw the duplicate")
	if out := shell(1); !strings.Contains(out, counted) {
		t.Errorf("the duplicate was counted: %s", out)
	}
	t.Logf("audit said:\n%s", shell(2))
}

var (
	fence    = regexp.MustCompile("(?s)```.*?```")
	inline   = regexp.MustCompile("`[^`\n]+`")
	typed    = regexp.MustCompile(`(?:^|[\s/` + "`" + `])countinghouse((?: [a-z][a-z-]+)+)`)
	makeLine = regexp.MustCompile(`(?:^\s*|&& |` + "`" + `)make ([a-z][a-z-]*)`)
	target   = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
)

// TestDocumentedCommandsExist: every `countinghouse …` and `make …` that stands as code in a document
// is a command and a target.
func TestDocumentedCommandsExist(t *testing.T) {
	t.Parallel()
	program := build(t)
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range target.FindAllStringSubmatch(string(makefile), -1) {
		targets = append(targets, m[1])
	}
	commands := map[string]string{}
	for _, name := range documents(t) {
		for _, code := range codeOf(t, name) {
			for _, m := range makeLine.FindAllStringSubmatch(code, -1) {
				if !slices.Contains(targets, m[1]) {
					t.Errorf("%s: make %s is no target", name, m[1])
				}
			}
			for _, m := range typed.FindAllStringSubmatch(code, -1) {
				commands[strings.TrimSpace(m[1])] = name
			}
		}
	}
	if len(commands) < 5 {
		t.Fatalf("found only %v", commands)
	}
	for command, name := range commands {
		words := append(strings.Fields(command), "--help")
		out, err := exec.CommandContext(t.Context(), program, words...).CombinedOutput()
		if err != nil || !isUsage(command, string(out)) {
			t.Errorf("%s: countinghouse %s --help: %v\n%s", name, command, err, out)
		}
	}
}

var usageLine = regexp.MustCompile(`(?m)^Usage:\n  countinghouse((?: [a-z][a-z-]*)*)( [A-Z]| \[[A-Z]| \[[a-z]+\|)?`)

// isUsage reports whether a help is that of the command: a parent prints its own for a child it does not have. Words
// beyond the command's name are its arguments, if it has any.
func isUsage(command, help string) bool {
	m := usageLine.FindStringSubmatch(help)
	if m == nil {
		return false
	}
	name := strings.TrimSpace(m[1])
	return command == name || m[2] != "" && strings.HasPrefix(command, name+" ")
}

// documents are the Markdown files a person reads, without those made from the code.
func documents(t *testing.T) []string {
	t.Helper()
	found := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(top, "docs"), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" && filepath.Base(filepath.Dir(path)) != "reference" {
			relative, _ := filepath.Rel(top, path)
			found = append(found, relative)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// codeOf is what stands as code in a document.
func codeOf(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	var code []string
	for _, block := range fence.FindAllString(string(text), -1) {
		code = append(code, strings.Split(block, "\n")...)
	}
	return append(code, inline.FindAllString(fence.ReplaceAllString(string(text), ""), -1)...)
}
