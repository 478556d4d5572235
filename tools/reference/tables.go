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
	createTable = regexp.MustCompile(`(?i)^CREATE (?:OR REPLACE )?(TABLE|VIEW)(?: IF NOT EXISTS)?\s+(?:\{\{db\}\}\.|\{\{api\}\}\.)?(\w+)`)
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
	statement := &strings.Builder{}
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if m := createTable.FindStringSubmatch(trimmed); m != nil {
			kind, first = strings.ToLower(m[1]), true
			fmt.Fprintf(w, "### %s `%s`\n\n%s\n\n", kind, m[2], strings.Join(above, "\n"))
			above = nil
			statement.Reset()
			if _, rest, found := strings.Cut(trimmed, " AS"); found { // SELECT may stand on the same line
				statement.WriteString(rest + "\n")
			}
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
			statement.WriteString(strip(line) + "\n")
		}
		if strings.HasSuffix(strip(trimmed), ";") {
			switch kind {
			case "view":
				viewColumns(w, statement.String())
				w.WriteString("\n")
			case "table", "settings":
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

// viewColumns writes the names a view's outermost SELECT gives its columns.
func viewColumns(w *strings.Builder, statement string) {
	names := outputNames(statement)
	if len(names) == 0 {
		return
	}
	for i, name := range names {
		names[i] = code(name)
	}
	fmt.Fprintf(w, "Columns: %s.\n", strings.Join(names, ", "))
}

// outputNames takes the list between the outermost SELECT and its FROM apart; what stands in brackets,
// in quotes or in a subquery is not of that level. A column without AS is named like its last part.
func outputNames(statement string) []string {
	var names []string
	depth, quoted, listing := 0, false, false
	item := &strings.Builder{}
	take := func() {
		words := strings.Fields(item.String())
		if len(words) > 0 {
			last := words[len(words)-1]
			names = append(names, last[strings.LastIndexByte(last, '.')+1:])
		}
		item.Reset()
	}
	for _, word := range tokens.FindAllString(statement, -1) {
		switch {
		case word == "'":
			quoted = !quoted
		case quoted:
		case word == "(" || word == "[":
			depth++
		case word == ")" || word == "]":
			depth--
		case depth > 0:
		case strings.EqualFold(word, "SELECT"):
			listing = true
		case !listing:
		case strings.EqualFold(word, "DISTINCT"):
		case strings.EqualFold(word, "FROM"):
			take()
			return names
		case word == ",":
			take()
		default:
			item.WriteString(" " + word)
		}
	}
	return nil
}

// tokens are words with their dots, and the signs that matter for nesting.
var tokens = regexp.MustCompile(`[\w.]+|[()\[\],']|[^\w\s]`)
