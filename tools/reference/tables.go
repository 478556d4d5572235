package main

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/countinghouse/countinghouse/schema"
)

var (
	createTable  = regexp.MustCompile(`(?i)^CREATE (?:OR REPLACE )?(TABLE|VIEW)(?: IF NOT EXISTS)?\s+(?:\{\{db\}\}\.|\{\{api\}\}\.)?(\w+)`)
	columnOfView = regexp.MustCompile(`(?i)\bAS\s+(\w+)\s*,?$`)
)

// tables lists what the migrations create, with the comments that stand above and beside it. A file
// is the contract itself; this page only makes it readable, so it takes the text as it finds it.
func tables(w *strings.Builder) error {
	files, err := fs.Glob(schema.ClickHouse, "clickhouse/*.sql")
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := schema.ClickHouse.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "From `schema/clickhouse/%s`:\n\n", path.Base(name))
		describeFile(w, string(text))
	}
	return nil
}

// describeFile walks the lines: comments collect until a CREATE uses them, then column lines follow
// until the statement's body ends.
func describeFile(w *strings.Builder, text string) {
	var above []string
	kind, first := "", false
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if m := createTable.FindStringSubmatch(trimmed); m != nil {
			kind, first = strings.ToLower(m[1]), true
			fmt.Fprintf(w, "### %s `%s`\n\n%s\n\n", kind, m[2], strings.Join(above, "\n"))
			above = nil
			continue
		}
		switch {
		case strings.HasPrefix(trimmed, "--") && kind == "":
			above = append(above, strings.TrimSpace(strings.TrimPrefix(trimmed, "--")))
		case trimmed == "" && kind == "":
			above = nil
		case kind == "table" && strings.HasPrefix(line, ")"):
			fmt.Fprintf(w, "\n%s", code(strings.TrimSpace(strings.TrimPrefix(trimmed, ")"))))
			kind = "settings"
		case kind == "settings":
			comment(w, trimmed)
		case kind == "table":
			first = column(w, trimmed, first)
		case kind == "view":
			first = viewColumn(w, trimmed, first)
		}
		if strings.HasSuffix(strip(trimmed), ";") {
			if kind != "" {
				w.WriteString("\n\n")
			}
			kind = ""
		}
	}
}

// comment writes a line after the columns: the engine, partition and order of a table.
func comment(w *strings.Builder, line string) {
	if clause := strings.TrimSuffix(strip(line), ";"); clause != "" {
		fmt.Fprintf(w, " %s", code(clause))
	}
}

// strip takes the comment off a line.
func strip(line string) string {
	body, _, _ := strings.Cut(line, "--")
	return strings.TrimSpace(body)
}

// simple is a column: a lower-case name, then a type that starts with a capital.
var simple = regexp.MustCompile(`^([a-z]\w*)\s+([A-Z].*)$`)

func column(w *strings.Builder, line string, first bool) bool {
	body, note, _ := strings.Cut(line, "--")
	m := simple.FindStringSubmatch(strings.TrimSuffix(strings.TrimSpace(body), ","))
	if m == nil {
		return first
	}
	if first {
		header(w, "column", "type", "")
	}
	kind, _, _ := strings.Cut(m[2], " CODEC")
	row(w, code(m[1]), code(strings.TrimSpace(kind)), note)
	return false
}

func viewColumn(w *strings.Builder, line string, first bool) bool {
	body, note, _ := strings.Cut(line, "--")
	m := columnOfView.FindStringSubmatch(strings.TrimSpace(body))
	if m == nil {
		return first
	}
	if first {
		header(w, "column", "")
	}
	row(w, code(m[1]), note)
	return false
}
