package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is one line of test2json (`go doc test2json`), and of build failures since Go 1.24.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// test is one test or package that has started. Its output is kept until it has passed.
type test struct {
	output   []string
	children int // subtests seen
	failed   int // subtests that failed
}

// timing is a finished package or test, for the list of the slowest.
type timing struct {
	name    string
	elapsed time.Duration
}

// slowest is how many of the slowest tests the summary lists.
const slowest = 8

// summary consumes events and keeps what the last lines need.
type summary struct {
	out      io.Writer
	now      func() time.Time
	start    time.Time
	tests    map[string]*test    // by package + " " + test; the package itself under its name alone
	builds   map[string][]string // compiler output by import path
	timings  []timing
	broken   []string
	passed   int
	packages int
}

func newSummary(out io.Writer, now func() time.Time) *summary {
	return &summary{out: out, now: now, start: now(), tests: map[string]*test{}, builds: map[string][]string{}}
}

func (s *summary) failures() int { return len(s.broken) }

// check records a command that is not a Go test.
func (s *summary) check(name string, ok bool, elapsed time.Duration, output string) {
	if ok {
		s.passed++
		s.printf("ok    %-56s %7.1fs\n", name, elapsed.Seconds())
		return
	}
	s.broken = append(s.broken, name)
	s.printf("FAIL  %-56s %7.1fs\n%s\n", name, elapsed.Seconds(), strings.TrimRight(output, "\n"))
}

// line takes one line of the stream; what is not JSON is passed on as it stands.
func (s *summary) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil || e.Action == "" {
		s.printf("%s", line)
		return
	}
	switch e.Action {
	case "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case "run":
		s.started(e)
	case "output":
		if strings.HasPrefix(e.Output, "=== ") { // run, pause, cont: noise once the test is named
			return
		}
		t := s.test(e.Package, e.Test)
		t.output = append(t.output, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageDone(e)
			return
		}
		s.testDone(e)
	}
}

func (s *summary) test(pkg, name string) *test {
	key := key(pkg, name)
	if s.tests[key] == nil {
		s.tests[key] = &test{}
	}
	return s.tests[key]
}

func key(pkg, name string) string { return strings.TrimSpace(pkg + " " + name) }

// parent is the test a subtest belongs to; "" for a test of its own.
func parent(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

func (s *summary) started(e event) {
	s.test(e.Package, e.Test)
	if up := parent(e.Test); up != "" {
		s.test(e.Package, up).children++
	}
}

func (s *summary) testDone(e event) {
	t := s.test(e.Package, e.Test)
	elapsed := time.Duration(e.Elapsed * float64(time.Second))
	name := key(short(e.Package), e.Test)
	if parent(e.Test) == "" {
		s.timings = append(s.timings, timing{name, elapsed})
	}
	if e.Action == "fail" {
		if up := parent(e.Test); up != "" {
			s.test(e.Package, up).failed++
		}
		s.test(e.Package, "").failed++
		if t.failed == 0 {
			s.broken = append(s.broken, name)
		}
		s.printf("FAIL  %s\n%s", name, strings.Join(t.output, ""))
	} else if e.Action == "pass" {
		s.proofs(t)
		if t.children == 0 {
			s.passed++
		}
	}
	delete(s.tests, key(e.Package, e.Test))
}

// proofs prints what a passing test has to show: lines such as `F02 PASS kills=4 lost=0`, of the tests
// that kill and count.
func (s *summary) proofs(t *test) {
	for _, line := range t.output {
		if proof.MatchString(line) {
			s.printf("      %s", line)
		}
	}
}

var proof = regexp.MustCompile(`^[A-Z]+[0-9]*[a-z]? (PASS|SEEN) `)

// packageDone prints a package's line. A package that fails though none of its tests did (build,
// panic, time-out, TestMain) is a failure of its own, shown with everything it said, and so are the
// tests that were cut off with it.
func (s *summary) packageDone(e event) {
	t := s.test(e.Package, "")
	s.packages++
	name, mark := short(e.Package), "ok   "
	if e.Action == "fail" {
		mark = "FAIL "
		if t.failed == 0 {
			s.broken = append(s.broken, name)
			s.printf("%s%s", strings.Join(s.builds[e.FailedBuild], ""), strings.Join(t.output, ""))
			s.cutOff(e.Package)
		}
	}
	note := ""
	for _, line := range t.output {
		if strings.Contains(line, "(cached)") {
			note = "  cached"
		} else if strings.Contains(line, "[no test files]") {
			note = "  no tests"
		}
	}
	if note != "  no tests" {
		s.printf("%s %-56s %7.1fs%s\n", mark, name, e.Elapsed, note)
	}
	delete(s.tests, e.Package)
}

// cutOff prints what the tests of a package had said that were still running when it ended.
func (s *summary) cutOff(pkg string) {
	for key, t := range s.tests {
		if strings.HasPrefix(key, pkg+" ") {
			s.printf("cut off: %s\n%s", key, strings.Join(t.output, ""))
			delete(s.tests, key)
		}
	}
}

// finish prints the totals; the last line is the one others read.
func (s *summary) finish() (passed, failed int) {
	slices.SortFunc(s.timings, func(a, b timing) int { return int(b.elapsed - a.elapsed) })
	if len(s.timings) > 0 {
		s.printf("\nslowest tests:\n")
		for _, t := range s.timings[:min(slowest, len(s.timings))] {
			s.printf("  %7.1fs  %s\n", t.elapsed.Seconds(), t.name)
		}
	}
	if len(s.broken) > 0 {
		s.printf("\nfailed:\n  %s\n", strings.Join(s.broken, "\n  "))
	}
	s.printf("\n%d packages in %s\n%d passed, %d failed\n",
		s.packages, s.now().Sub(s.start).Round(time.Second), s.passed, len(s.broken))
	return s.passed, len(s.broken)
}

// printf writes to the terminal; a summary nobody can read is no reason to stop.
func (s *summary) printf(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }

// short is an import path without the module's own prefix.
func short(pkg string) string {
	const module = "github.com/countinghouse/countinghouse"
	if rest, found := strings.CutPrefix(pkg, module); found {
		return "." + rest
	}
	return pkg
}
