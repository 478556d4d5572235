package arch

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// survivedAt is the table of faults, each with the tests that do it.
const survivedAt = "docs/explanation/what-we-survived.md"

// Rows of the table; faultTest says which row a test is of.
const faultRows = 32

var (
	faultRow  = regexp.MustCompile(`^\| ([0-9]+) \|`)
	faultTest = regexp.MustCompile(`(?m)^func (TestF([0-9]{2})\w*)\(`)
)

// notYet stands in place of tests.
const notYet = "not yet"

// CheckFaults compares the table of faults with the tree: every row is there once, every test it names
// exists, and every test of a row is named there.
func CheckFaults(root fs.FS) ([]Finding, error) {
	text, err := fs.ReadFile(root, survivedAt)
	if err != nil {
		return nil, fmt.Errorf("read the table of faults: %w", err)
	}
	c := &checker{}
	named := map[string]string{} // cells with tests, by row
	for i, line := range strings.Split(string(text), "\n") {
		m := faultRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		cells := strings.Split(line, "|")
		if _, twice := named[m[1]]; twice || len(cells) != 7 {
			c.add(survivedAt, i+1, "fault", "row %s is there twice, or has not five cells", m[1])
			continue
		}
		named[m[1]] = cells[4]
		c.faultTests(root, i+1, m[1], strings.TrimSpace(cells[4]))
	}
	for n := range faultRows {
		if _, there := named[strconv.Itoa(n+1)]; !there {
			c.add(survivedAt, 0, "fault", "row %d is missing", n+1)
		}
	}
	return c.findings, c.unnamed(root, named)
}

// faultTests checks the cell of one row: `folder` TestA, TestB · `folder` TestC.
func (c *checker) faultTests(root fs.FS, line int, row, cell string) {
	if strings.HasPrefix(cell, notYet) {
		return
	}
	everyday := false
	for entry := range strings.SplitSeq(cell, " · ") {
		folder := span.FindStringSubmatch(entry)
		names := testName.FindAllStringSubmatch(entry, -1)
		if folder == nil || len(names) == 0 {
			c.add(survivedAt, line, "fault", "row %s: %q is not a folder and a test, nor %q", row, entry, notYet)
			everyday = true
			continue
		}
		for _, m := range names {
			everyday = everyday || m[2] == ""
			if wrong := namesTest(root, folder[1], m[1], m[2]); wrong != "" {
				c.add(survivedAt, line, "fault", "row %s names %s", row, wrong)
			}
		}
	}
	if !everyday {
		c.add(survivedAt, line, "fault", "row %s is not tested by make test: all of its tests need a build tag", row)
	}
}

// unnamed finds tests of a row that the row does not name.
func (c *checker) unnamed(root fs.FS, named map[string]string) error {
	files, err := fs.Glob(root, "test/*/*_test.go")
	if err != nil {
		return fmt.Errorf("list the tests: %w", err)
	}
	for _, file := range files {
		content, err := fs.ReadFile(root, file)
		if err != nil {
			return fmt.Errorf("read a test: %w", err)
		}
		for _, m := range faultTest.FindAllStringSubmatch(string(content), -1) {
			row := strings.TrimLeft(m[2], "0")
			if !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(named[row]) {
				c.add(survivedAt, 0, "fault", "row %s does not name `%s` %s", row, path.Dir(file), m[1])
			}
		}
	}
	return nil
}
