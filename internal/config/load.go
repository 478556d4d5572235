package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// siblings are the sections that may stand in a shared file or environment without belonging to the
// service that reads it; their own service checks them.
var siblings = []string{"ingest", "aggregator", "reporter", "up", "nats", "clickhouse", "log"}

// Bind declares one flag for every field of cfg, a pointer to a struct, and --config.
func Bind(flags *pflag.FlagSet, cfg any) {
	if flags.Lookup("config") == nil {
		flags.String("config", "", "YAML file with settings")
	}
	for _, f := range Reference(cfg) {
		name := f.Type
		if name == "list" {
			name = "strings"
		}
		flags.Var(&flagValue{kind: name, text: f.Default}, f.Flag, f.Help)
		if f.Type == "bool" {
			flags.Lookup(f.Flag).NoOptDefVal = "true"
		}
		if f.alias != "" {
			flags.Var(&flagValue{kind: name}, f.alias, f.Help)
			_ = flags.MarkHidden(f.alias) // only fails for a flag that is not declared
		}
	}
}

// flagValue keeps the text of a flag; Load parses it, so that a bad one is reported with all others.
type flagValue struct {
	kind, text string
	given      []string
}

func (v *flagValue) String() string     { return v.text }
func (v *flagValue) Type() string       { return v.kind }
func (v *flagValue) Set(s string) error { v.given = append(v.given, s); v.text = s; return nil }

// setting is one value on its way into a field.
type setting struct {
	where  string
	values []string
}

// Load fills cfg, a pointer to a struct that holds the defaults, from the file that --config (or
// COUNTINGHOUSE_CONFIG) names, the environment and the flags. The error is a *Faults.
func Load(flags *pflag.FlagSet, section string, cfg any) error {
	return load(flags, section, cfg, os.Environ())
}

func load(flags *pflag.FlagSet, section string, cfg any, environ []string) error {
	var faults Faults
	list := Reference(cfg)
	set := map[string]setting{}

	path := ""
	for _, kv := range environ {
		if p, ok := strings.CutPrefix(kv, envPrefix+"CONFIG="); ok {
			path = p
		}
	}
	if f := flags.Lookup("config"); f != nil && f.Changed {
		path = f.Value.String()
	}
	if path != "" {
		fromFile(path, section, list, set, &faults)
	}
	fromEnviron(environ, section, list, set, &faults)
	fromFlags(flags, list, set)

	for _, f := range list {
		if s, ok := set[f.Key]; ok {
			if err := f.set(s.values); err != nil {
				faults.add(s.where, "%v", err)
			}
		}
	}
	validate(reflect.ValueOf(cfg).Elem(), section, &faults) // a field with a fault holds what it held before
	if len(faults.List) > 0 {
		return &faults
	}
	return nil
}

func fromFlags(flags *pflag.FlagSet, list []Field, set map[string]setting) {
	for _, f := range list {
		for _, name := range []string{f.alias, f.Flag} {
			flag := flags.Lookup(name)
			if name == "" || flag == nil || !flag.Changed {
				continue
			}
			v, ok := flag.Value.(*flagValue)
			if !ok {
				continue
			}
			values := v.given
			if f.Type != "list" { // the last one wins, as flags do everywhere
				values = values[len(values)-1:]
			}
			set[f.Key] = setting{"flag --" + name, values}
		}
	}
}

func fromEnviron(environ []string, section string, list []Field, set map[string]setting, faults *Faults) {
	environ = slices.Clone(environ)
	sort.Strings(environ)
	names := map[string]Field{}
	var shared []string // COUNTINGHOUSE_NATS__URL is weaker than COUNTINGHOUSE_INGEST__NATS__URL
	for _, f := range list {
		names[f.Env(section)] = f
		if strings.Contains(f.Key, ".") {
			names[envPrefix+envName(f.Key)] = f
			shared = append(shared, envPrefix+envName(f.Key))
		}
	}
	own := map[string]bool{}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || !strings.Contains(rest, "__") {
			if ours && strings.HasPrefix(rest, strings.ToUpper(section)+"_") {
				faults.add(name, "unknown; sections are separated by two underscores")
			}
			continue
		}
		f, ok := names[name]
		if !ok {
			base, isFile := strings.CutSuffix(name, "_FILE")
			if f, ok = names[base]; isFile && ok && f.Secret {
				text, err := os.ReadFile(value)
				if err != nil {
					faults.add(name, "read secret: %v", unwrapPath(err))
					continue
				}
				name, value = base, strings.TrimRight(string(text), "\r\n")
			} else {
				ok = false
			}
		}
		if !ok {
			head, _, _ := strings.Cut(rest, "__")
			head = strings.ToLower(head)
			if head == section || !slices.Contains(siblings, head) || hasSection(list, head) {
				faults.add(name, "unknown setting")
			}
			continue
		}
		if slices.Contains(shared, name) && own[f.Key] {
			continue
		}
		own[f.Key] = !slices.Contains(shared, name)
		set[f.Key] = setting{name, []string{value}}
	}
}

func hasSection(list []Field, name string) bool {
	return slices.ContainsFunc(list, func(f Field) bool { return strings.HasPrefix(f.Key, name+".") })
}

func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return err
}

func fromFile(path, section string, list []Field, set map[string]setting, faults *Faults) {
	text, err := os.ReadFile(path)
	if err != nil {
		faults.add("--config", "%v", unwrapPath(err))
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		faults.add(path, "%v", err)
		return
	}
	if len(doc.Content) == 0 {
		return // an empty file
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		faults.add(path, "want sections such as \"%s:\"", section)
		return
	}
	byKey := map[string]Field{}
	for _, f := range list {
		byKey[f.Key] = f
	}
	file := yamlFile{path: path, fields: byKey, set: set, faults: faults}
	var own *yaml.Node
	seen := map[string]bool{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		file.unique(seen, k, k.Value)
		switch {
		case k.Value == section:
			own = v
		case hasSection(list, k.Value):
			file.walk(v, k.Value+".")
		case !slices.Contains(siblings, k.Value):
			fault := "unknown section"
			if _, ours := byKey[k.Value]; ours {
				fault += "; it is a setting of " + section + ": write it below \"" + section + ":\""
			}
			faults.add(fmt.Sprintf("%s:%d %s", path, k.Line, k.Value), "%s", fault)
		}
	}
	if own != nil { // last: the service's own section wins over a shared one
		file.walk(own, "")
	}
}

type yamlFile struct {
	path   string
	fields map[string]Field
	set    map[string]setting
	faults *Faults
}

func (y yamlFile) unique(seen map[string]bool, k *yaml.Node, key string) {
	if seen[k.Value] {
		y.faults.add(fmt.Sprintf("%s:%d %s", y.path, k.Line, key), "given twice")
	}
	seen[k.Value] = true
}

func (y yamlFile) walk(n *yaml.Node, prefix string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // an empty section
	}
	if n.Kind != yaml.MappingNode {
		y.faults.add(fmt.Sprintf("%s:%d %s", y.path, n.Line, strings.TrimSuffix(prefix, ".")), "want a section")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		where := fmt.Sprintf("%s:%d %s", y.path, k.Line, key)
		y.unique(seen, k, key)
		f, known := y.fields[key]
		switch {
		case known && v.Kind == yaml.ScalarNode:
			y.set[f.Key] = setting{where, []string{v.Value}}
		case known && v.Kind == yaml.SequenceNode && f.Type == "list":
			values := []string{}
			for _, e := range v.Content {
				values = append(values, e.Value)
			}
			y.set[f.Key] = setting{where, values}
		case known:
			y.faults.add(where, "want a %s", f.Type)
		case v.Kind == yaml.MappingNode && y.isSection(key):
			y.walk(v, key+".")
		default:
			y.faults.add(where, "unknown setting")
		}
	}
}

func (y yamlFile) isSection(key string) bool {
	for k := range y.fields {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// validate asks the sections, then cfg itself: Validate() error, where a joined error is many faults,
// or Validate() []error.
func validate(v reflect.Value, where string, faults *Faults) {
	for i := range v.NumField() {
		sf := v.Type().Field(i)
		if sf.IsExported() && kindOf(sf) == "section" && sf.Tag.Get("koanf") != "-" {
			name, _, _ := strings.Cut(sf.Tag.Get("koanf"), ",")
			if name == "" {
				name = snake(sf.Name)
			}
			validate(v.Field(i), where+"."+name, faults)
		}
	}
	var found []error
	switch c := v.Addr().Interface().(type) {
	case interface{ Validate() []error }:
		found = c.Validate()
	case interface{ Validate() error }:
		err := c.Validate()
		if err == nil {
			return
		}
		found = []error{err}
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			found = many.Unwrap()
		}
	}
	for _, err := range found {
		faults.add(where, "%v", err)
	}
}
