// Package arch is the house rules as a program: who may import whom, and what no file may contain.
//
// Guarantee: Check reads the files themselves, in process, so its answer is about the tree as it lies
// there (a test that asks `go list` gets a stale cached "ok"). Every rule has a reason that is printed
// with each finding, and a test that plants the sin and sees it found.
//
// A line may break a rule if it, or the line above it, says why:
//
//	//arch:float Prometheus gauges are float64; no quantity passes here
//
// The word after the colon is the rule's name; the reason is not optional.
package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Module is the path every import of our own starts with.
const Module = "github.com/countinghouse/countinghouse"

// Finding is a broken rule: where, which, and why the rule exists.
type Finding struct {
	File string
	Line int // 0: the file or package as a whole
	Rule string
	Text string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Text)
}

// file is one parsed Go file.
type file struct {
	path   string // slash-separated, from the root of the module
	dir    string
	test   bool
	syntax *ast.File
	set    *token.FileSet
	lines  int
	allow  map[int]string // line → rules allowed there, space-separated
}

// Check reads every file below root and returns what breaks a rule, in order of file and line.
func Check(root fs.FS) ([]Finding, error) {
	c := &checker{}
	if err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return c.directory(name)
		}
		if !entry.Type().IsRegular() || !text(name) {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		return c.file(name, content)
	}); err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	c.packages()
	slices.SortFunc(c.findings, func(a, b Finding) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return a.Line - b.Line
	})
	return c.findings, nil
}

// checker collects files and findings.
type checker struct {
	files    []*file
	findings []Finding
}

// directory leaves out what is not ours: git, results, run directories, fixtures.
func (c *checker) directory(name string) error {
	base := path.Base(name)
	if name != "." && strings.HasPrefix(base, ".") && base != ".ci" {
		return fs.SkipDir
	}
	switch {
	case name == "bin", base == "testdata", base == "node_modules":
		return fs.SkipDir
	case slices.Contains(bannedNames, base) && strings.HasPrefix(name, "internal/"):
		c.add(name, 0, "name", "a package is a noun of the domain; %q says nothing about what is inside", base)
	}
	return nil
}

// text reports whether a file is read at all.
func text(name string) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".sql", ".yml", ".yaml", ".json", ".proto", ".sh", ".toml", ".xml", ".service", ".conf", "":
		return true
	}
	return false
}

func (c *checker) file(name string, content []byte) error {
	c.places(name, content)
	if path.Ext(name) == ".sql" {
		c.sql(name, string(content))
	}
	if path.Ext(name) != ".go" {
		return nil
	}
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, content, parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse %s: %w", name, err)
	}
	f := &file{
		path: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		syntax: syntax, set: set, lines: bytes.Count(content, []byte("\n")),
	}
	f.allow = c.allowances(f)
	c.files = append(c.files, f)
	if !ast.IsGenerated(syntax) {
		c.length(f)
	}
	c.imports(f)
	c.calls(f)
	c.floats(f)
	c.queries(f)
	return nil
}

// packages runs the rules that need all files of a package.
func (c *checker) packages() {
	byDir := map[string][]*file{}
	for _, f := range c.files {
		byDir[f.dir] = append(byDir[f.dir], f)
	}
	for dir, files := range byDir {
		c.comment(dir, files)
		c.globals(files)
	}
}

var allowance = regexp.MustCompile(`^//arch:([a-z]+)\s*(.*)$`)

// allowances finds the lines on which a rule may be broken: the comment's own and the next.
func (c *checker) allowances(f *file) map[int]string {
	allowed := map[int]string{}
	for _, group := range f.syntax.Comments {
		for _, comment := range group.List {
			match := allowance.FindStringSubmatch(comment.Text)
			if match == nil {
				continue
			}
			line := f.set.Position(comment.Pos()).Line
			if match[2] == "" {
				c.add(f.path, line, "allowance", "//arch:%s must say why", match[1])
				continue
			}
			allowed[line] += " " + match[1] + " "
			allowed[line+1] += " " + match[1] + " "
		}
	}
	return allowed
}

// report adds a finding unless its line is allowed to break the rule.
func (c *checker) report(f *file, pos token.Pos, rule, format string, args ...any) {
	line := f.set.Position(pos).Line
	if strings.Contains(f.allow[line], " "+rule+" ") {
		return
	}
	c.add(f.path, line, rule, format, args...)
}

func (c *checker) add(name string, line int, rule, format string, args ...any) {
	c.findings = append(c.findings, Finding{File: name, Line: line, Rule: rule, Text: fmt.Sprintf(format, args...)})
}
