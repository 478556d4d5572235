package arch

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

var (
	invariant = regexp.MustCompile(`^### (I[0-9]+): `)
	span      = regexp.MustCompile("`([^`]+)`")
	testName  = regexp.MustCompile(`\b((?:Test|Fuzz)[A-Z]\w*)(?: \((\w+)\))?`) // the build tag it needs, if any
	buildTag  = regexp.MustCompile(`(?m)^//go:build (\w+)$`)
	link      = regexp.MustCompile(`\]\(([^)#: ]+)(?:#[^)]*)?\)`)
	mentioned = regexp.MustCompile(`\(I[0-9]+(?:, I[0-9]+)*\)`)
	numbered  = regexp.MustCompile(`I[0-9]+`)
)

// numberedAt is where invariants have their numbers.
const numberedAt = "docs/INVARIANTS.md"

// section is one invariant of the document.
type section struct {
	number       string
	line         int
	kept, breaks []string // folders and files; folder and test
}

// CheckDocs compares the documents with the tree: every file and test an invariant names exists, every
// invariant has both, every number the code mentions is there, every relative link leads somewhere.
func CheckDocs(root fs.FS) ([]Finding, error) {
	text, err := fs.ReadFile(root, numberedAt)
	if err != nil {
		return nil, fmt.Errorf("read the invariants: %w", err)
	}
	c := &checker{}
	sections := invariants(string(text))
	known := map[string]bool{}
	for _, s := range sections {
		known[s.number] = true
		c.section(root, s)
	}
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return c.directory(name)
		}
		if ext := path.Ext(name); ext != ".md" && (ext != ".go" || strings.HasPrefix(name, "internal/arch/")) {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		c.mentions(root, name, string(content), known)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return c.findings, nil
}

// invariants takes the document apart.
func invariants(text string) []section {
	var all []section
	for i, line := range strings.Split(text, "\n") {
		if m := invariant.FindStringSubmatch(line); m != nil {
			all = append(all, section{number: m[1], line: i + 1})
			continue
		}
		if len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		if rest, found := strings.CutPrefix(line, "Kept: "); found {
			for _, m := range span.FindAllStringSubmatch(rest, -1) {
				last.kept = append(last.kept, m[1])
			}
		}
		if rest, found := strings.CutPrefix(line, "Breaks: "); found {
			last.breaks = append(last.breaks, strings.Split(rest, " · ")...)
		}
	}
	return all
}

func (c *checker) section(root fs.FS, s section) {
	if len(s.kept) == 0 {
		c.add(numberedAt, s.line, "invariant", "%s does not say where it is kept", s.number)
	}
	if len(s.breaks) == 0 {
		c.add(numberedAt, s.line, "invariant", "%s names no test that breaks", s.number)
	}
	everyday := len(s.breaks) == 0
	for _, name := range s.kept {
		if _, err := fs.Stat(root, name); err != nil {
			c.add(numberedAt, s.line, "invariant", "%s is kept in %s, which does not exist", s.number, name)
		}
	}
	for _, entry := range s.breaks {
		folder := span.FindStringSubmatch(entry)
		names := testName.FindAllStringSubmatch(entry, -1)
		if folder == nil || len(names) == 0 {
			c.add(numberedAt, s.line, "invariant", "%s: %q is not a folder and a test", s.number, entry)
			continue
		}
		for _, m := range names {
			everyday = everyday || m[2] == ""
			if wrong := namesTest(root, folder[1], m[1], m[2]); wrong != "" {
				c.add(numberedAt, s.line, "invariant", "%s breaks %s", s.number, wrong)
			}
		}
	}
	if !everyday {
		c.add(numberedAt, s.line, "invariant", "%s is not tested by make test: all of its tests need a build tag", s.number)
	}
}

// namesTest says what is wrong where a document names a test of a folder, and the build tag that it needs: without a tag
// make test runs it, and a reader relies on that.
func namesTest(root fs.FS, folder, name, tag string) (wrong string) {
	files, err := fs.Glob(root, folder+"/*_test.go")
	if err != nil {
		return err.Error()
	}
	for _, file := range files {
		content, err := fs.ReadFile(root, file)
		if err != nil || !strings.Contains(string(content), "\nfunc "+name+"(") {
			continue
		}
		needs := ""
		if m := buildTag.FindSubmatch(content); m != nil {
			needs = string(m[1])
		}
		switch {
		case needs == tag:
			return ""
		case needs == "":
			return fmt.Sprintf("%s %s (%s), which needs no build tag", folder, name, tag)
		}
		return fmt.Sprintf("%s %s, which needs a build tag: write (%s) behind it", folder, name, needs)
	}
	return folder + " " + name + ", which does not exist"
}

// mentions checks the numbers and links of one file.
func (c *checker) mentions(root fs.FS, name, content string, known map[string]bool) {
	for i, line := range strings.Split(content, "\n") {
		for _, group := range mentioned.FindAllString(line, -1) {
			for _, number := range numbered.FindAllString(group, -1) {
				if !known[number] {
					c.add(name, i+1, "invariant", "%s is not in %s", number, numberedAt)
				}
			}
		}
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if _, err := fs.Stat(root, path.Join(path.Dir(name), m[1])); err != nil {
				c.add(name, i+1, "link", "%s leads nowhere", m[1])
			}
		}
	}
}
