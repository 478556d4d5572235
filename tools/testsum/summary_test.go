package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestTotals runs real `go test -json` over small modules: whatever breaks, it is counted, shown and
// reflected in the result.
func TestTotals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		code string
		last string
		says []string
		not  []string
	}{
		"passing, with subtests": {
			code: `func TestA(t *testing.T) { t.Log("quiet"); t.Run("x", func(*testing.T) {}); t.Run("y", func(*testing.T) {}) }
			       func TestB(*testing.T) {}`,
			last: "3 passed, 0 failed",
			not:  []string{"quiet"},
		},
		"passing, with something to show": {
			code: `func TestA(t *testing.T) { println2("F02 PASS lost=0"); println2("F02 or so") }
			       func println2(s string) { os.Stdout.WriteString(s + "\n") }`,
			last: "1 passed, 0 failed",
			says: []string{"F02 PASS lost=0"},
			not:  []string{"F02 or so"},
		},
		"failing subtest counts once and is shown": {
			code: `func TestA(t *testing.T) { t.Run("x", func(t *testing.T) { t.Error("the reason") }); t.Run("y", func(*testing.T) {}) }`,
			last: "1 passed, 1 failed",
			says: []string{"the reason", "TestA/x"},
		},
		"panic": {
			code: `func TestA(*testing.T) {}
			       func TestB(*testing.T) { panic("out of luck") }`,
			last: "1 passed, 1 failed",
			says: []string{"out of luck"},
		},
		"does not compile": {
			code: `func TestA(*testing.T) { undefined() }`,
			last: "0 passed, 1 failed",
			says: []string{"undefined: undefined"},
		},
		"exit before the tests": {
			code: `func TestMain(*testing.M) { println("no server"); os.Exit(3) }`,
			last: "0 passed, 1 failed",
			says: []string{"no server"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, tt.code)
			var out bytes.Buffer
			ok, err := run(t.Context(), []string{"--", "go", "test", "-C", dir, "-json", "-count=1", "."}, &out)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.HasSuffix(tt.last, " 0 failed"); ok != want {
				t.Errorf("ok = %v, want %v", ok, want)
			}
			wantOutput(t, out.String(), tt.last, tt.says, tt.not)
		})
	}
}

func wantOutput(t *testing.T, out, last string, says, not []string) {
	t.Helper()
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if got := lines[len(lines)-1]; got != last {
		t.Errorf("last line %q, want %q", got, last)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("output lacks %q", s)
		}
	}
	for _, s := range not {
		if strings.Contains(out, s) {
			t.Errorf("output has %q", s)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// TestChecksAndTally: a shell check counts as a test, a command that cannot start is a failure, and
// the tally file gets both numbers.
func TestChecksAndTally(t *testing.T) {
	t.Parallel()
	tally := filepath.Join(t.TempDir(), "tally")
	var out bytes.Buffer
	ok, err := run(t.Context(), []string{"-tally", tally, "-check", "good=true", "-check", "bad=echo no good; false", "--", "no-such-program"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		t.Error("ok = true with a failing check")
	}
	wantOutput(t, out.String(), "1 passed, 2 failed", []string{"no good", "no-such-program"}, nil)
	recorded, err := os.ReadFile(tally)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(recorded); got != "1 2\n" {
		t.Errorf("tally %q, want %q", got, "1 2\n")
	}
}

// module writes a module of one test file.
func module(t *testing.T, code string) string {
	t.Helper()
	dir := t.TempDir()
	imports := `import "testing"`
	if strings.Contains(code, "os.") {
		imports = "import (\"os\"; \"testing\")"
	}
	for name, text := range map[string]string{
		"go.mod":    "module example.org/m\n\ngo 1.26\n",
		"m_test.go": fmt.Sprintf("package m\n\n%s\n\n%s\n", imports, code),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal("these tests need the go command on PATH: ", err)
	}
	return dir
}

// TestCallersSettingsStayOut: a token that the README had somebody export made tests of the tool fail.
func TestCallersSettingsStayOut(t *testing.T) {
	t.Parallel()
	all := []string{"PATH=/bin", "COUNTINGHOUSE_TOKEN=chk_x", "COUNTINGHOUSE_INGEST__LISTEN=:1", "COUNTINGHOUSE_DATA=../data"}
	if got, want := environment(all), []string{"PATH=/bin", "COUNTINGHOUSE_DATA=../data"}; !slices.Equal(got, want) {
		t.Errorf("environment = %q, want %q", got, want)
	}
}
