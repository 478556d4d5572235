package arch

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	fileLines = 600 // a file one person can hold; the p90 to aim at is 400
	mainLines = 60  // main parses, starts, waits
)

func (c *checker) length(f *file) {
	if f.lines > fileLines {
		c.add(f.path, f.lines, "length", "%d lines; no file written by hand is over %d", f.lines, fileLines)
	}
	if service := strings.TrimPrefix(f.dir, "cmd/"); f.syntax.Name.Name == "main" && !f.test && f.lines > mainLines &&
		slices.Contains([]string{"ingest", "aggregator", "reporter"}, service) {
		c.add(f.path, f.lines, "length", "%d lines; the main of a service has at most %d", f.lines, mainLines)
	}
}

// comment: every package states its contract.
func (c *checker) comment(dir string, files []*file) {
	code := slices.DeleteFunc(slices.Clone(files), func(f *file) bool { return f.test })
	if len(code) == 0 {
		return
	}
	for _, f := range code {
		if f.syntax.Doc != nil && len(f.syntax.Doc.Text()) > 40 {
			return
		}
	}
	c.add(code[0].path, 1, "comment", "package %s has no comment that says what it guarantees", path.Base(dir))
}

// banned calls: by import path and name, with where they are banned and why.
var bannedCalls = []struct {
	pkg   string
	names []string
	where func(f *file) bool
	rule  string
	why   string
}{
	{"time", []string{"Sleep"}, func(f *file) bool { return f.test }, "sleep", "wait for a condition, never for a duration; time itself is synctest's"},
	{"testing", []string{"Short"}, func(f *file) bool { return f.test }, "skip", "a test that may be left out proves nothing"},
	{"os", []string{"Exit"}, product, "exit", "only main ends the process"},
	{"log", []string{"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Print", "Printf", "Println"}, product, "log", "zap, passed in"},
	{"fmt", []string{"Print", "Printf", "Println"}, product, "print", "a package writes to the io.Writer it was given, or logs"},
	{"context", []string{"Background", "TODO"}, product, "background", "the caller's context, or context.WithoutCancel for work that must outlive it"},
	{"os/signal", []string{"Notify", "NotifyContext"}, belowService, "signal", "only main, and config.Service for it, listens to signals"},
}

// product is code under internal/ that is not a test.
func product(f *file) bool { return !f.test && strings.HasPrefix(f.dir, "internal/") }

// belowService leaves out internal/config, whose Service is the main of every command.
func belowService(f *file) bool { return product(f) && f.dir != "internal/config" }

func (c *checker) calls(f *file) {
	names := map[string]string{} // local name → import path
	for _, spec := range f.syntax.Imports {
		target := strings.Trim(spec.Path.Value, `"`)
		name := path.Base(target)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = target
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				c.report(f, n.Pos(), "init", "nothing happens before main; say it in a constructor")
			}
		case *ast.CallExpr:
			c.skip(f, n, names)
		case *ast.SelectorExpr:
			c.selector(f, n, names)
		}
		return true
	})
}

// skip finds calls only: a field may have the name.
func (c *checker) skip(f *file, n *ast.CallExpr, names map[string]string) {
	called, ok := n.Fun.(*ast.SelectorExpr)
	if ok && f.test && names["testing"] != "" && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, called.Sel.Name) {
		c.report(f, n.Pos(), "skip", "a missing server is an error that says how to get it, never a skip")
	}
}

func (c *checker) selector(f *file, n *ast.SelectorExpr, names map[string]string) {
	x, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	if x.Obj != nil { // a variable shadows the package
		return
	}
	for _, ban := range bannedCalls {
		if names[x.Name] == ban.pkg && slices.Contains(ban.names, n.Sel.Name) && ban.where(f) {
			c.report(f, n.Pos(), ban.rule, "%s.%s: %s", x.Name, n.Sel.Name, ban.why)
		}
	}
}

// exact packages hold quantities and money: no float between the wire and the CSV.
var exact = []string{
	"usage", "client", "importer", "eventlog", "aggregator", "warehouse", "directory", "register", "report", "months", "reporter", "audit", "rebuild", "repair",
}

func (c *checker) floats(f *file) {
	owner, inside := strings.CutPrefix(f.dir, "internal/")
	owner, _, _ = strings.Cut(owner, "/")
	if f.test || !inside || !slices.Contains(exact, owner) {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && toMetric(call) {
			return false
		}
		if id, ok := n.(*ast.Ident); ok && (id.Name == "float64" || id.Name == "float32") {
			c.report(f, id.Pos(), "float", "%s in a package that holds quantities", id.Name)
		}
		return true
	})
}

// toMetric reports a call such as x.metrics.Rows.WithLabelValues(…).Add(float64(n)): Prometheus takes
// floats, and nothing comes back from there.
func toMetric(call *ast.CallExpr) bool {
	fn, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains([]string{"Add", "Set", "Sub", "Observe"}, fn.Sel.Name) {
		return false
	}
	found := false
	ast.Inspect(fn.X, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.Name == "metrics"
		return !found
	})
	return found
}

var (
	star    = regexp.MustCompile(`(?i)\bselect\s+(distinct\s+)?\*`)
	unnamed = regexp.MustCompile("(?i)\\binsert\\s+into\\s+[\\w.{}`]+\\s+(values|select|format)\\b")
)

// sql: a column that is added must not change what an old statement means.
func (c *checker) sql(name, text string) {
	for i, line := range strings.Split(text, "\n") {
		code, _, _ := strings.Cut(line, "--")
		if star.MatchString(code) {
			c.add(name, i+1, "sql", "name the columns, never *")
		}
		if unnamed.MatchString(code) {
			c.add(name, i+1, "sql", "name the columns of an INSERT")
		}
	}
}

// queries are the SQL texts in string literals of product code.
func (c *checker) queries(f *file) {
	if !product(f) || strings.HasPrefix(f.dir, "internal/arch") {
		return
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && (star.MatchString(lit.Value) || unnamed.MatchString(lit.Value)) {
			c.report(f, lit.Pos(), "sql", "name the columns, never *")
		}
		return true
	})
}

// foreign are places that exist on one machine only, or that only a package manager should know.
// The words are split so that this file does not find itself.
var foreign = regexp.MustCompile(`(^|[^\w.-])(/` + `work/|/` + `farm/|/` + `root/|/` + `home/\w|/` + `tmp/[a-z]+/)|registry\.` + `npmjs|proxy\.` + `golang\.org|sum\.` + `golang\.org|deb\.` + `debian\.org`)

func (c *checker) places(name string, content []byte) {
	if name == "go.sum" {
		return
	}
	for i, line := range strings.Split(string(content), "\n") {
		if match := foreign.FindString(line); match != "" {
			c.add(name, i+1, "place", "%q is a place of one machine or a registry's host; say it relatively, or leave it to the package manager", match)
		}
	}
}
