// Command reference writes docs/reference from the code.
//
// Guarantee: every page is a pure function of the program and its schema files, so a test can compare
// the page in the tree with the page as it should be, and a change of a flag, metric, code or column
// that is not in the docs breaks the build.
//
//	go run ./tools/reference -write     rewrites the pages (make generate)
//	go run ./tools/reference            names the stale ones and exits 1
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	write := flag.Bool("write", false, "rewrite the pages instead of comparing them")
	dir := flag.String("dir", filepath.Join("docs", "reference"), "where the pages are")
	flag.Parse()
	if err := run(*dir, *write, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

// page is one file of the reference.
type page struct {
	name  string
	title string
	intro string
	body  func(w *strings.Builder) error
}

// run compares or writes every page, and removes pages that are no longer made.
func run(dir string, write bool, out io.Writer) error {
	var stale []string
	made := []string{"README.md"}
	index := &strings.Builder{}
	heading(index, "Reference", "Made from the code by `make generate`; a test fails when a page is stale.")
	all := pages()
	for _, p := range all {
		text := &strings.Builder{}
		heading(text, p.title, p.intro)
		if err := p.body(text); err != nil {
			return fmt.Errorf("page %s: %w", p.name, err)
		}
		changed, err := place(filepath.Join(dir, p.name), text.String(), write)
		if err != nil {
			return err
		}
		if changed {
			stale = append(stale, p.name)
		}
		made = append(made, p.name)
		fmt.Fprintf(index, "* [%s](%s)\n", p.title, p.name)
	}
	changed, err := place(filepath.Join(dir, "README.md"), index.String(), write)
	if err != nil {
		return err
	}
	if changed {
		stale = append(stale, "README.md")
	}
	left, err := leftover(dir, made, write)
	if err != nil {
		return err
	}
	stale = append(stale, left...)
	if len(stale) > 0 && !write {
		return fmt.Errorf("stale: %s; run make generate", strings.Join(stale, ", "))
	}
	for _, name := range stale {
		fmt.Fprintln(out, "wrote", filepath.Join(dir, name))
	}
	return nil
}

func heading(w *strings.Builder, title, intro string) {
	fmt.Fprintf(w, "<!-- Made by tools/reference; do not edit. -->\n# %s\n\n%s\n\n", title, intro)
}

// place reports whether the file differs from text, and writes it if asked to.
func place(path, text string, write bool) (changed bool, err error) {
	have, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read page: %w", err)
	}
	if string(have) == text {
		return false, nil
	}
	if !write {
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return true, fmt.Errorf("make folder: %w", err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return true, fmt.Errorf("write page: %w", err)
	}
	return true, nil
}

// leftover finds, and removes if asked to, pages nobody makes any more.
func leftover(dir string, made []string, write bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	var left []string
	for _, e := range entries {
		if slices.Contains(made, e.Name()) {
			continue
		}
		left = append(left, e.Name())
		if write {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return nil, fmt.Errorf("remove page: %w", err)
			}
		}
	}
	return left, nil
}

// row writes one line of a table; a vertical bar or a line end would break it.
func row(w *strings.Builder, cells ...string) {
	for i, c := range cells {
		c = strings.ReplaceAll(strings.Join(strings.Fields(c), " "), "|", `\|`)
		if i > 0 {
			w.WriteString(" ")
		}
		fmt.Fprintf(w, "| %s", c)
	}
	w.WriteString(" |\n")
}

// header writes the head of a table.
func header(w *strings.Builder, cells ...string) {
	row(w, cells...)
	w.WriteString(strings.Repeat("| --- ", len(cells)) + "|\n")
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
