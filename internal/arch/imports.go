package arch

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// importTable says which of our packages a package under internal/ may import. A package that is not
// here may not exist: adding one is a decision, taken in this table. Test files may import anything of
// ours, because tests look at the result from outside; schema (embedded files) is open to all.
//
// The cuts that carry meaning: ingest never sees the warehouse (it must answer while ClickHouse is
// down), the reporter never sees the log (it writes no usage), usage and directory import nothing of
// ours (they are arithmetic, and stay testable as such).
var importTable = map[string][]string{
	"usage":      {},
	"directory":  {},
	"problem":    {},
	"access":     {},
	"faultpoint": {},
	"tlsfile":    {},
	"telemetry":  {},
	"listing":    {},
	"config":     {"telemetry"},
	"client":     {"usage", "problem"},
	"importer":   {"usage", "client"},
	"eventlog":   {"usage", "faultpoint", "telemetry", "tlsfile"},
	"control":    {"telemetry", "eventlog", "access"},
	"ingest":     {"usage", "eventlog", "control", "problem", "faultpoint", "config", "telemetry", "tlsfile"},
	"warehouse":  {"usage", "faultpoint", "telemetry", "tlsfile"},
	"register":   {"directory", "warehouse", "faultpoint"},
	"aggregator": {"usage", "eventlog", "warehouse", "register", "audit", "control", "faultpoint", "config", "telemetry"},
	"report":     {"usage", "directory", "warehouse", "register"}, // register: for reporttest
	"audit":      {"usage", "eventlog", "warehouse", "telemetry"},
	"months":     {"usage", "report", "warehouse", "control", "audit", "faultpoint", "telemetry"},
	"reporter":   {"usage", "directory", "warehouse", "report", "months", "audit", "control", "access", "faultpoint", "problem", "config", "telemetry"},
	"rebuild":    {"usage", "eventlog", "warehouse", "aggregator", "audit", "report", "months", "control", "faultpoint"},
	"repair":     {"warehouse", "audit", "rebuild"},
	"localstack": {"eventlog", "control", "telemetry"},
	"backup":     {"eventlog"},
	"demo":       {"usage", "client"},
	"doctor":     {"eventlog", "warehouse", "control", "client"},
	"stack":      {"eventlog", "warehouse", "control", "access", "localstack", "client"},
	"arch":       {},
}

// libraries are the third-party modules that belong to some packages: the rest of the house speaks
// our own words. Tests and the load generator stand outside.
var libraries = []struct {
	prefix string
	users  []string
	why    string
}{
	{"github.com/nats-io/", []string{"eventlog", "control", "localstack"}, "the log and the control state are the only ways to NATS"},
	{"github.com/ClickHouse/", []string{"warehouse", "localstack"}, "every query and insert lives in the warehouse, beside its rules"},
	{"go.opentelemetry.io/", []string{"telemetry"}, "what a span may hold is decided in one place"},
	{"github.com/ebitengine/purego", []string{"localstack"}, "only the engine's child process loads a foreign library"},
}

// bannedNames say where code was put, not what it is.
var bannedNames = []string{
	"util", "utils", "common", "helper", "helpers", "model", "models", "types", "pkg", "service", "services",
	"adapter", "adapters", "misc", "shared", "base", "lib", "core", "interfaces",
}

func (c *checker) imports(f *file) {
	owner, inside := strings.CutPrefix(f.dir, "internal/")
	owner, _, _ = strings.Cut(owner, "/")
	if inside {
		if _, known := importTable[owner]; !known {
			c.add(f.path, 0, "import", "internal/%s is not in the table of internal/arch/imports.go; known: %s",
				owner, strings.Join(slices.Sorted(maps.Keys(importTable)), ", "))
			return
		}
	}
	for _, spec := range f.syntax.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil || f.test {
			continue
		}
		for _, library := range libraries {
			if strings.HasPrefix(target, library.prefix) && (inside || strings.HasPrefix(f.dir, "cmd/")) && !slices.Contains(library.users, owner) {
				c.report(f, spec.Pos(), "import", "%s is for %s: %s", target, strings.Join(library.users, ", "), library.why)
			}
		}
		ours, internal := strings.CutPrefix(target, Module+"/internal/")
		switch {
		case internal && inside:
			ours, _, _ = strings.Cut(ours, "/")
			if ours != owner && !slices.Contains(importTable[owner], ours) {
				c.report(f, spec.Pos(), "import", "internal/%s may not import internal/%s; allowed: %s", owner, ours, strings.Join(importTable[owner], ", "))
			}
		case strings.HasPrefix(target, Module+"/cmd/"), strings.HasPrefix(target, Module+"/test/"), strings.HasPrefix(target, Module+"/bench"):
			if inside || strings.HasPrefix(f.dir, "cmd/") {
				c.report(f, spec.Pos(), "import", "%s is outermost: nothing of the product imports it", strings.TrimPrefix(target, Module+"/"))
			}
		}
	}
}
